"""What a cubin (an ELF file) tells of its kernel: its frame in local memory, its code, where its parameters lie.

NVIDIA's section .nv.info is a row of attributes: a byte of format, a byte of meaning, then two bytes of value, or in
format 4 two bytes of length and as many of value. Meaning 0x11 is a function's frame, (symbol, bytes), and 0x2f its
registers, (symbol, count). The section .nv.info.NAME is of one kernel: 0x0a where its parameters begin in the bank of
constants, (symbol, place, size); 0x17 a parameter, (index, number, place behind the beginning, ...). Its instructions
are the section .text.NAME.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

SIZED, BANK, FRAME, PARAMETER, REGISTERS = 4, 0x0A, 0x11, 0x17, 0x2F


def frame_bytes(cubin: bytes) -> int:
    """Bytes of local memory that a thread has, of the kernel that has most; ValueError where this is no cubin."""
    return _most(cubin, FRAME)


def registers(cubin: bytes) -> int:
    """Registers of a thread, of the kernel that has most; ValueError as above."""
    return _most(cubin, REGISTERS)


def _most(cubin: bytes, wanted: int) -> int:
    try:
        info = _section(cubin, b".nv.info")
        return max(struct.unpack("<II", value)[1] for meaning, value in _attributes(info) if meaning == wanted)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"no cubin: {error}") from error


def parameter_places(cubin: bytes, name: str) -> list[int]:
    """Where the parameters of the kernel of that name lie in the bank of constants, in order; ValueError as above."""
    try:
        found = list(_attributes(_section(cubin, f".nv.info.{name}".encode())))
        (start,) = (struct.unpack_from("<H", value, 4)[0] for meaning, value in found if meaning == BANK)
        numbered = (struct.unpack_from("<HH", value, 4) for meaning, value in found if meaning == PARAMETER)
        return [start + place for _, place in sorted(numbered)]
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"no cubin: {error}") from error


def instructions(cubin: bytes, name: str) -> bytes:
    """The machine code of the kernel of that name; ValueError as above."""
    try:
        return _section(cubin, f".text.{name}".encode())
    except struct.error as error:
        raise ValueError(f"no cubin: {error}") from error


def _section(cubin: bytes, wanted: bytes) -> bytes:
    """The bytes of the section of that name."""
    if cubin[:4] != b"\x7fELF":
        raise ValueError("not an ELF file")
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + n * size) for n in range(count)]
    text = headers[names][4]
    for name, _, _, _, offset, length in headers:
        if cubin.startswith(wanted + b"\0", text + name):
            return cubin[offset : offset + length]
    raise ValueError(f"no section {wanted.decode()}")


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    """(meaning, value) of each attribute."""
    place = 0
    while place < len(info):
        kind, meaning, length = struct.unpack_from("<BBH", info, place)
        place += 4
        end = place + (length if kind == SIZED else 0)
        yield meaning, info[place:end]
        place = end
