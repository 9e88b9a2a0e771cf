"""How far the codes' aggregate is from the prior N(0, I), as a maximum mean discrepancy (Gretton et al. 2012).

    MMD^2 = E k(z, z') - 2 E k(z, p) + E k(p, p'),      z, z' codes, p, p' draws from N(0, I)

It sees any difference between the two distributions, a hole between clusters of codes included, which the mean, the
deviation and each dimension's own distribution miss. The kernel is a mean of three Gaussians exp(-|a - b|^2 / 2 w^2),
with w from the size of the prior itself, sqrt(d), down to a quarter of it. For a Gaussian kernel both expectations over
the prior are known, so that nothing is drawn and no seed is needed:

    E k(z, p) = (w^2 / (w^2 + 1))^(d/2) exp(-|z|^2 / 2 (w^2 + 1))        E k(p, p') = (w^2 / (w^2 + 2))^(d/2)
"""

import math

import numpy as np

#: widths of the kernel's Gaussians over sqrt(d); each half the one before, which `_gram_mean` counts on
WIDTHS = (1.0, 0.5, 0.25)
_ROWS = 32  # of the Gram matrix at a time: what fits a cache
_FAR = -40.0  # smallest exponent: beyond lie powers so small that processors slow down


def mmd_to_normal(z: np.ndarray) -> float:
    """z: (N, d) codes, N at least 2 -> the root of the unbiased estimate of MMD^2 to N(0, I); 0 where that is negative.

    In two dimensions below 0.01 for 10,000 draws from the prior, 0.04 for draws shifted or stretched by a tenth, 0.72
    for codes that are all 0. Codes that are not finite give NaN.
    """
    if z.ndim != 2 or len(z) < 2 or not z.shape[1]:
        raise ValueError(f"mmd_to_normal: z is {z.shape}; wanted (N, d) with N at least 2")
    if not np.isfinite(z).all():
        return math.nan
    z = z.astype(np.float64)
    d = z.shape[1]
    squares = np.square(z).sum(axis=1)
    cross = prior = 0.0
    for share in WIDTHS:
        w = share**2 * d
        cross += (w / (w + 1)) ** (d / 2) * np.exp(-squares / (2 * (w + 1))).mean() / len(WIDTHS)
        prior += (w / (w + 2)) ** (d / 2) / len(WIDTHS)
    return math.sqrt(max(0.0, _gram_mean(z, squares) - 2 * cross + prior))


def _gram_mean(z: np.ndarray, squares: np.ndarray) -> float:
    """The mean of k(z_i, z_j) over i != j. Half the width is the fourth power of a Gaussian: one exp serves all."""
    count, total = len(z), 0.0
    scale = -1 / (2 * WIDTHS[0] ** 2 * z.shape[1])
    for a in range(0, count, _ROWS):
        rows, later = slice(a, a + _ROWS), slice(a, None)  # the matrix is symmetric
        k = squares[rows, None] + squares[later] - 2 * (z[rows] @ z[later].T)
        k *= scale
        np.exp(np.maximum(k, _FAR, out=k), out=k)
        for share in WIDTHS:
            total += float(2 * k.sum() - k[:, :_ROWS].sum())
            if share != WIDTHS[-1]:
                k *= k
                k *= k
    return (total / len(WIDTHS) - count) / (count * (count - 1))  # but for rounding, k(z_i, z_i) = 1
