import errno
import os
from pathlib import Path

import numpy as np
import pytest

from alikit.errors import AlikitError
from alikit.scoring import rows
from alikit.scoring.rows import RowCache

WIDTH = 5
ROWS = np.random.default_rng(0).normal(size=(20, WIDTH)).astype(np.float32)


class Counted:
    """Computes rows and notes which."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        self.asked += indices.tolist()
        return ROWS[indices]


def test_rows_are_computed_once_and_come_in_the_order_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 2)
    compute, wanted = Counted(), np.array([7, 3, 19, 3, 0])
    cache = RowCache(tmp_path / "deep" / "f", 20, WIDTH)
    cache.fill(wanted, compute)
    np.testing.assert_array_equal(cache.rows(wanted), ROWS[wanted])
    assert compute.asked == [0, 3, 7, 19]
    again = RowCache(tmp_path / "deep" / "f", 20, WIDTH)
    again.fill(np.array([3, 4]), compute)
    assert compute.asked == [0, 3, 7, 19, 4]
    np.testing.assert_array_equal(again.rows(np.array([4, 19])), ROWS[[4, 19]])


def test_numpy_reads_the_file(tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "f", 20, WIDTH)
    cache.fill(np.arange(20), Counted())
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), ROWS)
    assert (tmp_path / "f.done").read_bytes() == b"\1" * 20


def test_rows_before_a_failure_are_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 4)

    def stop(indices: np.ndarray) -> np.ndarray:
        if 8 in indices:
            raise KeyboardInterrupt
        return ROWS[indices]

    with pytest.raises(KeyboardInterrupt):
        RowCache(tmp_path / "f", 20, WIDTH).fill(np.arange(20), stop)
    compute = Counted()
    cache = RowCache(tmp_path / "f", 20, WIDTH)
    cache.fill(np.arange(20), compute)
    assert compute.asked == list(range(8, 20))
    np.testing.assert_array_equal(cache.rows(np.arange(20)), ROWS)


def test_a_row_is_marked_only_when_it_is_there(tmp_path: Path, monkeypatch) -> None:
    """The disk fills up within a row."""
    cache, pwrite = RowCache(tmp_path / "f", 20, WIDTH), os.pwrite

    def full(file: int, data: bytes, place: int) -> int:
        if place >= 200:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data[:7], place)  # a part at a time, as a disk may

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(AlikitError, match=r"cannot write .*f\.npy: No space left on device; free some space"):
        cache.fill(np.arange(20), Counted())
    assert (tmp_path / "f.done").read_bytes() == bytes(20)
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: pwrite(file, data[:7], place))
    cache.fill(np.arange(20), Counted())
    np.testing.assert_array_equal(cache.rows(np.arange(20)), ROWS)


@pytest.mark.parametrize("damage", ["matrix cut", "marks cut", "other width", "no matrix"])
def test_damaged_files_are_begun_again(damage: str, tmp_path: Path) -> None:
    RowCache(tmp_path / "f", 20, WIDTH + (damage == "other width")).fill(
        np.arange(20), lambda i: np.zeros((len(i), WIDTH + (damage == "other width")))
    )
    if damage.endswith("cut"):
        os.truncate(tmp_path / ("f.npy" if "matrix" in damage else "f.done"), 7)
    elif damage == "no matrix":
        (tmp_path / "f.npy").unlink()
    cache, compute = RowCache(tmp_path / "f", 20, WIDTH), Counted()
    cache.fill(np.arange(20), compute)
    assert len(compute.asked) == 20
    np.testing.assert_array_equal(cache.rows(np.arange(20)), ROWS)


def test_a_folder_that_cannot_be_written(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match=r"cannot write .*choose a folder that you may write to"):
        RowCache(readonly_folder / "f", 20, WIDTH)
