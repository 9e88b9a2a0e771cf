"""Dropout masks: what is kept, of which step they are remembered, and how cotangents find their rows."""

import sys
import threading

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu.activation import dropout
from alikit.kernels.cpu.masks import cotangents, keep_mask

COUNTERS = Counters(seed=3, step=41, stream=5)


def test_stretches_of_stacked_cotangents() -> None:
    assert list(cotangents(2, 3, 5)) == [(0, 2, 3)]
    assert list(cotangents(3, 16, 5)) == [(0, 3, 5), (1, 0, 5), (2, 0, 5), (3, 0, 1)]
    assert list(cotangents(5, 10, 5)) == [(1, 0, 5)]
    assert list(cotangents(4, 4, 5)) == []


def test_masks_of_several_threads() -> None:
    """Each asks for its own steps, and forgets the others'."""
    streams, wrong = range(40), []

    def ask(thread: int) -> None:
        for step in range(20):
            for stream in streams:
                record = Dropout(0.5, Counters(thread, step, stream))
                if not np.array_equal(keep_mask(record, 20), keep_mask(record, 20)):
                    wrong.append(record)
        finished.append(thread)

    finished: list[int] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(t,)) for t in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert (len(finished), wrong) == (3, [])


def test_the_masks_of_one_step_are_remembered_and_no_others() -> None:
    first, second = Dropout(0.5, COUNTERS), Dropout(0.5, COUNTERS._replace(stream=COUNTERS.stream + 1))
    later = Dropout(0.5, COUNTERS._replace(step=COUNTERS.step + 1))
    mask = keep_mask(first, 200)
    assert keep_mask(second, 200) is not mask
    assert keep_mask(first, 200) is mask
    assert np.shares_memory(keep_mask(first, 100), mask)
    np.testing.assert_array_equal(keep_mask(first, 100), mask[:100])
    drawn = mask.copy()
    assert not np.array_equal(keep_mask(later, 200), drawn)
    again = keep_mask(first, 200)
    assert again is not mask
    np.testing.assert_array_equal(again, drawn)
    longer = keep_mask(first, 300)
    assert len(longer) == 300
    np.testing.assert_array_equal(longer[:200], drawn)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_statistics(rate: float) -> None:
    size = 200_000
    y = dropout(np.ones(size, np.float32), Dropout(rate, COUNTERS))
    assert y.dtype == np.float32
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)
    keep = y > 0
    sigma = np.sqrt(rate * (1 - rate))
    assert abs(keep.mean() - (1 - rate)) < 4 * sigma / np.sqrt(size)
    for lane in range(16):  # every lane of a block by itself
        assert abs(keep[lane::16].mean() - (1 - rate)) < 4 * sigma / np.sqrt(size / 16)
    for lag in (1, 4, 16):
        assert abs(np.corrcoef(keep[:-lag], keep[lag:])[0, 1]) < 4 / np.sqrt(size)


def test_masks_of_other_counters_are_independent() -> None:
    first = dropout(np.ones(100_000), Dropout(0.5, COUNTERS)) > 0
    for other in (COUNTERS._replace(seed=4), COUNTERS._replace(step=42), COUNTERS._replace(stream=6)):
        second = dropout(np.ones(100_000), Dropout(0.5, other)) > 0
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(100_000)


def test_rates_at_the_ends() -> None:
    x = np.arange(1.0, 100)
    np.testing.assert_array_equal(dropout(x, Dropout(0.0, COUNTERS)), x)
    almost_all = dropout(x, Dropout(1 - 1e-9, COUNTERS))
    assert (almost_all == 0).sum() >= 98
