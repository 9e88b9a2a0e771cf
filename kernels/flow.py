"""Which loads of a kernel bring the operands of its tensor cores: their values are followed through the machine code.

A value that is loaded passes through registers (conversions, masks) and, mostly, through shared memory before it is
multiplied. So an operand is what reaches a tensor-core instruction in registers, or is stored to shared memory ahead of
what brings factors from there: a read of shared memory that reaches such an instruction, or one that reads by itself
(a Hopper descriptor). Asynchronous copies (LDGSTS) count anyway: Triton makes them for operands alone. A bias, a batch
norm's x, a clock are loaded too, often before the product: they meet its sums, not its factors.

Predicates and addresses are not followed here: they choose values, they are none. Whose values a load brings is read
from its address, in `addresses.py`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

TENSOR = re.compile(r"(H|I|Q|O|B|D)G?MMA\b|UTC\w*MMA\b")

_REGISTER = re.compile(r"(?<!\w)R(\d+)")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
_COMMAS = re.compile(r",(?![^\[]*\])")
_WIDE = re.compile(r"\.(64|128)\b")
_MATRICES = re.compile(r"\.M\w*88\.([24])")
_COLUMNS = re.compile(r"\.\d+x(\d+)x\d+")


class Instruction(NamedTuple):
    """Address, whether a predicate guards it, name, the rest of the line."""

    place: int
    guarded: bool
    name: str
    rest: str

    @property
    def word(self) -> str:
        """The name without what follows its first dot."""
        return self.name.split(".")[0]


Values = dict[int, int]  # register -> set of loads (of pointers, in addresses.py), a bit each
Blocks = dict[int, tuple[list[Instruction], list[int]]]  # address of the first -> instructions, where they go on


def operands(listing: list[Instruction]) -> list[Instruction]:
    """The copies and loads that bring operands."""
    if not any(TENSOR.match(i.name) for i in listing):
        return [i for i in listing if i.word == "LDGSTS"]
    blocks = blocks_of(listing)
    sources = {i.place: 1 << n for n, i in enumerate(x for x in listing if x.word in ("LDG", "LDS", "LDSM"))}
    multiplied = _reached(blocks, sources, set())
    # products read shared memory by themselves (Hopper's) or what was read of it before
    readers = {i.place for i in listing if sources.get(i.place, 0) & multiplied and i.word != "LDG"}
    readers |= {i.place for i in listing if TENSOR.match(i.name) and "gdesc" in i.rest}
    found = multiplied | _reached(blocks, sources, readers)
    return [i for i in listing if i.word == "LDGSTS" or (i.word == "LDG" and sources[i.place] & found)]


def blocks_of(listing: list[Instruction]) -> Blocks:
    """Runs of instructions that nothing jumps into or out of but at their ends."""
    targets = {t for i in listing for t in _targets(i)}
    starts = {listing[0].place} if listing else set()
    for this, following in pairwise(listing):
        if following.place in targets or _targets(this) or this.word in ("EXIT", "RET"):
            starts.add(following.place)
    blocks: Blocks = {}
    inside: list[Instruction] = []
    onward: list[int] = []
    for i, after in zip(listing, [*listing[1:], None], strict=True):
        if i.place in starts:
            blocks[i.place] = inside, onward = [], []
        inside.append(i)
        if after is None or after.place in starts:
            ends = (not i.guarded and i.name in ("EXIT", "BRA")) or i.word == "RET"
            onward += [*_targets(i), *([] if ends or after is None else [after.place])]
    return blocks


def _targets(i: Instruction) -> list[int]:
    found = _TARGET.search(i.rest) if i.word in ("BRA", "CALL", "WARPSYNC") else None
    return [int(found[1], 16)] if found and i.rest.strip() != "0xffffffff" else []


def walk(blocks: Blocks, visit: Callable[[Values, Instruction, int], None]) -> None:
    """Follows registers from block to block until nothing is new: `visit(state, instruction, block)` looks at what
    they hold before the instruction and changes it to what they hold behind it."""
    before: dict[int, Values] = defaultdict(dict)
    todo = list(blocks)
    while todo:
        place = todo.pop(0)
        inside, onward = blocks[place]
        state = dict(before[place])
        for i in inside:
            visit(state, i, place)
        for following in onward:
            if following in blocks and _merge(before[following], state) and following not in todo:
                todo.append(following)


def _reached(blocks: Blocks, sources: Mapping[int, int], readers: set[int]) -> int:
    """The loads whose values reach a product, or shared memory where one of `readers` is ahead."""
    ahead = _ahead(blocks, readers)
    last = {p: max((i.place for i in inside if i.place in readers), default=-1) for p, (inside, _) in blocks.items()}
    found = 0

    def visit(state: Values, i: Instruction, block: int) -> None:
        nonlocal found
        if i.word in ("STS", "STSM") and (i.place < last[block] or block in ahead):
            found |= _join(state, _read(i))
        if TENSOR.match(i.name):
            found |= _join(state, _factors(i))
        _step(state, i, sources)

    walk(blocks, visit)
    return found


def _ahead(blocks: Blocks, wanted: set[int]) -> set[int]:
    """Blocks that a block with one of the wanted instructions may follow."""
    holds = {place for place, (inside, _) in blocks.items() if any(i.place in wanted for i in inside)}
    found: set[int] = set()
    while True:
        more = {p for p, (_, onward) in blocks.items() if any(o in holds or o in found for o in onward)}
        if more == found:
            return found
        found = more


def _join(state: Values, registers: Iterable[int]) -> int:
    loads = 0
    for register in registers:
        loads |= state.get(register, 0)
    return loads


def _merge(into: Values, state: Values) -> bool:
    """Whether anything was new."""
    changed = False
    for register, loads in state.items():
        if loads & ~into.get(register, 0):
            into[register] = into.get(register, 0) | loads
            changed = True
    return changed


def _step(state: Values, i: Instruction, sources: Mapping[int, int]) -> None:
    """What the instruction writes holds what it reads; a load holds itself."""
    written = _written(i)
    if not written:
        return
    from_memory = i.word.startswith("LD") or TENSOR.match(i.name)
    loads = sources.get(i.place, 0) if from_memory else _join(state, _read(i))
    for register in written:
        hold(state, register, loads, i.guarded)


def hold(state: Values, register: int, bits: int, guarded: bool) -> None:
    """The register holds these now, and, behind a guarded instruction, what it held."""
    bits |= state.get(register, 0) if guarded else 0
    if bits:
        state[register] = bits
    else:
        state.pop(register, None)


def tokens(i: Instruction) -> list[str]:
    """What the instruction names, in order."""
    return [token.strip() for token in _COMMAS.split(i.rest) if token.strip()]


def _written(i: Instruction) -> range:
    """Registers that the instruction writes."""
    if "SETP" in i.name or i.word in ("R2UR", "R2P", "BAR", "WARPSYNC", "BRA", "CALL", "RET"):
        return range(0)
    for token in tokens(i)[:2]:
        if "[" in token:
            break
        if re.match(r"R(\d+|Z)", token):
            first = _REGISTER.match(token)
            return range(int(first[1]), int(first[1]) + _width(i)) if first else range(0)
        if not re.match(r"U?P(\d|T)", token):
            break
    return range(0)


def _read(i: Instruction) -> list[int]:
    """Registers whose values the instruction uses; those of addresses are none."""
    named = [token for token in tokens(i) if "[" not in token]
    place = next((n for n, token in enumerate(named) if re.match(r"R(\d+|Z)", token)), 0)
    stores = i.word in ("STS", "STSM")
    wide = _width(i) if stores else 2 if ".64" in i.name or ".WIDE" in i.name else 1
    firsts = [int(r) for token in (named if stores else named[place + 1 :]) for r in _REGISTER.findall(token)]
    return [r + k for r in firsts for k in range(wide)]


def _factors(i: Instruction) -> list[int]:
    """Registers of the two matrices that are multiplied; the sums that are added to are none."""
    left, right = (2, 1) if "1688" in i.name and "TF32" not in i.name else (4, 2)
    found = [(_REGISTER.match(token), count) for token, count in zip(tokens(i)[1:3], (left, right), strict=False)]
    return [int(first[1]) + k for first, count in found if first for k in range(count)]


def _width(i: Instruction) -> int:
    """Registers of what is written, or stored."""
    if TENSOR.match(i.name):
        columns = _COLUMNS.search(i.name)
        return int(columns[1]) // 2 if columns else 4
    matrices, wide = _MATRICES.search(i.name), _WIDE.search(i.name)
    if matrices or wide:
        return int(matrices[1]) if matrices else int(wide[1]) // 32  # type: ignore[index]
    return 2 if ".WIDE" in i.name or i.name == "CS2R" else 1
