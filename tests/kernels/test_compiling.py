"""Compiled loops on disk: one process at a time, and none that is older than the files it was made of."""

import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import unprivileged

numba = pytest.importorskip("numba", reason="without Numba nothing is compiled")
fcntl = pytest.importorskip("fcntl", reason="without flock Numba's folder is as it is")

from alikit.kernels.cpu.passes import compiling  # noqa: E402  it needs Numba


def double(x):
    for i in range(x.size):
        x[i] *= 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return Path(compiling.compiled(double)._cache.cache_path)


def used(dtype: type) -> tuple[int, int]:
    """Hits and misses on disk of a new `double` that is called once."""
    loop = compiling.compiled(double)
    x = np.ones(3, dtype)
    loop(x)
    assert (x == 2).all()
    return sum(loop.stats.cache_hits.values()), sum(loop.stats.cache_misses.values())


def test_code_is_kept_for_each_kind_of_arguments(folder: Path) -> None:
    assert [used(np.float32), used(np.float64)] == [(0, 1)] * 2
    assert [used(np.float32), used(np.float64)] == [(1, 0)] * 2


def test_code_of_other_files_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used(np.float32)
    monkeypatch.setattr(compiling, "STAMP", "of files that have changed")
    assert used(np.float32) == (0, 1)


def test_code_for_other_vectors_is_kept_beside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba may have been told to compile for a processor that has neither's."""
    used(np.float32)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(compiling, "BYTES", 1024)
        assert [used(np.float32), used(np.float32)] == [(0, 1), (1, 0)]
    assert used(np.float32) == (1, 0)


def test_without_a_folder_every_process_compiles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl.__init__", refuse)
    loop, x = compiling.compiled(double), np.ones(3)
    loop(x)
    assert (x == 2).all()


@pytest.mark.parametrize("why", ["no locks", "another user's"])
def test_where_nothing_can_be_locked_nothing_is_kept(why: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's file system may know no locks; a lock that cannot be opened is like the folder here."""

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    if why == "no locks":
        monkeypatch.setattr(compiling, "flock", refuse)
    else:
        (folder / "alikit.lock").mkdir(parents=True)
    assert [used(np.float32), used(np.float32)] == [(0, 1)] * 2


def test_who_compiles_waits_for_another_process(folder: Path) -> None:
    done = threading.Event()

    def use() -> None:
        used(np.float32)
        done.set()

    with open(folder / "alikit.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=use)
        thread.start()
        assert not done.wait(2)
    assert done.wait(60)
    thread.join()


def test_a_lock_that_may_only_be_read_is_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where users share a folder, all but one find a file of another's."""
    with tempfile.TemporaryDirectory() as shared:
        monkeypatch.setattr(numba.config, "CACHE_DIR", shared)
        kept = compiling.compiled(double)._cache
        lock = Path(kept.cache_path) / "alikit.lock"
        lock.touch(0o444)
        for folder in (lock.parent, lock.parent.parent):
            folder.chmod(0o777)
        with unprivileged(), kept._alone() as alone, open(lock) as other:
            assert alone
            with pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_of_one_s_own_may_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS locks no file that may not."""

    def flock(lock: int, how: int) -> None:
        if fcntl.fcntl(lock, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        fcntl.flock(lock, how)

    monkeypatch.setattr(compiling, "flock", flock)
    assert [used(np.float32), used(np.float32)] == [(0, 1), (1, 0)]
