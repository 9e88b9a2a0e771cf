"""Cubins to text, by NVIDIA's tools that Triton brings along.

The disassembler takes half a second to begin, more than most kernels take it. So many kernels go through it at once:
their instructions one behind the other, as one binary without a frame. Addresses and targets of jumps are those of the
whole, for all that `flow.py` cares.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from . import elf, launch
from .binary import Binary

_ADDRESS = re.compile(r"\s*/\*([0-9a-f]{4,})\*/")


def listings(binaries: Sequence[Binary], arch: int) -> list[str]:
    """What each kernel uses ("REG:40 STACK:0 ...") and, line by line, its instructions with their addresses."""
    codes = [elf.instructions(made.cubin, made.name) for made in binaries]
    name = f"SM{arch}a" if arch >= 90 else f"SM{arch}"  # from 9.0 on with the instructions of that chip alone
    lines = output("nvdisasm", "--no-dataflow", "--binary", name, content=b"".join(codes)).splitlines() if codes else []
    found = [[output("cuobjdump", "--dump-resource-usage", content=made.cubin)] for made in binaries]
    ends, kernel = list(accumulate(map(len, codes))), 0
    for line in lines:
        address = _ADDRESS.match(line)
        if address:
            while int(address[1], 16) >= ends[kernel]:
                kernel += 1
            found[kernel].append(line)
    return ["\n".join(text) for text in found]


def output(tool: str, *options: str, content: bytes) -> str:
    """What a tool writes about a file of that content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.cubin"
        path.write_bytes(content)
        return subprocess.run(
            [launch.tool(tool), *options, str(path)], check=True, capture_output=True, text=True
        ).stdout
