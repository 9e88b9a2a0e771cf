"""The sets that are drawn: the mixture of 25 Gaussians, and house numbers as a data set."""

import numpy as np
import pytest

from alikit.data import open_dataset, synthetic
from alikit.data.drawn import LENGTHS
from alikit.data.mixture import MEANS, SIGMA


def test_the_mixture_is_the_papers():
    train = open_dataset("mixture")
    assert (len(train), train.shape, train.array.dtype) == (100_000, (2,), np.float32)
    assert sorted(map(tuple, MEANS.tolist())) == [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]
    counts = np.bincount(train.labels, minlength=25)
    assert ((counts - 4000) ** 2 / 4000).sum() < 51.2  # chi-square, 24 degrees, the 0.999 quantile
    off = train.array.astype(np.float64) - MEANS[train.labels]
    assert abs(off.mean()) < 5 * SIGMA / 200_000**0.5
    np.testing.assert_allclose(np.cov(off.T), SIGMA**2 * np.eye(2), atol=5 * SIGMA**2 * (2 / 100_000) ** 0.5)


def test_the_mixtures_splits_and_seeds_are_different_draws():
    sets = [open_dataset("mixture", split=split, seed=seed) for split in ("train", "valid") for seed in (0, 1)]
    assert len({dataset.checksum for dataset in sets}) == 4
    assert len({point.tobytes() for dataset in sets for point in dataset.array[:2000]}) == 8000
    again = open_dataset("mixture", split="valid", seed=1)
    np.testing.assert_array_equal(again.array, sets[3].array)
    assert again.checksum == sets[3].checksum


def open_drawn(split="train", seed=0):
    return open_dataset("svhn", data="synthetic", split=split, seed=seed)


def test_house_numbers_are_svhn_in_form():
    train = open_drawn()
    assert (len(train), train.shape) == (73_257, (32, 32, 3))
    assert len(open_drawn("test")) == 26_032
    batch = train.take([73_256, 5, 5])
    assert (batch.shape, batch.dtype) == ((3, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(batch[1], batch[2])
    assert train.labels_of([5]).dtype == np.uint8
    assert train.array is None
    assert train.labels is None
    assert [tuple(name) for name in train.label_names] == [(digit,) for digit in "0123456789"]
    with pytest.raises(IndexError, match="outside"):
        train.take([73_257])


def test_splits_are_stretches_of_one_sequence():
    first = 0
    for split, count in LENGTHS.items():
        dataset = open_drawn(split, seed=3)
        for index in (0, count - 1):
            image, label = synthetic.draw(3, first + index)
            np.testing.assert_array_equal(dataset.take([index])[0], image)
            assert dataset.labels_of([index]) == [label]
        first += count


def test_the_order_of_asking_does_not_matter_and_nothing_is_drawn_twice(monkeypatch):
    one, other = open_drawn(seed=1), open_drawn(seed=1)
    digits = one.labels_of(range(20))
    calls = []
    draw = synthetic.draw
    monkeypatch.setattr(synthetic, "draw", lambda seed, index: calls.append(index) or draw(seed, index))
    np.testing.assert_array_equal(one.take(range(20)), other.take(range(19, -1, -1))[::-1])
    assert len(calls) == len(set(calls)) <= 20
    np.testing.assert_array_equal(other.labels_of(range(20)), digits)


def test_checksums_tell_draws_apart():
    sums = {open_drawn(split, seed).checksum for split in ("train", "test") for seed in (0, 1)}
    assert len(sums) == 4
    assert open_drawn().checksum in sums
