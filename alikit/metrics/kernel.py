"""The kernel distance between two sets of feature vectors: unbiased squared maximum mean discrepancy, cubic kernel.

    MMD^2 = mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j),
    k(x, y) = (x . y / d + 1)^3

The kernel of KID (Binkowski et al. 2018). Unlike the Frechet distance it has no bias for small sets: for two draws from
one distribution it scatters around 0, and may be negative. All pairs are summed here instead of random subsets of
1,000, which is exact and needs no seed. Its scale is that of the features: standardise them first.
"""

import numpy as np

BLOCK = 2048


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """a: (N, d), b: (M, d), N and M at least 2 -> unbiased MMD^2 with the cubic kernel, in float64."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"kernel_distance: a is {a.shape}, b is {b.shape}; wanted (N, d) and (M, d), at least 2 each")
    a, b = a.astype(np.float64), b.astype(np.float64)
    within = sum(_sum_off_diagonal(x) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2 * _sum(a, b) / (len(a) * len(b)))


def _sum(a: np.ndarray, b: np.ndarray) -> float:
    """The sum of k over all pairs, block by block: the matrix itself may not fit into memory."""
    return sum(float(_kernel(a[i : i + BLOCK] @ b.T, a.shape[1]).sum()) for i in range(0, len(a), BLOCK))


def _sum_off_diagonal(x: np.ndarray) -> float:
    return _sum(x, x) - float(_kernel(np.square(x).sum(axis=1), x.shape[1]).sum())


def _kernel(products: np.ndarray, d: int) -> np.ndarray:
    return (products / d + 1) ** 3
