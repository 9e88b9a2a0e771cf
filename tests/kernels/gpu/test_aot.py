"""Compiling without a GPU and reading the machine code: on kernels made to have what is looked for."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from alikit.kernels import aot, binary, disassembly, elf, findings, plan, sass
from alikit.kernels.launch import Launch, jit, tl
from alikit.kernels.rows import OPERANDS, widths_of

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")


@dataclasses.dataclass(frozen=True)
class Sizes:
    K: int
    dot: str
    BM: int = 64
    pitch: int = 64
    w_pitch: int = 64

    @property
    def steps(self) -> int:
        return self.K // 32


@jit
def conv_like(a_ptr, w_ptr, y_ptr, G: tl.constexpr, BN: tl.constexpr):
    BM: tl.constexpr = G.BM
    m, n, k = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, 32)
    acc = tl.zeros((BM, BN), tl.float32)
    for step in range(G.steps):
        a = tl.load(a_ptr + m[:, None] * G.K + step * 32 + k[None, :])
        b = tl.load(w_ptr + (step * 32 + k)[:, None] * BN + n[None, :])
        acc = tl.dot(a, b, acc, input_precision="ieee" if G.dot == "fp32" else "tf32")
    tl.store(y_ptr + m[:, None] * BN + n[None, :], acc)


def matmul(dot: str, columns: int, unaligned: tuple[str, ...] = ()) -> Launch:
    kind = "*bf16" if dot == "bf16" else "*fp32"
    signature = (("a_ptr", kind), ("w_ptr", kind), ("y_ptr", "*fp32"), ("G", "constexpr"), ("BN", "constexpr"))
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
@pytest.mark.parametrize("arch", [80, 90])
def test_kernels_that_are_disassembled_together_read_as_apart(arch: int) -> None:
    records = [matmul("bf16", 32), matmul("fp32", 32), matmul("bf16", 64)._replace(constants=LONG)]
    made = [aot.launch.compiled(record, arch, lines=False) for record in records]
    for one, text in zip(made, disassembly.listings(made, arch), strict=True):
        apart = disassembly.output("cuobjdump", "--dump-resource-usage", "--dump-sass", content=one.cubin)
        places = dict(zip(elf.parameter_places(one.cubin, one.name), "abcd", strict=False))
        assert sass.read(text, 0, 0, places) == sass.read(apart, 0, 0, places)
        assert text.count(";") == apart.count(";") > 0, "as many instructions"
    assert disassembly.listings([], arch) == []


@pytest.mark.slow
def test_narrow_copies_and_missing_tensor_cores_are_faults() -> None:
    for name in ("a_ptr", "w_ptr"):
        (narrow,) = aot.row(matmul("bf16", 64, (name,)), 80).faults
        assert f"{name} is not brought by 16 bytes" in narrow
        (narrow,) = aot.row(matmul("bf16", 64, (name,))._replace(constants=LONG), 80).faults
        assert f"{name} is not brought by 16 bytes" in narrow
    assert aot.row(matmul("bf16", 64)._replace(constants=LONG), 80).faults == []
    (plain,) = aot.examine([matmul("fp32", 32)], 80)
    assert plain.tensor == {}
    assert aot.row(matmul("fp32", 32), 80).faults == []
    assert "no HMMA" in sass.faults(plain, 80, "tf32", {})


@pytest.mark.slow
def test_a_narrow_activation_is_seen_where_weights_may_be_narrow() -> None:
    """A first layer of three channels in tf32: its weights come by 4 bytes, its images must not."""
    launches = plan.loads(plan.FILE.read_text())[plan.Step("svhn", "tf32", 80)]
    record = next(r for r in launches if r.name == "conv_window" and widths_of(r)["w_ptr"] == 4)
    assert aot.row(record, 80).faults == []
    (fault,) = aot.row(record._replace(unaligned=("a_ptr",)), 80).faults
    assert "a_ptr is not brought by 16 bytes at once: {4:" in fault


@pytest.mark.slow
def test_spills_and_too_much_shared_memory_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aot.launch, "_against_spills", lambda _: ())  # which would take long here, and in vain
    (facts,) = aot.examine([matmul("fp32", 256)], 86)  # 64 x 256 sums in 128 threads, and the operands beside them
    assert facts.stack > 0
    assert facts.spills > 0
    assert "local memory" in sass.faults(facts, 86, "fp32", {})[0]
    fits = facts._replace(stack=0, spills=0, shared=99 << 10)
    assert sass.faults(fits, 86, "fp32", {}) == []
    (fault,) = sass.faults(fits._replace(shared=(99 << 10) + 1), 86, "fp32", {})
    assert "shared" in fault
    assert elf.frame_bytes(aot.launch.compiled(matmul("fp32", 256), 86, lines=False).cubin) == facts.stack


class Made(NamedTuple):
    """What Triton says of a kernel whose cubin is all frame."""

    asm: dict[str, Any]
    metadata: Any = SimpleNamespace(
        global_scratch_size=0, profile_scratch_size=0, num_ctas=1, name="k", shared=0, num_warps=4
    )


SPILLS = [
    ((0, 9, 9), 60, [""], 0),
    ((8, 0, 9), 60, ["", "3"], 0),
    ((8, 16, 0), 60, ["", "3", "8"], 0),
    ((8, 16, 24, 0), 60, ["", "3", "8", "64"], 0),
    ((8, 16, 24, 4, 0), 56, ["", "3", "8", "64", "72"], 0),
    ((8, 16, 24, 4, 12), 240, ["", "3", "8", "248"], 4),
    ((8, 16, 24), 255, ["", "3", "8"], 8),
]


@pytest.mark.parametrize(("frames", "registers", "tried", "kept"), SPILLS)
def test_what_spills_is_compiled_again(
    monkeypatch: Any, frames: tuple[int, ...], registers: int, tried: list[str], kept: int
) -> None:
    options: list[dict[str, Any]] = []

    def ask(record: Launch, arch: int, *, lines: bool, **more: Any) -> Made:
        options.append(more)
        return Made({"cubin": frames[len(options) - 1], "ptx": ".entry k(.param .u64 .ptr .global .align 1 k_0)"})

    monkeypatch.setattr(aot.launch, "ask_triton", ask)
    monkeypatch.setattr(elf, "frame_bytes", lambda cubin: cubin)
    monkeypatch.setattr(elf, "registers", lambda cubin: registers)
    record = Launch(conv_like, (1, 1, 1), (), (), (), 4, 2)
    assert aot.launch._compile(record, 80, False).cubin == kept
    words = [str(more.get("maxnreg", more.get("ptx_options", ""))) for more in options]
    assert [word.rpartition("=")[2] for word in words] == tried


@pytest.mark.slow
def test_a_bound_on_registers_ends_what_their_weight_does_not() -> None:
    """The last layer of a D that learns ten classes: 48 registers of 255, and one of them spilled all the same.

    It ends with 56. Triton 3.9 takes 71; without a bound there would be 255.
    """
    launches = plan.loads(plan.FILE.read_text())[plan.Step("cifar10-labels", "bf16", 89)]
    (record,) = (r for r in launches if r.name == "conv_window" and dict(r.constants)["G"].channels == 10)
    assert elf.frame_bytes(aot.launch.ask_triton(record, 89).asm["cubin"]) <= 8
    row = aot.row(record, 89)
    assert row.faults == []
    assert row.facts.registers == elf.registers(aot.launch.compiled(record, 89, lines=False).cubin) <= 80


def test_what_is_no_cubin_has_no_frame() -> None:
    for content in (b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"text" * 40):
        for read in (elf.frame_bytes, elf.registers, lambda c: elf.parameter_places(c, "k")):
            with pytest.raises(ValueError, match="no cubin"):
                read(content)


def test_operands_come_by_16_bytes_or_as_their_pixels_allow() -> None:
    """Narrow loads are forgiven only of the operand whose pixels lie so, and each operand must be seen to come."""
    facts = sass.Facts(40, 0, 0, 1024, {"HMMA": 4}, {16: 2}, {}, {}, {"a": {16: 4}, "w": {4: 2}}, 5000)
    assert sass.faults(facts, 80, "tf32", {"a": 16, "w": 4}) == []
    assert sass.faults(facts._replace(fed={"a": {16: 4}, "w": {16: 2}}), 80, "tf32", {"a": 16, "w": 4}) == []
    assert sass.faults(facts, 80, "tf32", {}) == []
    scaled = facts._replace(fed={**facts.fed, "gamma": {4: 1}})
    assert sass.faults(scaled, 80, "tf32", {"a": 16, "w": 4}) == [], "a vector on the operand's way"
    for fed, wrong in (
        ({"a": {16: 4}, "w": {8: 2}}, "w"),
        ({"a": {16: 4, 4: 1}, "w": {4: 2}}, "a"),
        ({"w": {4: 2}}, "a"),
        ({"a": {16: 4}}, "w"),
        ({"a": {16: 4}, "w": {4: 2}, "": {4: 1}}, "an operand"),
    ):
        (fault,) = sass.faults(facts._replace(fed=fed), 80, "tf32", {"a": 16, "w": 4})
        assert fault.startswith(f"{wrong} is not brought by 16 bytes"), fed


def test_only_where_pixels_lie_so_may_operands_come_narrow() -> None:
    """In tf32 the weights of two or three channels that Adam keeps in float32, and the gradient of one logit."""
    assert widths_of(matmul("bf16", 64)) == {"a_ptr": 16, "w_ptr": 16}
    few = (("G", Sizes(256, "bf16", pitch=12, w_pitch=3)), ("BN", 64))
    assert widths_of(matmul("bf16", 64)._replace(constants=few)) == {"a_ptr": 8, "w_ptr": 2}
    operands = {pointer for _, pointer, _ in OPERANDS}
    for step, launches in plan.loads(plan.FILE.read_text()).items():
        for record in launches:
            widths, product = widths_of(record), dict(record.constants).get("G")
            if record.name.startswith(("conv", "pointwise")):
                assert widths.keys() == operands & {name for name, _ in record.runtime}
            for name, width in widths.items():
                if name == "w_ptr" and step.precision == "tf32" and product.w_pitch in (2, 3):
                    assert width == (8 if product.w_pitch == 2 else 4)
                else:
                    assert width == (4 if name == "a_ptr" and product.pitch == 1 else 16)


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


def test_write_compiles_only_what_the_file_does_not_know(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(findings, "FILE", tmp_path / "findings.json")
    command = ["--plan", str(plan_file), "--jobs", "1", "--write"]
    assert aot.main([*command, "--preset", "good"]) == 0
    before = findings.loads(findings.FILE.read_text())
    assert before.complete == ["good bf16"]
    assert len(before.code) == 1
    compiled = []
    monkeypatch.setattr(
        aot, "examine", lambda items, arch, examine=aot.examine: compiled.extend(items) or examine(items, arch)
    )
    capsys.readouterr()
    assert aot.main(command) == 1
    assert [record.unaligned for record in compiled] == [("a_ptr",)]
    text = capsys.readouterr().out
    assert "| bad bf16 | 2 | 2 | 1 |\n| good bf16 | 1 | 1 | 0 |" in text
    assert "all code of bad bf16, good bf16" in text
    after = findings.loads(findings.FILE.read_text())
    assert after.code.items() > before.code.items()
    assert aot.main(command) == 1
    assert len(compiled) == 1
    assert aot.main(command[:-1]) == 1, "without --write all is compiled, or taken from the cache"
    assert len(compiled) == 3
    monkeypatch.setattr(aot, "ship", lambda todo: {80: 10**7})
    assert aot.main([*command, "--ship"]) == 1
    assert len(compiled) == 5
    assert "sm_80: 10.00 MB" in capsys.readouterr().out
    findings.FILE.write_text(findings.dumps(after._replace(triton="2")))
    assert aot.known() == findings.Findings(aot.launch.triton_version(), [], {}), "another compiler's"


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
