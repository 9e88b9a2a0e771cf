"""Do the encoder's codes follow the prior? ALI wants the aggregate posterior E_x q(z | x) to be N(0, I).

What it looks like when it fails: a mean away from 0 or a deviation away from 1 (the decoder meets codes in training
that the encoder never gives, and the other way round), sigma near 1 with a constant mean (a dead dimension: it says
nothing about x, z is pure noise there), sigma near 0 everywhere (the encoder has become deterministic, which the paper
expects late in training).
"""

import math

import numpy as np

DEAD_SIGMA = 0.95
DEAD_VARIANCE = 0.05

#: by the standard library: to load SciPy's takes a fifth of a second, a fifth of a short run
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def latent_health(mu: np.ndarray | None, sigma: np.ndarray | None, z: np.ndarray) -> dict[str, float]:
    """Numbers about codes z ~ N(mu, sigma^2) of N data points in d dimensions.

    mu, sigma, z: (N, d), N at least 2. mu and sigma may both be None: the encoder of the 2-D mixture has none.

    mean_abs                    mean over dimensions of |mean of z|               0 under the prior
    std_mean, std_min, std_max  over dimensions, the standard deviation of z      1
    ks_mean, ks_max             over dimensions, the Kolmogorov-Smirnov distance between the values of z and N(0, 1);
                                about 0.87 / sqrt(N) for N draws from the prior itself, 1 at worst
    sigma_mean                  mean posterior deviation
    dead                        share of dimensions with mean sigma > 0.95 and variance of mu < 0.05: posterior = prior

    Codes that are not finite give NaN.
    """
    if z.ndim != 2 or len(z) < 2 or not z.shape[1]:
        raise ValueError(f"latent_health: z is {z.shape}; wanted (N, d) with N at least 2")
    with np.errstate(invalid="ignore", over="ignore"):
        std = z.std(axis=0, dtype=np.float64)
        ks = ks_to_normal(z)
        health = {
            "mean_abs": np.abs(z.mean(axis=0, dtype=np.float64)).mean(),
            "std_mean": std.mean(),
            "std_min": std.min(),
            "std_max": std.max(),
            "ks_mean": ks.mean(),
            "ks_max": ks.max(),
        }
        if mu is not None and sigma is not None:
            health |= _posterior_health(mu, sigma, z.shape)
    return {name: float(value) for name, value in health.items()}


def ks_to_normal(z: np.ndarray) -> np.ndarray:
    """z: (N, d) -> (d,) float64, the largest gap between each column's empirical distribution and that of N(0, 1)."""
    count = len(z)
    expected = _erfc(np.sort(z, axis=0).astype(np.float64) / -math.sqrt(2)) / 2
    # at a value the empirical distribution jumps from steps[i] to steps[i + 1]
    steps = np.arange(count + 1)[:, None] / count
    return np.maximum(steps[1:] - expected, expected - steps[:-1]).max(axis=0)


def _posterior_health(mu: np.ndarray, sigma: np.ndarray, shape: tuple[int, ...]) -> dict[str, float]:
    if mu.shape != shape or sigma.shape != shape:
        raise ValueError(f"latent_health: mu {mu.shape} and sigma {sigma.shape}; wanted {shape}, the shape of z")
    mean_sigma = sigma.mean(axis=0, dtype=np.float64)
    dead = (mean_sigma > DEAD_SIGMA) & (mu.var(axis=0, dtype=np.float64) < DEAD_VARIANCE)
    return {"sigma_mean": mean_sigma.mean(), "dead": dead.mean()}
