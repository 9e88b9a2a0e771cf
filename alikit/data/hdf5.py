"""Writing an HDF5 file whole or not at all, also on a full disk.

The file gets a temporary name in its own folder, is synced, then renamed. HDF5 itself must not meet a full disk: it
cannot close a file that it could not write, and crashes the process (seen with HDF5 2.0 and h5py 3.16). So it
writes through a Python file that never reports an error to it and keeps the first one for us.
"""

import io
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ABANDONED = 3600.0  # seconds without a write, after which a temporary file's writer is taken for dead


@contextmanager
def whole_file(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A new h5py.File, in place under `path` when the block ends without an error, and a function `check` that
    raises as soon as the disk has refused a write, for long blocks to call. OSError where folder or disk refuse.

    >>> with whole_file(path) as (file, check):
    ...     file["images"] = images
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with _Sink(temporary, "x+") as sink:
            # the newest layout has checksums on HDF5's own structures
            with h5py.File(sink, "w", libver="latest") as file:
                yield file, sink.check
            sink.check()
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Sink(io.FileIO):
    """A file that takes every write; after the first error it drops them. See the top of this page."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def _sweep(path: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            left.unlink(missing_ok=True)
