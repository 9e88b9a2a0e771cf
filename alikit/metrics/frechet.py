"""The Frechet distance between two sets of feature vectors, each taken for a Gaussian (Heusel et al. 2017, eq. 6).

    d^2 = |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2)

It sees a shifted, shrunk or collapsed set, and nothing of what two Gaussians cannot tell: a set of copies of the
training data looks perfect. It is biased upwards by about d^2 / n, so it means something only beside its floor, two
real sets of the same sizes. On features of alikit's own classifier it is no FID: that name belongs to one Inception
network.
"""

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """a: (N, d), b: (M, d), N and M at least 2 -> d^2 of both sets' means and unbiased covariances, in float64.

    The trace of the root needs no matrix root but eigenvalues: S_a^1/2 S_b S_a^1/2 is symmetric, and its trace of the
    root is the sum of the roots of its eigenvalues. Rounding makes some of those that are 0 negative: they count as 0.
    """
    (mean_a, cov_a), (mean_b, cov_b) = _moments(a), _moments(b)
    if mean_a.shape != mean_b.shape:
        raise ValueError(f"frechet_distance: a is {a.shape}, b is {b.shape}; wanted as many columns")
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.clip(values, 0, None))  # a root of S_a up to a rotation, which the spectrum ignores
    inner = np.linalg.eigvalsh(root.T @ cov_b @ root)
    shift = np.square(mean_a - mean_b).sum()
    spread = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    return float(shift + max(spread, 0.0))  # rounding alone makes it negative


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and unbiased covariance (d, d) of x: (N, d), in float64."""
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"frechet_distance: features are {x.shape}; wanted (N, d) with N at least 2")
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)
