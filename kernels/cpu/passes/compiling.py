"""Numba's decorator for the loops of this folder, and the folder on disk where their machine code is kept.

Numba's own has two gaps. Processes that compile at the same moment may take each other's code for their own, for it
knows no lock; and of the files that a loop is made of it looks at one for changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

try:
    from fcntl import LOCK_EX, flock
except ImportError:  # Windows, where Numba passes over files that another process is at
    flock = None  # type: ignore[assignment]

#: Of all files whose code may end up in a loop.
STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


class Kept(FunctionCache):
    """The machine code of one loop, for all processes: read and written by one at a time, made anew after a change."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, STAMP)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with self._alone():
            return super().load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        with self._alone():
            super().save_overload(sig, data)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The lock ends with the process that holds it."""
        if flock is None:
            yield
            return
        self._impl.locator.ensure_cache_path()
        # for reading, which is enough to lock it: it may be another user's
        lock = os.open(Path(self.cache_path) / "alikit.lock", os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            flock(lock, LOCK_EX)
            yield
        finally:
            os.close(lock)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`function`, compiled at its first call with arguments of a kind, and kept: it holds no interpreter's lock and
    divides as NumPy does."""
    loop = njit(nogil=True, error_model="numpy", **options)(function)
    with suppress(RuntimeError):  # no folder can be written: every process compiles for itself
        loop._cache = Kept(function)  # where njit(cache=True) would put a FunctionCache
    return loop
