"""Both adversarial losses against their definition, where it can be computed, and at logits where it cannot."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu.loss import adversarial_losses


def by_definition(logits: np.ndarray) -> tuple[float, float]:
    """Cross entropies of D's probabilities s(l): of the right labels, and of the exchanged ones."""
    probability = 1 / (1 + np.exp(-logits))
    data, sample = np.split(probability, 2)
    loss_d = -np.log(data).mean() - np.log(1 - sample).mean()
    loss_g = -np.log(1 - data).mean() - np.log(sample).mean()
    return loss_d, loss_g


@pytest.mark.parametrize("shape", [(10,), (10, 1), (10, 1, 1, 1), (2, 1)])
def test_losses_and_probabilities_are_their_definition(shape: tuple[int, ...], stream: Callable) -> None:
    logits = 3 * stream("logits").standard_normal(shape)
    found = adversarial_losses(logits)
    assert (found.loss_d, found.loss_g) == pytest.approx(by_definition(logits), rel=1e-12)
    data, sample = np.split(1 / (1 + np.exp(-logits)), 2)
    assert (found.prob_data, found.prob_sample) == pytest.approx((data.mean(), sample.mean()), rel=1e-12)
    assert found.glogits_d.shape == found.glogits_g.shape == shape


def test_at_zero_both_losses_are_2_ln_2() -> None:
    found = adversarial_losses(np.zeros((6, 1)))
    assert found.loss_d == found.loss_g == pytest.approx(2 * math.log(2), rel=1e-15)
    assert found.prob_data == found.prob_sample == 0.5
    np.testing.assert_allclose(found.glogits_d[:, 0], [-1 / 6] * 3 + [1 / 6] * 3)
    np.testing.assert_allclose(found.glogits_g[:, 0], [1 / 6] * 3 + [-1 / 6] * 3)


@pytest.mark.parametrize(("loss", "gradient"), [("loss_d", "glogits_d"), ("loss_g", "glogits_g")])
def test_gradients_agree_with_differences(loss: str, gradient: str, stream: Callable, slope_along: Callable) -> None:
    logits, direction = 2 * stream("logits").standard_normal((14, 1)), stream("d").standard_normal((14, 1))
    numeric = slope_along(lambda moved: getattr(adversarial_losses(moved), loss), logits, direction)
    assert np.vdot(getattr(adversarial_losses(logits), gradient), direction) == pytest.approx(numeric, rel=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_stay_finite(dtype: type) -> None:
    right = adversarial_losses(np.array([1e4, 1e4, -1e4, -1e4], dtype))
    assert (right.loss_d, right.loss_g) == (0, 2e4)
    np.testing.assert_array_equal(right.glogits_d, 0)
    np.testing.assert_array_equal(right.glogits_g, [0.5, 0.5, -0.5, -0.5])
    wrong = adversarial_losses(np.array([-1e4, -1e4, 1e4, 1e4], dtype))
    assert (wrong.loss_d, wrong.loss_g) == (2e4, 0)
    np.testing.assert_array_equal(wrong.glogits_d, [-0.5, -0.5, 0.5, 0.5])
    np.testing.assert_array_equal(wrong.glogits_g, 0)
    assert {np.asarray(value).dtype for value in right} == {np.dtype(dtype)}


def test_small_gradients_keep_their_digits_in_float32() -> None:
    """s(30) - 1 is 0 in float32, but the gradient is -e^-30 / M and must not vanish."""
    logits = np.array([30, -30], np.float32)
    found = adversarial_losses(logits)
    np.testing.assert_allclose(found.glogits_d, [-math.exp(-30), math.exp(-30)], rtol=1e-6)
    np.testing.assert_allclose(found.loss_d, 2 * math.exp(-30), rtol=1e-6)


def test_float32_errs_by_rounding_only(stream: Callable) -> None:
    logits = (3 * stream("logits").standard_normal((200, 1))).astype(np.float32)
    for found, exact in zip(adversarial_losses(logits), adversarial_losses(logits.astype(np.float64)), strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-6)


def test_exchanging_the_halves_exchanges_the_losses(stream: Callable) -> None:
    logits = stream("logits").standard_normal((8, 1))
    found, exchanged = adversarial_losses(logits), adversarial_losses(np.roll(logits, 4, axis=0))
    assert found.losses[:2].tolist() == pytest.approx(exchanged.losses[1::-1].tolist(), rel=1e-14)


def test_nan_stays_visible() -> None:
    found = adversarial_losses(np.array([0.0, np.nan, 0.0, 0.0]))
    assert np.isnan(found.loss_d)
    assert np.isnan(found.loss_g)
    assert np.isnan(found.glogits_d).tolist() == [False, True, False, False]


@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (0, 1), ()])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"adversarial_losses: logits \(.*\) must be \(2M, 1, \.\.\.\)"):
        adversarial_losses(np.zeros(shape))
