"""Numba's decorator for the loops of this folder, and the folder on disk where their machine code is kept.

Numba's own has three gaps. Processes that compile at the same moment may take each other's code for their own, for it
knows no lock; of the files that a loop is made of it looks at one for changes; and it knows nothing of the vectors that
ours are written for, which follow from the processor whatever processor Numba is told to compile for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

from .vectors import BYTES, REGISTERS

try:
    from fcntl import LOCK_EX, flock
except ImportError:  # Windows, where Numba passes over files that another process is at
    flock = None  # type: ignore[assignment]

#: Of all files whose code may end up in a loop.
FILES = sorted(Path(__file__).parent.glob("[!.]*.py"))  # an editor's own files begin with a dot
STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in FILES)).hexdigest()


class Kept(FunctionCache):
    """The machine code of one loop, for all processes: read and written by one at a time, made anew after a change."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        name = f"{self._impl.filename_base}.{REGISTERS}x{BYTES}"  # processors beside each other in one folder
        self._cache_file = IndexDataCacheFile(self.cache_path, name, STAMP)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with self._alone() as alone:
            return super().load_overload(sig, target_context) if alone else None

    def save_overload(self, sig: Any, data: Any) -> None:
        with self._alone() as alone:
            if alone:
                super().save_overload(sig, data)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process is at the folder until the end; the lock ends with the process that holds it."""
        if flock is None:
            yield True
            return
        lock = self._lock()
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    def _lock(self) -> int | None:
        """The lock's file, once it is ours; None where there can be none, as on some network file systems."""
        with suppress(OSError), ExitStack() as opened:
            self._impl.locator.ensure_cache_path()
            path = Path(self.cache_path) / "alikit.lock"
            try:
                lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # for writing, without which NFS locks nothing
            except PermissionError:
                lock = os.open(path, os.O_RDONLY)  # another user's, which can be locked elsewhere
            opened.callback(os.close, lock)
            flock(lock, LOCK_EX)
            opened.pop_all()
            return lock
        return None


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`function`, compiled at its first call with arguments of a kind, and kept: it holds no interpreter's lock and
    divides as NumPy does."""
    loop = njit(nogil=True, error_model="numpy", **options)(function)
    with suppress(RuntimeError):  # no folder can be written: every process compiles for itself
        loop._cache = Kept(function)  # where njit(cache=True) would put a FunctionCache
    return loop
