"""The order of the batches: permutations, reproducible from the step alone, different in every epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alikit.data import EpochOrder
from alikit.errors import UsageError


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 300), share=st.floats(0.01, 1.0), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_an_epoch_visits_every_image_once(n, share, seed, epoch):
    order = EpochOrder(n, max(1, int(n * share)), seed)
    first = epoch * order.steps_per_epoch
    batches = [order.batch_indices(first + i) for i in range(order.steps_per_epoch)]
    assert all(batch.dtype == np.int64 for batch in batches)
    assert [len(b) for b in batches[:-1]] == [order.batch_size] * (order.steps_per_epoch - 1)
    assert len(batches[-1]) == n - order.batch_size * (order.steps_per_epoch - 1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))


def test_any_step_can_be_reached_at_once():
    walked = EpochOrder(103, 10, seed=5)
    batches = [walked.batch_indices(step) for step in range(40)]
    for step in (39, 0, 11, 10, 22):
        np.testing.assert_array_equal(walked.batch_indices(step), batches[step])
        np.testing.assert_array_equal(EpochOrder(103, 10, seed=5).batch_indices(step), batches[step])


def test_epochs_and_seeds_differ():
    orders = [EpochOrder(50, 50, seed=seed).batch_indices(epoch).tolist() for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6


def test_every_place_is_equally_likely():
    """Image 0 lands in each tenth of the epoch about equally often: chi-square over 2000 epochs, 9 degrees."""
    order = EpochOrder(10, 10, seed=3)
    places = [int(np.flatnonzero(order.batch_indices(epoch) == 0)[0]) for epoch in range(2000)]
    counts = np.bincount(places, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # the 0.999 quantile


def test_the_order_is_the_same_on_every_machine():
    """A stored order: a run resumed after an upgrade, or elsewhere, must go on with the same batches."""
    assert EpochOrder(12, 12, seed=7).batch_indices(3).tolist() == [7, 1, 9, 6, 0, 11, 10, 4, 2, 8, 3, 5]


def test_a_batch_may_be_changed_by_its_owner():
    order = EpochOrder(20, 10, seed=0)
    wanted = order.batch_indices(0).tolist()
    order.batch_indices(0)[:] = -1
    assert order.batch_indices(0).tolist() == wanted


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match=r"batch of 101 is larger than the data \(100\)"):
        EpochOrder(100, 101, seed=0)


@pytest.mark.parametrize(("n", "batch", "seed"), [(0, 1, 0), (5, 0, 0), (5, -2, 0), (5, 2, -1)])
def test_nonsense_is_refused(n, batch, seed):
    with pytest.raises(ValueError, match="EpochOrder"):
        EpochOrder(n, batch, seed)
