"""Compiling without a GPU and reading the machine code: on kernels made to have what is looked for."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from alikit.kernels import aot, binary, elf, plan, sass
from alikit.kernels.launch import Launch, jit, tl

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")


@dataclasses.dataclass(frozen=True)
class Sizes:
    K: int
    dot: str
    BM: int = 64

    @property
    def steps(self) -> int:
        return self.K // 32


@jit
def conv_like(a_ptr, b_ptr, y_ptr, G: tl.constexpr, BN: tl.constexpr):
    BM: tl.constexpr = G.BM
    m, n, k = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, 32)
    acc = tl.zeros((BM, BN), tl.float32)
    for step in range(G.steps):
        a = tl.load(a_ptr + m[:, None] * G.K + step * 32 + k[None, :])
        b = tl.load(b_ptr + (step * 32 + k)[:, None] * BN + n[None, :])
        acc = tl.dot(a, b, acc, input_precision="ieee" if G.dot == "fp32" else "tf32")
    tl.store(y_ptr + m[:, None] * BN + n[None, :], acc)


def matmul(dot: str, columns: int, unaligned: tuple[str, ...] = ()) -> Launch:
    kind = "*bf16" if dot == "bf16" else "*fp32"
    signature = (("a_ptr", kind), ("b_ptr", kind), ("y_ptr", "*fp32"), ("G", "constexpr"), ("BN", "constexpr"))
    constants = (("G", Sizes(256, dot)), ("BN", columns))
    return Launch(conv_like, (1, 1, 1), signature, constants, unaligned, 4, 3)


LONG = (("G", Sizes(1 << 14, "bf16")), ("BN", 64))  # a loop that nobody unrolls


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


@pytest.mark.slow
def test_a_good_kernel_has_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    for arch, name in ((80, "HMMA"), (90, "HGMMA")):
        row = aot.row(matmul("bf16", 64), arch)
        assert row.faults == []
        assert set(row.facts.tensor) == {name}
        assert set(row.facts.copies) == {16}
        assert row.facts.registers > 16
        assert row.facts.shared > 1024
        assert row.facts.size > 1024
    monkeypatch.setattr(aot, "_read", lambda *_: pytest.fail("read again"))
    assert aot.row(matmul("bf16", 64), arch) == row


@pytest.mark.slow
def test_narrow_copies_and_missing_tensor_cores_are_faults() -> None:
    (narrow,) = aot.row(matmul("bf16", 64, ("a_ptr",)), 80).faults
    assert "16 bytes" in narrow
    (narrow,) = aot.row(matmul("bf16", 64, ("a_ptr",))._replace(constants=LONG), 80).faults
    assert "16 bytes" in narrow
    assert aot.row(matmul("bf16", 64)._replace(constants=LONG), 80).faults == []
    plain = aot.examine(matmul("fp32", 32), 80)
    assert plain.tensor == {}
    assert aot.row(matmul("fp32", 32), 80).faults == []
    assert "no HMMA" in sass.faults(plain, 80, "tf32", set())


@pytest.mark.slow
def test_spills_and_too_much_shared_memory_are_faults() -> None:
    facts = aot.examine(matmul("fp32", 256), 86)  # 64 x 256 sums in 128 threads, and the operands beside them
    assert facts.stack > 0
    assert facts.spills > 0
    assert "local memory" in sass.faults(facts, 86, "fp32", set())[0]
    fits = facts._replace(stack=0, spills=0, shared=99 << 10)
    assert sass.faults(fits, 86, "fp32", set()) == []
    (fault,) = sass.faults(fits._replace(shared=(99 << 10) + 1), 86, "fp32", set())
    assert "shared" in fault
    assert elf.frame_bytes(aot.launch.compiled(matmul("fp32", 256), 86, lines=False).cubin) == facts.stack


class Made(NamedTuple):
    """What Triton says of a kernel whose cubin is all frame."""

    asm: dict[str, Any]
    metadata: Any = SimpleNamespace(
        global_scratch_size=0, profile_scratch_size=0, num_ctas=1, name="k", shared=0, num_warps=4
    )


@pytest.mark.parametrize(
    ("frames", "tried", "kept"), [((0, 9, 9), 1, 0), ((8, 0, 9), 2, 0), ((8, 16, 0), 3, 0), ((8, 16, 24), 3, 8)]
)
def test_what_spills_is_compiled_again(monkeypatch: Any, frames: tuple[int, ...], tried: int, kept: int) -> None:
    options: list[dict[str, Any]] = []

    def ask(record: Launch, arch: int, *, lines: bool, **more: Any) -> Made:
        options.append(more)
        return Made({"cubin": frames[len(options) - 1], "ptx": ".entry k(.param .u64 .ptr .global .align 1 k_0)"})

    monkeypatch.setattr(aot.launch, "ask_triton", ask)
    monkeypatch.setattr(elf, "frame_bytes", lambda cubin: cubin)
    record = Launch(conv_like, (1, 1, 1), (), (), (), 4, 2)
    assert aot.launch._compile(record, 80, False).cubin == kept
    assert [more.get("ptx_options", "").rpartition("=")[2] for more in options] == ["", "3", "8"][:tried]


def test_what_is_no_cubin_has_no_frame() -> None:
    for content in (b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"text" * 40):
        with pytest.raises(ValueError, match="no cubin"):
            elf.frame_bytes(content)


def test_operands_come_by_16_bytes_or_as_their_pixels_allow() -> None:
    """Narrow loads are forgiven only where pixels lie so, and never of both operands."""
    facts = sass.Facts(40, 0, 0, 1024, {"HMMA": 4}, {16: 2}, {}, {}, {16: 4, 4: 2}, 5000)
    assert sass.faults(facts, 80, "tf32", {16, 4}) == []
    for fed, widths in (({16: 4, 4: 2}, {16}), ({16: 4, 4: 2}, {16, 8}), ({4: 6}, {16, 4}), ({}, {16})):
        (fault,) = sass.faults(facts._replace(fed=fed), 80, "tf32", widths)
        assert "16 bytes" in fault


def test_only_where_pixels_lie_so_may_operands_come_narrow() -> None:
    """Weights of two or three channels that Adam keeps in float32, and the gradient of one logit."""
    for step, launches in plan.loads(plan.FILE.read_text()).items():
        for record in launches:
            widths = aot.widths_of(record)
            if not record.name.startswith(("conv", "pointwise")):
                assert widths == set()
            elif record.name == "pointwise_window":
                assert widths == {16, 4}
            elif widths != {16}:
                product = dict(record.constants)["G"]
                assert product.pitch == 1 or (step.precision == "tf32" and product.w_pitch in (2, 3))
                assert widths == {16, 8 if product.w_pitch == 2 else 4}


def steps() -> dict[plan.Step, list[Launch]]:
    few, many = matmul("bf16", 64), matmul("bf16", 32)
    return {
        plan.Step("b", "bf16", 90): [few, many, few._replace(grid=(7, 1, 1))],
        plan.Step("a", "bf16", 80): [few],
        plan.Step("b", "bf16", 80): [
            few._replace(constants=(("G", Sizes(64, "bf16")), ("BN", (1, 2.5, "x", None)))),
            few,
        ],
    }


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and records are found by name, also those of this file."""
    find = plan._find
    monkeypatch.setattr(plan, "_find", lambda name: globals().get(name.partition(":")[2]) or find(name))


def test_a_plan_survives_its_file(named: None) -> None:
    text = plan.dumps(steps())
    found = plan.loads(text)
    assert plan.dumps(found) == text
    assert plan.dumps(dict(reversed(steps().items()))) == text
    assert {step: len(launches) for step, launches in found.items()} == {s: min(2, len(v)) for s, v in steps().items()}
    (launch,) = found[plan.Step("a", "bf16", 80)]
    assert launch == matmul("bf16", 64)
    assert len(aot.distinct(found)) == 4


def test_real_names_are_found_again() -> None:
    assert plan._find(plan._name(Launch)) is Launch


@pytest.fixture
def plan_file(tmp_path: Path, named: None) -> Path:
    good, bad = matmul("bf16", 64), matmul("bf16", 64, ("a_ptr",))
    path = tmp_path / "plan.json"
    path.write_text(plan.dumps({plan.Step("good", "bf16", 80): [good], plan.Step("bad", "bf16", 80): [good, bad]}))
    return path


def test_the_command_names_what_is_wrong(plan_file: Path, capsys: Any) -> None:
    assert aot.main(["--plan", str(plan_file), "--jobs", "1"]) == 1
    text = capsys.readouterr().out
    assert "2 kernels, 1 with faults" in text
    assert "! conv_like" in text
    assert aot.main(["--plan", str(plan_file), "--jobs", "1", "--preset", "good", "--arch", "sm_80"]) == 0
    assert "unaligned:a_ptr" not in capsys.readouterr().out
    assert aot.main(["--plan", str(plan_file), "--jobs", "1", "--arch", "sm_90"]) == 2
    assert aot.main(["--plan", str(plan_file) + "?"]) == 2


def test_what_is_shipped_is_found_by_its_key(plan_file: Path, tmp_path: Path) -> None:
    todo = aot.distinct(plan.loads(plan_file.read_text()))
    sizes = aot.ship(todo, tmp_path / "cubins")
    assert set(sizes) == {80}
    for record, arch in todo:
        found = binary.shipped(aot.launch_key(record, arch), arch, tmp_path / "cubins")
        assert found is not None
        assert found == aot.launch.compiled(record, arch, lines=False)
    before = (tmp_path / "cubins" / "sm_80.zip").read_bytes()
    aot.ship(reversed(todo), tmp_path / "cubins")
    assert (tmp_path / "cubins" / "sm_80.zip").read_bytes() == before
