"""Compiled kernels and where they are kept: a folder of files, one a kernel, and archives that come with alikit.

A file is

    "alikit cubin 1 <SHA-256 of all that follows the line>\\n" <facts as JSON> "\\n" <cubin, compressed>

so that one that was cut off, or changed, is seen and taken for missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

MAGIC = b"alikit cubin 1 "
SHIPPED = Path(__file__).parent / "cubins"


class Binary(NamedTuple):
    """A kernel for one architecture.

    name    of the function in the cubin
    shared  bytes of dynamic shared memory;  warps: of a program;  hidden: parameters behind the source's
    triton  the version that made it
    """

    name: str
    cubin: bytes
    shared: int
    warps: int
    hidden: int
    triton: str

    def pack(self) -> bytes:
        """As a file's content."""
        facts = {key: value for key, value in self._asdict().items() if key != "cubin"}
        body = json.dumps(facts).encode() + b"\n" + zlib.compress(self.cubin, 9)
        return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unpack(content: bytes) -> Binary | None:
    """A file's content; None where it is damaged."""
    head, _, body = content.partition(b"\n")
    if head != MAGIC + hashlib.sha256(body).hexdigest().encode():
        return None
    facts, _, cubin = body.partition(b"\n")
    return Binary(cubin=zlib.decompress(cubin), **json.loads(facts))


def load(folder: Path, key: str) -> Binary | None:
    """The binary of that key in a folder, or None."""
    try:
        return unpack((folder / f"{key}.cubin").read_bytes())
    except OSError:
        return None


def save(folder: Path, key: str, binary: Binary) -> None:
    """Puts a binary into a folder, whole or not at all. A folder that cannot be written is no error: the kernel is
    compiled again next time."""
    write(folder / f"{key}.cubin", binary.pack())


def write(path: Path, content: bytes) -> None:
    """Writes a file of a cache: whole or not at all, and nothing where it cannot be written."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise


def shipped(key: str, arch: int, folder: Path = SHIPPED) -> Binary | None:
    """The binary of that key among those that come with alikit, or None."""
    archive = _archive(folder / f"sm_{arch}.zip")
    if archive is None or key not in archive.NameToInfo:
        return None
    try:
        return unpack(archive.read(key))
    except (OSError, BadZipFile, zlib.error):
        return None


@cache
def _archive(path: Path) -> Any:
    try:
        return ZipFile(path)
    except (OSError, BadZipFile):
        return None


def ship(binaries: dict[str, Binary], arch: int, folder: Path = SHIPPED) -> int:
    """Writes the archive of an architecture; returns its size in bytes. The same binaries give the same bytes."""
    from zipfile import ZipInfo

    path = folder / f"sm_{arch}.zip"
    folder.mkdir(exist_ok=True)
    with ZipFile(path, "w") as archive:
        for key in sorted(binaries):
            archive.writestr(ZipInfo(key), binaries[key].pack())
    return path.stat().st_size
