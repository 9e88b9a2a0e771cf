"""The losses with K classes of data against a loop that anyone can read, and at logits where it cannot be computed."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu.loss import adversarial_losses, class_losses

PARTS = ("loss_d", "loss_g", "loss_label", "prob_data", "prob_sample", "right")


def by_definition(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """By probabilities of K + 1 classes, the last with the logit 0, row by row."""
    count, rows = len(labels), logits.reshape(len(logits), -1)
    pairs = (len(rows) - count) // 2
    found = dict.fromkeys(PARTS, 0.0)
    for i, row in enumerate(rows):
        power = [math.exp(v) for v in row]
        real = sum(power) / (1 + sum(power))
        if pairs <= i < pairs + count:
            label = labels[i - pairs].argmax()
            found["loss_label"] -= math.log(power[label] / sum(power)) / count
            found["right"] += (power[label] == max(power)) / count
            continue
        data = i < pairs
        found["prob_data" if data else "prob_sample"] += real / pairs
        found["loss_d"] -= math.log(real if data else 1 - real) / 2 / pairs
        found["loss_g"] -= math.log(1 - real if data else real) / pairs
    found["loss_d"] += found["loss_label"]
    return list(found.values())


def draw(rng: np.random.Generator, pairs: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    logits = 2 * rng.standard_normal((2 * pairs + count, 1, 1, classes))
    return logits, np.eye(classes)[rng.integers(0, classes, count)].reshape(count, 1, 1, classes)


SIZES = [(1, 1, 2), (3, 2, 4), (2, 5, 10), (4, 3, 1)]


@pytest.mark.parametrize(("pairs", "count", "classes"), SIZES)
def test_losses_are_their_definition(pairs: int, count: int, classes: int, stream: Callable) -> None:
    logits, labels = draw(stream("logits"), pairs, count, classes)
    found = class_losses(logits, labels)
    assert found.losses.tolist() == pytest.approx(by_definition(logits, labels), rel=1e-12, abs=1e-14)
    assert found.loss_d == found.losses[0]
    assert found.loss_g == found.losses[1]
    assert found.glogits.shape == (2, *logits.shape)
    assert found.units.shape == logits.shape
    assert found.weights.shape == (2, *logits.shape[:-1], 1)


@pytest.mark.parametrize(("pairs", "count", "classes"), SIZES)
@pytest.mark.parametrize("which", [0, 1])
def test_gradients_agree_with_differences(
    which: int, pairs: int, count: int, classes: int, stream: Callable, slope_along: Callable
) -> None:
    logits, labels = draw(stream("logits"), pairs, count, classes)
    direction = stream("direction").standard_normal(logits.shape)
    numeric = slope_along(lambda moved: class_losses(moved, labels).losses[which], logits, direction)
    assert np.vdot(class_losses(logits, labels).glogits[which], direction) == pytest.approx(numeric, rel=1e-7, abs=1e-8)


def test_both_gradients_are_one_row_s_gradient_weighed_in_two_ways(stream: Callable) -> None:
    logits, labels = draw(stream("logits"), 3, 4, 5)
    found = class_losses(logits, labels)
    np.testing.assert_allclose(found.glogits, found.weights * found.units, rtol=1e-14)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    softmax[3:7] -= labels
    np.testing.assert_allclose(found.units, softmax, rtol=1e-12)
    assert not found.glogits[1, 3:7].any()  # the generators have no part in the labels


def test_one_class_is_the_binary_game(stream: Callable) -> None:
    """Z is then the only logit, and a label says nothing."""
    logits, labels = draw(stream("logits"), 4, 2, 1)
    found, unlabelled = class_losses(logits, labels), adversarial_losses(np.delete(logits, [4, 5], axis=0))
    assert found.loss_d == pytest.approx(unlabelled.loss_d / 2, rel=1e-14)
    assert found.loss_g == pytest.approx(unlabelled.loss_g, rel=1e-14)
    assert found.losses[2] == 0
    assert found.losses[3:5].tolist() == pytest.approx(unlabelled.losses[2:].tolist(), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_stay_finite(dtype: type) -> None:
    """One pair each, two classes: D is as sure as it can be, first rightly, then wrongly."""
    right = np.array([[1e4, 0], [-1e4, 1e4], [-1e4, -2e4]], dtype)
    found = class_losses(right, np.array([[0, 1]], dtype))
    np.testing.assert_array_equal(found.losses, [0, 2e4, 0, 1, 0, 1])
    np.testing.assert_array_equal(found.glogits[0], np.zeros((3, 2)))
    np.testing.assert_array_equal(found.glogits[1], [[1, 0], [0, 0], [-1, 0]])
    wrong = np.array([[-1e4, -2e4], [1e4, -1e4], [1e4, 0]], dtype)
    found = class_losses(wrong, np.array([[0, 1]], dtype))
    np.testing.assert_array_equal(found.losses, [3e4, 0, 2e4, 0, 1, 0])
    np.testing.assert_array_equal(found.glogits[0], [[-0.5, 0], [1, -1], [0.5, 0]])
    np.testing.assert_array_equal(found.glogits[1], np.zeros((3, 2)))
    assert {np.asarray(part).dtype for part in found} == {np.dtype(dtype)}


def test_small_numbers_keep_their_digits_in_float32() -> None:
    """A label nearly certain: its loss e^-30 and its gradient -e^-30 are below the rounding of 1."""
    logits = np.array([[30, -10], [30, 0], [-30, -35]], np.float32)
    found = class_losses(logits, np.array([[1, 0]], np.float32))
    small = math.exp(-30)
    np.testing.assert_allclose(found.losses[2], small, rtol=1e-6)
    np.testing.assert_allclose(found.glogits[0, 1], [-small, small], rtol=1e-6)
    sample = math.exp(-30) + math.exp(-35)
    np.testing.assert_allclose(found.losses[0], small + (small + sample) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.glogits[0, 2].sum(), sample / 2, rtol=1e-6)
    np.testing.assert_allclose(found.glogits[0, 0], [-small / 2, 0], rtol=1e-6, atol=1e-16)


def test_float32_errs_by_rounding_only(stream: Callable) -> None:
    logits, labels = draw(stream("logits"), 70, 60, 10)
    logits = logits.astype(np.float32)
    for found, exact in zip(class_losses(logits, labels), class_losses(logits.astype(float), labels), strict=True):
        np.testing.assert_allclose(found, exact, rtol=5e-6, atol=1e-12)


@pytest.mark.parametrize(("place", "losses"), [(0, [0, 1, 3]), (1, [0, 2]), (2, [0, 1, 4])])
def test_nan_stays_visible(place: int, losses: list[int]) -> None:
    logits = np.zeros((3, 4))
    logits[place, 2] = np.nan
    found = class_losses(logits, np.eye(4)[[1]])
    assert np.flatnonzero(np.isnan(found.losses)).tolist() == losses
    assert np.isnan(found.glogits[0]).all(axis=1).tolist() == [place == i for i in range(3)]


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        *[((4, 3), (1, 3)), ((3, 3), (3, 3)), ((3, 2, 3), (1, 2, 3)), ((3,), (1,)), ((4, 3), (0, 3)), ((5, 0), (1, 0))],
        *[((3, 3), (1,)), ((3, 3), (1, 2)), ((3, 1, 3), (1, 3)), ((), ()), ((2, 3), (2, 3))],
    ],
)
def test_wrong_shapes_are_named(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError,
        match=r"class_losses: logits \(.*\) must be \(2M \+ L, 1, \.\.\., K\).* labels \(.*\): \(L, 1, \.\.\., K\)",
    ):
        class_losses(np.zeros(logits), np.zeros(labels))


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 0], [0, 2, 0], [0.5, 0.5, 0], [1, -1, 1], [0, np.nan, 1]])
def test_a_label_that_is_not_one_hot_is_refused(label: list[float]) -> None:
    with pytest.raises(ValueError, match="class_losses: a row of labels is not one-hot"):
        class_losses(np.zeros((4, 3)), np.array([[0, 0, 1], label]))
