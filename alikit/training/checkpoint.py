"""Checkpoints: named arrays and a JSON object in one HDF5 file that is either whole and true or refused.

HDF5 lets a file begin with a user block that the library skips. Ours holds three lines,

    alikit checkpoint <format version>
    bytes <length of what follows the block>
    sha256 <digest of what follows the block>

so the digest covers every name, dtype, shape, value and the meta object at once, and it is checked before the HDF5
library sees a byte: that library may crash or hang on a damaged file, and its own checksums cover metadata only.
Any HDF5 tool still opens the file. The image is built in memory and written in one go (alikit/training/files.py),
because an HDF5 file that meets a full disk half-way can be neither finished nor closed.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from alikit.errors import DataError
from alikit.training.files import write_atomic

FORMAT = 1

_BLOCK = 512  # the smallest user block that HDF5 knows
_HEADER = re.compile(rb"alikit checkpoint (\d{1,9})\nbytes (\d{1,18})\nsha256 ([0-9a-f]{64})\n\0*")
_META = "meta"


def save(path: Path | str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes `arrays` and `meta` to `path`, atomically and durably.

    arrays: name -> array of any shape (0-d and empty ones too) and any boolean, integer, floating or complex dtype;
        "/" in a name makes HDF5 groups. Equal contents give equal bytes, whatever the order of the mapping.
    meta: anything that JSON can hold (counters, configuration); it comes back as JSON reads it, tuples as lists.

    ValueError for a name or dtype that cannot be stored; AlikitError when the disk refuses, an older file is kept.
    """
    image = _hdf5_image(arrays, json.dumps(meta, sort_keys=True, allow_nan=False))
    body = image.getbuffer()[_BLOCK:]
    write_atomic(Path(path), [_header(body), body])


def load(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, with their exact dtypes and shapes, and the meta object that `save` wrote to `path`.

    DataError with the reason for a file that is missing, empty, truncated, damaged in any bit, foreign, or of another
    format version.
    """
    import h5py

    image = io.BytesIO(_verified(Path(path)))
    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = np.empty(node.shape, node.dtype)
            if node.size:
                node.read_direct(arrays[name])

    try:
        with h5py.File(image, "r") as file:
            file.visititems(collect)
            meta = json.loads(file.attrs[_META])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError):  # whole, but not as `save` lays it out
        _refuse(path, "is not laid out as an alikit checkpoint")
    return arrays, meta


def verify(path: Path | str) -> None:
    """Reads all of `path` and raises DataError, as `load` would, unless every byte is as `save` wrote it."""
    _verified(Path(path))


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) over names, shapes, dtypes and bytes, whatever the order of the mapping."""
    found = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.shape} {array.dtype}\n".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _header(body: memoryview) -> bytes:
    lines = f"alikit checkpoint {FORMAT}\nbytes {len(body)}\nsha256 {hashlib.sha256(body).hexdigest()}\n"
    return lines.encode().ljust(_BLOCK, b"\0")


def _hdf5_image(arrays: Mapping[str, np.ndarray], meta: str) -> io.BytesIO:
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=_BLOCK) as file:
        file.attrs[_META] = meta
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            _check(name, array, arrays)
            file.create_dataset(name, data=array, track_times=False)  # no clock in the bytes
    return image


def _check(name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
    parts = name.split("/")
    if not all(parts) or "." in parts or "\0" in name:
        raise ValueError(f"checkpoint: array name {name!r} needs non-empty parts between slashes, none of them '.'")
    groups = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if clash := groups & arrays.keys():
        raise ValueError(f"checkpoint: {clash.pop()!r} is an array and cannot also be the group of {name!r}")
    if array.dtype.kind not in "biufc":
        raise ValueError(f"checkpoint: array {name!r} has dtype {array.dtype}; wanted a boolean or a number")


def _verified(path: Path) -> bytes:
    """The whole file, header included, once its bytes are known to be those that were written."""
    try:
        if not path.is_file():
            _refuse(path, "is not a file" if path.exists() else "is not there")
        with path.open("rb") as file:
            block = file.read(_BLOCK)
            length = os.fstat(file.fileno()).st_size - _BLOCK
            written = _written_length(path, block)
            if length != written:
                _refuse(path, f"is damaged: {max(length, 0)} bytes of data where {written} were written")
            file.seek(0)
            data = file.read()
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror})")
    if block != _header(memoryview(data)[_BLOCK:]):
        _refuse(path, "is damaged: its bytes do not give the SHA-256 that was written with them")
    return data


def _written_length(path: Path, block: bytes) -> int:
    if not block:
        _refuse(path, "is empty")
    found = _HEADER.fullmatch(block)
    if found is None:
        _refuse(path, "is not an alikit checkpoint, or its first bytes are damaged")
    if int(found[1]) != FORMAT:
        _refuse(path, f"has format version {int(found[1])}, this alikit reads version {FORMAT}")
    return int(found[2])


def _refuse(path: Path | str, reason: str) -> NoReturn:
    raise DataError(f"checkpoint {path} {reason}") from None
