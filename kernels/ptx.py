"""The parameters of a compiled kernel, read from its PTX.

Triton appends parameters that are not in the source (addresses of scratch memory: one in 3.4, two from 3.5 on), and a
launch that leaves them out makes the driver read behind the array it is given. So they are counted, not known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SIZES = {"i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "fp32": 4, "i64": 8, "u64": 8}

_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\)", re.DOTALL)
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.([bufs])(\d+)\s+(\.ptr\b[^,]*?)?\s*\w+(?:\[(\d+)\])?\s*$")


class Parameter(NamedTuple):
    """size and alignment in bytes; kind: "u" "s" "b" integers, "f" floating point, "p" address."""

    size: int
    align: int
    kind: str


def parameters(ptx: str) -> list[Parameter]:
    """The parameters of the one entry of a PTX text; ValueError where it cannot be read."""
    entries = _ENTRY.findall(ptx)
    if len(entries) != 1:
        raise ValueError(f"ptx: {len(entries)} entries, wanted one")
    found = []
    for line in filter(None, map(str.strip, entries[0][1].split(","))):
        match = _PARAMETER.match(line)
        if match is None:
            raise ValueError(f"ptx: not a parameter: {line!r}")
        align, kind, bits, pointer, count = match.groups()
        size = int(bits) // 8
        found.append(Parameter(size * int(count or 1), int(align or size), "p" if pointer else kind))
    return found


def hidden(runtime: Sequence[tuple[str, str]], found: Sequence[Parameter]) -> int:
    """How many parameters follow those of the source.

    runtime  (name, type) of the source's parameters that are passed, in order

    ValueError where the entry's parameters are not these, each of its size, followed by at most four addresses.
    """
    for (name, kind), parameter in zip(runtime, found, strict=False):
        size, letters = (8, "p") if kind[0] == "*" else (SIZES[kind], "f" if kind == "fp32" else "usb")
        if parameter.size != size or parameter.align != size or parameter.kind not in letters:
            raise ValueError(f"ptx: {name} is {kind} in the source and {parameter} in the entry")
    rest = found[len(runtime) :]
    if len(found) < len(runtime) or len(rest) > 4 or any(parameter.kind != "p" for parameter in rest):
        raise ValueError(f"ptx: {len(found)} parameters in the entry, {len(runtime)} in the source; last: {rest}")
    return len(rest)
