"""The distance of codes from the prior: against a double loop, in closed cases, and on what other numbers miss."""

import math

import numpy as np
import pytest

from alikit.metrics.latent import latent_health
from alikit.metrics.prior import WIDTHS, mmd_to_normal


def by_loop(z: np.ndarray, prior: np.ndarray) -> float:
    """The unbiased estimate of MMD^2 with draws in place of both expectations over the prior."""
    d = z.shape[1]

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        total = 0.0
        for i, x in enumerate(a):
            gaps = ((b - x) ** 2).sum(axis=1)
            k = sum(np.exp(-gaps / (2 * w * w * d)) for w in WIDTHS) / len(WIDTHS)
            total += k.sum() - (k[i] if same else 0)
        return total / (len(a) * (len(b) - same))

    return mean(z, z, True) - 2 * mean(z, prior, False) + mean(prior, prior, True)


@pytest.mark.parametrize("d", [1, 3])
def test_against_a_loop_over_draws_from_the_prior(d: int, stream) -> None:
    z = 0.5 * stream("z").standard_normal((67, d)) + 0.4
    wanted = by_loop(z, stream("prior").standard_normal((3000, d)))
    assert mmd_to_normal(z) ** 2 == pytest.approx(wanted, abs=0.004)
    assert wanted > 0.03


def test_two_codes_by_hand() -> None:
    """d = 1, z = -1, 1: one pair, |gap|^2 = 4; each code |z|^2 = 1."""
    wanted = 0.0
    for w2 in (1.0, 0.25, 0.0625):
        pair, cross, prior = math.exp(-2 / w2), math.sqrt(w2 / (w2 + 1)) * math.exp(-0.5 / (w2 + 1)), w2 / (w2 + 2)
        wanted += (pair - 2 * cross + math.sqrt(prior)) / 3
    z = np.array([[-1.0], [1.0]])
    assert mmd_to_normal(z) == pytest.approx(math.sqrt(max(wanted, 0)), abs=1e-12)
    z = np.array([[3.0], [3.5]])
    wanted = sum(
        math.exp(-0.125 / w2)
        - math.sqrt(w2 / (w2 + 1)) * sum(math.exp(-(x**2) / 2 / (w2 + 1)) for x in (3.0, 3.5))
        + math.sqrt(w2 / (w2 + 2))
        for w2 in (1.0, 0.25, 0.0625)
    )
    assert mmd_to_normal(z) == pytest.approx(math.sqrt(wanted / 3), rel=1e-12)


def test_the_prior_itself_and_what_is_near_it(stream) -> None:
    z = stream("z").standard_normal((4000, 2)).astype(np.float32)
    assert mmd_to_normal(z) < 0.015
    assert mmd_to_normal(z + np.float32(0.1)) == pytest.approx(0.037, abs=0.012)
    assert mmd_to_normal(0 * z) == pytest.approx(0.7157, abs=1e-4)


def test_a_hole_that_each_dimension_by_itself_does_not_show(stream) -> None:
    """A checkerboard: every margin is N(0, 1), and half of the plane is empty."""
    z = stream("z").standard_normal((4000, 2))
    z[:, 1] = np.abs(z[:, 1]) * np.sign(np.sin(np.pi * z[:, 0])) * np.sign(z[:, 0] + 1e-9)
    holes = np.where((np.sign(z[:, 0]) * np.sign(z[:, 1]) > 0)[:, None], z, z * [1, -1])
    assert latent_health(None, None, holes)["ks_max"] < 0.04
    assert mmd_to_normal(holes) > 0.1


def test_order_and_blocks_do_not_matter(stream) -> None:
    z = 0.7 * stream("z").standard_normal((101, 2))
    assert mmd_to_normal(z[::-1]) == pytest.approx(mmd_to_normal(z), rel=1e-9)


def test_far_codes_and_codes_that_are_not_finite() -> None:
    far = np.array([[1e6, 0.0], [-1e6, 0.0], [0.0, 1e6]])
    assert mmd_to_normal(far) == pytest.approx(math.sqrt(sum(w**2 * 2 / (w**2 * 2 + 2) for w in WIDTHS) / 3))
    assert math.isnan(mmd_to_normal(np.array([[0.0, np.nan], [1.0, 1.0]])))


@pytest.mark.parametrize("shape", [(1, 2), (5,), (5, 0)])
def test_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mmd_to_normal: z is .*; wanted \(N, d\) with N at least 2"):
        mmd_to_normal(np.zeros(shape))
