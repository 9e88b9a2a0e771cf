"""What a cubin holds, read from its disassembly: registers, memory that spills use, tensor-core instructions, and how
many bytes its loads, stores and copies move at once; of those that bring operands (`flow.py`) apart, by the pointer
whose values they bring (`addresses.py`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .addresses import pointers
from .flow import TENSOR, Instruction, operands

READER = 5  # raised when more or something else is read
#: shared memory that one program may have, bytes
SHARED = {80: 163 << 10, 86: 99 << 10, 87: 163 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)([^;\n]*)")
_WIDE = re.compile(r"\.(U8|S8|U16|S16|64|128)\b")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


class Facts(NamedTuple):
    """
    registers of a thread;  stack: bytes of local memory (a stack, spills);  spills: instructions that move them
    shared    bytes that are laid out when the kernel is launched
    tensor    tensor-core instructions, by name
    copies    instructions that copy from global to shared memory, loads, stores: bytes at once -> how many
    fed       copies and loads that bring operands of tensor-core instructions, by the name of their pointer ("" where
              it is not known)
    size      of the cubin, bytes
    """

    registers: int
    stack: int
    spills: int
    shared: int
    tensor: dict[str, int]
    copies: dict[int, int]
    loads: dict[int, int]
    stores: dict[int, int]
    fed: dict[str, dict[int, int]]
    size: int


def read(sass: str, shared: int, size: int, places: Mapping[int, str]) -> Facts:
    """From what cuobjdump writes with --dump-resource-usage --dump-sass; ValueError where it cannot be read.

    shared  bytes that are laid out at the launch. Triton's kernels have no other; what the cubin tells from sm_90 on is
            the KB that the driver takes for itself, which is not part of the limit
    places  where the kernel's pointers lie in the bank of constants, and their names
    """
    found = _USAGE.search(sass)
    listing = [Instruction(int(p, 16), bool(guard), name, rest) for p, guard, name, rest in _INSTRUCTION.findall(sass)]
    names = Counter(i.name for i in listing)
    if found is None or not names:
        raise ValueError(f"cuobjdump tells nothing: {sass[:200]!r}")
    registers, stack, local = map(int, found.groups())
    return Facts(
        registers,
        stack + local,
        sum(n for name, n in names.items() if name.split(".")[0] in ("LDL", "STL")),
        shared,
        _tensor(names),
        _widths(names, "LDGSTS"),
        _widths(names, "LDG"),
        _widths(names, "STG"),
        _fed(listing, places),
        size,
    )


def _tensor(names: Counter[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, n in names.items():
        if TENSOR.match(name):
            found[name.split(".")[0]] += n
    return dict(found)


def _fed(listing: list[Instruction], places: Mapping[int, str]) -> dict[str, dict[int, int]]:
    origins = pointers(listing, places)
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for i in operands(listing):
        for name in origins.get(i.place) or {""}:
            found[name][i.name] += 1
    return {name: _widths(found[name], "LDGSTS", "LDG") for name in sorted(found)}


def _widths(names: Counter[str], *kinds: str) -> dict[int, int]:
    found: Counter[int] = Counter()
    for name, n in names.items():
        if name.split(".")[0] in kinds:
            match = _WIDE.search(name)
            found[_BYTES[match[1]] if match else 4] += n
    return dict(sorted(found.items(), reverse=True))


def faults(facts: Facts, arch: int, dot: str, widths: Mapping[str, int]) -> list[str]:
    """What is wrong with a kernel: nothing may spill, shared memory has a limit, and a product of matrices (`dot`:
    "bf16" or "tf32") needs tensor cores. `widths`: pointers of operands and the bytes at once by which these may come
    beside 16; empty where it does not matter."""
    found = []
    if facts.stack or facts.spills:
        found.append(f"{facts.stack} bytes of local memory, {facts.spills} instructions on it")
    if facts.shared > SHARED[arch]:
        found.append(f"{facts.shared} bytes of shared memory, {SHARED[arch]} are there")
    if dot in ("bf16", "tf32"):
        wanted = "HGMMA" if arch == 90 else "HMMA"
        if wanted not in facts.tensor:
            found.append(f"no {wanted}")
        found += _narrow(facts.fed, widths)
    return found


def _narrow(fed: Mapping[str, Mapping[int, int]], widths: Mapping[str, int]) -> Iterable[str]:
    """Operands that come otherwise than they may, or are not seen to come, and what comes from nobody knows where.
    Vectors that operands are multiplied with on their way (a norm's) are none."""
    for name in [*widths, *fed.keys() & {""}] if widths else ():
        moved = fed.get(name, {})
        if not moved or moved.keys() - {16, widths.get(name, 16)}:
            yield f"{name or 'an operand'} is not brought by 16 bytes at once: {dict(moved)}"
