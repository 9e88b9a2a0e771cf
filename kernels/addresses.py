"""Whose values a load brings: the pointer among a kernel's parameters from which its address was computed.

Parameters lie in a bank of constants, c[0x0], at places that the cubin tells (`elf.parameter_places`). The lower half
of a pointer is followed through the registers, uniform ones (UR) among them, to the addresses of loads and copies. Its
upper half goes the same way beside it, and numbers that are added are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .flow import Instruction, Values, blocks_of, hold, tokens, walk

UNIFORM = 1000  # of a uniform register's number, above those of the others

_ANY = re.compile(r"(?<!\w)(U?)R(\d+)")
_CONSTANT = re.compile(r"c\[0x0\]\[0x([0-9a-f]+)\]")
_DESCRIPTOR = re.compile(r"desc\[UR\d+\]")
_WIDE = re.compile(r"\.(64|128)\b")


def pointers(listing: Sequence[Instruction], places: Mapping[int, str]) -> dict[int, set[str]]:
    """place of a load or copy from global memory -> names of the pointers its address may come from.

    places  where pointers lie in the bank of constants, and their names
    """
    names = sorted(set(places.values()))
    bits = {place: 1 << names.index(name) for place, name in places.items()}
    found: dict[int, int] = {}

    def visit(state: Values, i: Instruction, _: int) -> None:
        if i.word in ("LDG", "LDGSTS"):
            address = next((token for token in reversed(tokens(i)) if "[" in token), "")
            found[i.place] = found.get(i.place, 0) | _held(state, _DESCRIPTOR.sub("", address))
        _step(state, i, bits)

    walk(blocks_of(list(listing)), visit)
    return {place: {name for n, name in enumerate(names) if held >> n & 1} for place, held in found.items()}


def _step(state: Values, i: Instruction, bits: Mapping[int, int]) -> None:
    """What the instruction writes comes from where what it reads comes from; of a pair, the lower half does."""
    named = tokens(i)
    target = next((n for n, token in enumerate(named[:2]) if not re.match(r"U?P(\d|T)", token)), None)
    first = _ANY.match(named[target]) if target is not None else None
    if first is None or target is None:
        return
    constant = _CONSTANT.search(i.rest)
    wide = _WIDE.search(i.name)
    count = int(wide[1]) // 32 if wide else 2 if ".WIDE" in i.name else 1
    held = [0] * count
    if i.word in ("LDC", "LDCU", "ULDC"):
        held = [bits.get(int(constant[1], 16) + 4 * k, 0) if constant else 0 for k in range(count)]
    elif not i.word.startswith("LD"):
        held[0] = _held(state, " ".join(named[target + 1 :])) | (bits.get(int(constant[1], 16), 0) if constant else 0)
    for k, pointer in enumerate(held):
        hold(state, _number(first) + k, pointer, i.guarded)


def _held(state: Values, text: str) -> int:
    held = 0
    for match in _ANY.finditer(text):
        held |= state.get(_number(match), 0)
    return held


def _number(match: re.Match[str]) -> int:
    return int(match[2]) + (UNIFORM if match[1] else 0)
