"""Compiling without a GPU and reading the machine code: on kernels made to have what is looked for."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from alikit.kernels import aot, disassembly, elf, plan, sass
from alikit.kernels.launch import Launch
from alikit.kernels.rows import OPERANDS, widths_of
from tests.kernels.gpu.conftest import Sizes, conv_like, matmul

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")

LONG = (("G", Sizes(1 << 14, "bf16")), ("BN", 64))  # a loop that nobody unrolls


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
