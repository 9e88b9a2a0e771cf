"""Which loads bring operands, and whose, on listings that are short enough to follow by eye."""

import textwrap

import pytest

from alikit.kernels import sass

HEAD = "REG:40 STACK:0 SHARED:0 LOCAL:0\n"


PLACES = {0x160: "a", 0x168: "w"}  # where pointers lie in the bank of constants


def fed_by(lines: str) -> dict[str, dict[int, int]]:
    """Pointer -> bytes at once of what brings its operands -> how many; a line is an instruction, 16 bytes after the
    last."""
    found = textwrap.dedent(lines).strip().splitlines()
    text = "\n".join(f"/*{16 * n:04x}*/  {line} ;  /* 0x0 */" for n, line in enumerate(found))
    return sass.read(HEAD + text, 0, 0, PLACES).fed


def fed(lines: str) -> dict[int, int]:
    """The same where no address is computed: nobody's."""
    found = fed_by(lines)
    assert found.keys() <= {""}
    return found.get("", {})


THROUGH_MEMORY = """
    LDG.E.128 R4, [R2.64]
    LDG.E{width} R8, desc[UR4][R2.64+0x40]
    STS.128 [R12], R4
    STS{width} [R12+0x100], R8
    BAR.SYNC.DEFER_BLOCKING 0x0
    LDSM.16.M88.4 R16, [R13]
    LDSM.16.MT88.2 R20, [R13+0x100]
    HMMA.16816.F32.BF16 R24, R16, R20, RZ
    EXIT
"""


@pytest.mark.parametrize(("width", "wanted"), [(".128", {16: 2}), (".64", {16: 1, 8: 1}), ("", {16: 1, 4: 1})])
def test_what_is_stored_for_a_product_is_an_operand(width: str, wanted: dict[int, int]) -> None:
    assert fed(THROUGH_MEMORY.format(width=width)) == wanted


def test_what_is_converted_in_registers_is_an_operand() -> None:
    lines = """
        LDG.E.128 R4, [R2.64]
        @P0 LDG.E.64 R8, [R2.64]
        F2FP.BF16.F32.PACK_AB R10, R9, R8
        HMMA.1688.F32.BF16 R24, R4, R10, R24
        EXIT
    """
    assert fed(lines) == {16: 1, 8: 1}
    assert fed(lines.replace("PACK_AB R10", "PACK_AB R11").replace("R4, R10", "R4, R20")) == {16: 1}


def test_a_bias_that_is_loaded_early_is_none() -> None:
    lines = """
        LDG.E R9, [R2.64]
        LDG.E.64 R6, [R2.64]
        LDGSTS.E.BYPASS.128 [R3], [R4.64]
        LDSM.16.M88.4 R16, [R13]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        FADD R24, R24, R9
        STS.64 [R12], R6
        STS [R12+0x8], R24
        STG.E [R2.64], R24
        EXIT
    """
    assert fed(lines) == {16: 1}
    assert fed(lines.replace("R16, R20, RZ", "R16, R20, R9")) == {16: 1}, "what a product is added to"
    assert fed(lines.replace("R16, R20, RZ", "R16, R6, RZ")) == {16: 1, 8: 1}


def test_what_is_stored_while_products_still_run_is_none() -> None:
    """A wide tile is finished in halves: the left one may be stored before the right one's last product."""
    lines = """
        LDG.E.64 R6, [R2.64]
        LDGSTS.E.BYPASS.128 [R3], [R4.64]
        LDSM.16.M88.4 R16, [R13]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        FMUL R25, R24, R6
        STS.64 [R12], R24
        HMMA.16816.F32.BF16 R28, R16, R22, RZ
        LDS.64 R30, [R14]
        EXIT
    """
    assert fed(lines) == {16: 1}
    again = lines.replace("HMMA.16816.F32.BF16 R28", "LDSM.16.M88.4 R16, [R13]\nHMMA.16816.F32.BF16 R28")
    assert fed(again) == {16: 1, 8: 1}


def test_what_another_branch_multiplies_is_none() -> None:
    """Both products of a launch: behind the first one its epilogue stores what it loaded, and the second never sees
    it."""
    lines = """
        @P0 BRA 0x70
        LDGSTS.E.BYPASS.128 [R3], [R4.64]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        LDG.E.64 R6, [R2.64]
        STS.64 [R12], R6
        STG.E [R2.64], R24
        EXIT
        LDGSTS.E.BYPASS.128 [R3], [R4.64]
        LDSM.16.M88.4 R16, [R13]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        EXIT
    """
    assert fed(lines) == {16: 2}
    assert fed(lines.replace("        EXIT\n        LDGSTS", "        NOP\n        LDGSTS")) == {16: 2, 8: 1}


def test_a_loop_carries_operands_to_its_next_round() -> None:
    lines = """
        LDGSTS.E.BYPASS.128 [R3], [R4.64]
        HGMMA.64x16x16.F32.BF16 R24, gdesc[UR8], R24
        LDG.E.64 R6, [R2.64]
        {overwritten}
        STS.64 [R12], R6
        @!P1 BRA 0x10
        STG.E.128 [R2.64], R24
        EXIT
    """
    assert fed(lines.format(overwritten="NOP")) == {16: 1, 8: 1}
    assert fed(lines.format(overwritten="CS2R R6, SRZ")) == {16: 1}
    assert fed(lines.format(overwritten="@P2 CS2R R6, SRZ")) == {16: 1, 8: 1}
    assert fed(lines.format(overwritten="NOP").replace("@!P1 BRA 0x10", "@!P1 BRA 0x60")) == {16: 1}


def test_addresses_are_followed_nowhere() -> None:
    lines = """
        LDG.E R4, [R2.64]
        IMAD.WIDE R8, R4, 0x2, R6
        LDG.E.128 R12, [R8.64]
        STS.128 [R4], R12
        LDSM.16.M88.4 R16, [R13]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        EXIT
    """
    assert fed(lines) == {16: 1}


ADDRESSES = """
    IMAD.WIDE R4, R8, R12, c[0x0][0x160]
    IADD3 R6, P1, R9, c[0x0][0x168], RZ
    IADD3.X R7, R10, c[0x0][0x16c], RZ, P1, !PT
    LDGSTS.E.BYPASS.128 [R3], [R4.64+0x80], P0
    LDGSTS.E [R3+0x100], [R6.64]
    HMMA.16816.F32.BF16 R24, R16, R20, RZ
    EXIT
"""


def test_an_operand_is_of_the_pointer_in_its_address() -> None:
    assert fed_by(ADDRESSES) == {"a": {16: 1}, "w": {4: 1}}
    assert fed_by(ADDRESSES.replace("0x168", "0x170")) == {"a": {16: 1}, "": {4: 1}}, "no pointer lies there"
    assert fed_by(ADDRESSES.replace("R9, c[0x0]", "R4, c[0x0]")) == {"a": {16: 1, 4: 1}, "w": {4: 1}}, "either's"
    assert fed_by(ADDRESSES.replace("IADD3 R6", "ISETP.GE.AND P2, PT, R6")) == {"a": {16: 1}, "": {4: 1}}


def test_pointers_pass_through_uniform_registers() -> None:
    lines = """
        ULDC.64 UR4, c[0x0][0x160]
        LDC.64 R2, c[0x0][0x168]
        LDCU.128 UR8, c[0x0][0x160]
        IADD3 R4, P0, R12, UR4, RZ
        IADD3.X R5, R13, UR5, RZ, P0, !PT
        IMAD.WIDE R6, R3, 0x2, R2
        LDG.E.64 R16, desc[UR10][R4.64+UR6]
        LDGSTS.E [R3], desc[UR8][R6.64]
        LDGSTS.E.BYPASS.128 [R3], desc[UR8][R14.64+UR10]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        EXIT
    """
    assert fed_by(lines) == {"a": {8: 1}, "w": {16: 1, 4: 1}}


def test_a_register_is_of_the_pointer_it_had_last() -> None:
    lines = """
        MOV R4, c[0x0][0x160]
        {last} R4, c[0x0][0x168]
        LDG.E.64 R16, [R4.64]
        LDG.E R4, [R4.64]
        LDG.E.128 R20, [R4.64]
        HMMA.16816.F32.BF16 R24, R16, R20, RZ
        EXIT
    """
    assert fed_by(lines.format(last="MOV")) == {"w": {8: 1}, "": {16: 1}}, "what was loaded is no address of ours"
    assert fed_by(lines.format(last="@P0 MOV")) == {"a": {8: 1}, "w": {8: 1}, "": {16: 1}}
