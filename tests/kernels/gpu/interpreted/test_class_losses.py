"""The GPU's losses with K classes against the CPU's, at sizes around a tile, in padded pixels, and at the extremes."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.cpu import loss as cpu
from alikit.kernels.gpu import loss
from alikit.kernels.launch import recording


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows are several turns."""
    monkeypatch.setattr(loss, "CLASS_BLOCK", 8)


def draw(rng: np.random.Generator, pairs: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    logits = 3 * rng.standard_normal((2 * pairs + count, 1, 1, classes))
    return logits.astype(np.float32), np.eye(classes)[rng.integers(0, classes, count)].reshape(count, 1, 1, classes)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("pairs", "count", "classes"),
    [(1, 1, 2), (3, 1, 10), (3, 2, 10), (2, 5, 10), (7, 3, 4), (9, 7, 1), (15, 2, 17)],
)
def test_losses_and_gradients_are_the_cpu_s(
    pairs: int, count: int, classes: int, padded: bool, put: Callable, stream: Callable
) -> None:
    """Rows one below, at and one above a block of 8; classes that fill their pixels and that do not."""
    logits, labels = draw(stream("logits"), pairs, count, classes)
    found = loss.class_losses(put(logits, activation=padded), put(labels, activation=padded))
    wanted = cpu.class_losses(logits.astype(np.float64), labels)
    for name, a, b in zip(found._fields, found, wanted, strict=True):
        assert a.dtype == np.float32, name
        assert a.shape == b.shape, name
        np.testing.assert_allclose(device.to_host(a), b, rtol=5e-6, atol=1e-12, err_msg=name)


def test_labels_may_be_of_low_precision(put: Callable, stream: Callable) -> None:
    """As a run with bfloat16 has them: 0 and 1 are exact there, and the pixels are others than the logits'."""
    from ml_dtypes import bfloat16

    logits, labels = draw(stream("logits"), 3, 6, 5)
    given = put(logits, activation=True), put(labels, bfloat16, activation=True)
    found = device.to_host(loss.class_losses(*given).losses)
    np.testing.assert_allclose(found, cpu.class_losses(logits, labels).losses, rtol=5e-6)


def test_huge_logits_stay_finite(put: Callable) -> None:
    right = np.array([[1e4, 0], [-1e4, 1e4], [-1e4, -2e4]])
    found = loss.class_losses(put(right), put(np.array([[0.0, 1]])))
    np.testing.assert_array_equal(device.to_host(found.losses), [0, 2e4, 0, 1, 0, 1])
    np.testing.assert_array_equal(device.to_host(found.glogits), [[[0, 0]] * 3, [[1, 0], [0, 0], [-1, 0]]])
    wrong = np.array([[-1e4, -2e4], [1e4, -1e4], [1e4, 0]])
    found = loss.class_losses(put(wrong), put(np.array([[0.0, 1]])))
    np.testing.assert_array_equal(device.to_host(found.losses), [3e4, 0, 2e4, 0, 1, 0])
    np.testing.assert_array_equal(device.to_host(found.glogits), [[[-0.5, 0], [1, -1], [0.5, 0]], [[0, 0]] * 3])


@pytest.mark.parametrize("size", [1, 12, 60])
def test_small_numbers_keep_their_digits(size: float, put: Callable) -> None:
    """A label that is all but certain, beside one other class, and beside four (whose sum may exceed 1)."""
    small = math.exp(-size)
    for others in (1, 4):
        logits = np.full((3, 1 + others), -size)
        logits[1, 0] = 0
        found = loss.class_losses(put(logits), put(np.eye(1 + others)[[0]]))
        np.testing.assert_allclose(device.to_host(found.losses)[2], math.log1p(others * small), rtol=2e-6)
        wanted = np.full(1 + others, small / (1 + others * small))
        wanted[0] *= -others
        np.testing.assert_allclose(device.to_host(found.units)[1], wanted, rtol=2e-6)


def test_equal_logits(put: Callable) -> None:
    """The maximum is left out of the sum once, however often it stands there; a tie counts as right."""
    found = device.to_host(loss.class_losses(put(np.zeros((3, 5))), put(np.eye(5)[[3]])).losses)
    assert found[2] == pytest.approx(math.log(5), rel=1e-6)
    assert found[5] == 1


@pytest.mark.parametrize(("place", "losses"), [(0, [0, 1, 3]), (1, [0, 2]), (2, [0, 1, 4])])
def test_nan_stays_visible(place: int, losses: list[int], put: Callable) -> None:
    logits = np.zeros((3, 5))
    logits[place, 2] = np.nan
    found = loss.class_losses(put(logits, activation=True), put(np.eye(5)[[1]]))
    assert np.flatnonzero(np.isnan(device.to_host(found.losses))).tolist() == losses
    assert np.isnan(device.to_host(found.glogits[0])).all(axis=1).tolist() == [place == i for i in range(3)]


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 0], [0, 2, 0], [0.5, 0.5, 0], [1, -1, 1], [0, np.nan, 1]])
def test_a_label_that_is_not_one_hot_shows(label: list[float], put: Callable) -> None:
    labels = put(np.array([[0, 0, 1], label]), activation=True)
    found = loss.class_losses(put(np.zeros((4, 3)), activation=True), labels)
    assert np.flatnonzero(np.isnan(device.to_host(found.losses))).tolist() == [0, 2]


def test_it_is_one_launch_of_one_program(put: Callable) -> None:
    with recording() as launches:
        loss.class_losses(
            put(np.ones((10, 1, 1, 5)), activation=True),
            put(np.eye(5)[[0, 1, 2, 3]].reshape(4, 1, 1, 5), activation=True),
        )
    assert [x.grid for x in launches] == [(1, 1, 1)]
    assert launches[0].work.read == 10 * 5 * 4 + 4 * 5 * 4
    assert launches[0].work.written == 24 + 10 * (3 * 8 + 2 * 4) * 4  # whole pixels of 16 bytes


@pytest.mark.parametrize(
    ("logits", "labels"), [((4, 3), (1, 3)), ((3, 2, 3), (1, 2, 3)), ((4, 3), (0, 3)), ((3, 3), (1,))]
)
def test_wrong_shapes_are_named(logits: tuple[int, ...], labels: tuple[int, ...], put: Callable) -> None:
    with pytest.raises(ValueError, match=r"class_losses: logits \(.*\) must be \(2M \+ L, 1, \.\.\., K\)"):
        loss.class_losses(put(np.zeros(logits)), put(np.zeros(labels)))
