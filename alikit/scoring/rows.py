"""A matrix on disk whose rows are computed when they are first asked for, and kept.

Two files: NAME.npy, an ordinary NumPy file of (count, width) float32, in which rows that nobody asked for are zeros and
take no space; NAME.done, a byte a row, 1 where the row is there. Rows are on the disk before they are marked, so a
process killed at any moment loses its last block and no more. They are written by plain writes, not through a mapping:
a full disk is then an error and no crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alikit import console
from alikit.training.files import write_error

BLOCK = 500


class RowCache:
    """Rows by number.

    path    without ending;  count, width: of the matrix. Files of another size there are taken for damaged and begun
            again: the name must tell all else that decides the rows
    """

    def __init__(self, path: Path, count: int, width: int):
        self.matrix, self.marks = path.with_name(path.name + ".npy"), path.with_name(path.name + ".done")
        self.count, self.width = count, width
        header = _header(count, width)
        self._start, self._row = len(header), 4 * width
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._is_whole(header):
                self.matrix.write_bytes(header)
                os.truncate(self.matrix, self._start + count * self._row)
                self.marks.write_bytes(bytes(count))
        except OSError as error:
            raise write_error(self.matrix, error) from None

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The rows `indices`, (n, width) float32, in that order; they must have been filled."""
        mapped = np.memmap(self.matrix, np.float32, "r", self._start, (self.count, self.width))
        return mapped[indices]

    def fill(
        self, indices: np.ndarray, compute: Callable[[np.ndarray], np.ndarray], what: str = "", quiet: bool = True
    ) -> None:
        """Has those of the rows `indices` computed that are missing.

        compute   (m,) indices -> (m, width);  what, quiet: for the progress shown
        """
        done = np.fromfile(self.marks, np.uint8)
        missing = np.unique(indices[done[indices] == 0])
        starts = range(0, len(missing), BLOCK)
        try:
            for start in console.follow(starts, len(starts), f"{what}, {BLOCK} images at a time", quiet):
                part = missing[start : start + BLOCK]
                self._write(part, np.ascontiguousarray(compute(part), np.float32))
        except OSError as error:
            raise write_error(self.matrix, error) from None

    def _write(self, indices: np.ndarray, rows: np.ndarray) -> None:
        with self.matrix.open("r+b", buffering=0) as file:
            for index, row in zip(indices.tolist(), rows, strict=True):
                _write_all(file.fileno(), row.tobytes(), self._start + index * self._row)
            os.fsync(file.fileno())
        with self.marks.open("r+b", buffering=0) as file:
            for index in indices.tolist():
                _write_all(file.fileno(), b"\1", index)

    def _is_whole(self, header: bytes) -> bool:
        if not (self.matrix.exists() and self.marks.exists()):
            return False
        with self.matrix.open("rb") as file:
            same = file.read(self._start) == header
        size = self._start + self.count * self._row
        return same and self.matrix.stat().st_size == size and self.marks.stat().st_size == self.count


def _write_all(file: int, data: bytes, place: int) -> None:
    """Writes at a place; a disk that fills up takes a part first, and says why only when asked again."""
    while data:
        written = os.pwrite(file, data, place)
        data, place = data[written:], place + written


def _header(count: int, width: int) -> bytes:
    """That of a .npy file."""
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (count, width)})
    return buffer.getvalue()
