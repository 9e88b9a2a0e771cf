import math

import numpy as np
import pytest
from scipy.stats import kstest

from alikit.metrics.latent import ks_to_normal, latent_health

RNG = np.random.default_rng(9)
N, D = 2000, 12


def draw(mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return (mu + sigma * RNG.standard_normal(mu.shape)).astype(np.float32)


def test_codes_from_the_prior_look_healthy() -> None:
    mu, sigma = 0.8 * RNG.standard_normal((N, D)), np.full((N, D), 0.6)
    health = latent_health(mu, sigma, draw(mu, sigma))
    assert health["mean_abs"] < 0.05
    assert 0.93 < health["std_min"] <= health["std_mean"] <= health["std_max"] < 1.07
    assert health["ks_mean"] == pytest.approx(0.87 / math.sqrt(N), rel=0.25)
    assert health["ks_max"] < 0.05
    assert health["sigma_mean"] == pytest.approx(0.6)
    assert health["dead"] == 0
    assert all(type(value) is float for value in health.values())


def test_ks_agrees_with_scipy() -> None:
    z = np.concatenate([RNG.standard_normal((300, 2)), np.full((40, 2), 0.25)])  # ties too
    z[:, 1] = 0.5 * z[:, 1] - 1
    assert ks_to_normal(z) == pytest.approx([kstest(column, "norm").statistic for column in z.T], rel=1e-12)


def test_ks_of_two_points_by_hand() -> None:
    # below both values the empirical distribution is 0, the normal one 0.5: the gap is just under the first value
    assert ks_to_normal(np.zeros((2, 1))) == pytest.approx([0.5])
    assert ks_to_normal(np.array([[-40.0], [-40.0]])) == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("spread", "shift", "key", "value"),
    [
        (1.0, 0.7, "mean_abs", 0.7),
        (1.0, -0.7, "mean_abs", 0.7),
        (3.0, 0.0, "std_mean", 3.0),
        (0.0, 0.0, "std_max", 0.0),
    ],
)
def test_each_sickness_shows(spread: float, shift: float, key: str, value: float) -> None:
    z = spread * RNG.standard_normal((N, D)) + shift
    health = latent_health(None, None, z)
    assert health[key] == pytest.approx(value, abs=0.1)
    assert health["ks_mean"] > 0.2


def test_means_of_opposite_sign_do_not_cancel() -> None:
    z = RNG.standard_normal((N, 2)) + np.array([3.0, -3.0])
    assert latent_health(None, None, z)["mean_abs"] == pytest.approx(3.0, abs=0.1)


def test_one_bad_dimension_is_not_averaged_away() -> None:
    z = RNG.standard_normal((N, 50))
    z[:, 17] *= 0.01
    health = latent_health(None, None, z)
    assert health["std_min"] < 0.02
    assert health["ks_max"] > 0.4


def test_dead_dimensions_need_a_wide_posterior_and_a_still_mean() -> None:
    mu = RNG.standard_normal((N, 4)) * (0.1, 0.1, 0.5, 0.5)
    sigma = np.tile([1.0, 0.5, 1.0, 0.5], (N, 1))  # only the first is both
    mu[:, 0] += 2.0  # a constant mean still says nothing about x
    assert latent_health(mu, sigma, draw(mu, sigma))["dead"] == 0.25


def test_thresholds_of_a_dead_dimension() -> None:
    mu = np.tile([[0.21], [-0.21]], (50, 1)) * np.ones((1, 4)) * (1, 1.1, 1, 1.1)  # variances 0.0441 and 0.0534
    sigma = np.tile([0.951, 0.951, 0.949, 0.949], (100, 1))
    assert latent_health(mu, sigma, mu)["dead"] == 0.25


def test_a_mean_far_away_costs_no_digits() -> None:
    z = (np.float32(3000) + RNG.standard_normal((50_000, 2))).astype(np.float32)
    health = latent_health(None, None, z)
    assert health["mean_abs"] == pytest.approx(z.astype(np.float64).mean(axis=0).mean(), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_codes_that_are_not_finite_give_nan_and_no_warning(value: float) -> None:
    z = RNG.standard_normal((20, 3))
    z[4, 1] = value
    health = latent_health(None, None, z)
    assert math.isnan(health["std_mean"])
    assert not math.isfinite(health["mean_abs"])


@pytest.mark.parametrize("shape", [(5,), (1, 3), (4, 0), (2, 2, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(N, d\)"):
        latent_health(None, None, np.zeros(shape))


def test_mu_and_sigma_must_fit() -> None:
    with pytest.raises(ValueError, match="the shape of z"):
        latent_health(np.zeros((4, 2)), np.zeros((4, 3)), np.zeros((4, 2)))
