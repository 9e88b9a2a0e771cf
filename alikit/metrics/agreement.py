"""Do two sets of labels agree: a classifier's answers for images and for their reconstructions, say."""

import numpy as np


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """The share of equal labels: a, b (N,) classes or (N, K) attributes, N at least 1."""
    _check(a, b, 1)
    return float((a == b).mean())


def chance_agreement(a: np.ndarray, b: np.ndarray) -> float:
    """What `agreement` would be if each b belonged to another row: mean over all i != j of [a_i = b_j].

    a, b: (N,) classes or (N, K) attributes, N at least 2. The floor of `agreement`: a reconstruction that has nothing
    to do with its image reaches it. Counted over the labels' histograms, so it is exact and needs no random pairing.
    """
    _check(a, b, 2)
    count = len(a)
    columns_a, columns_b = a.reshape(count, -1).T, b.reshape(count, -1).T
    shares = [_equal_pairs(x, y) / (count * (count - 1)) for x, y in zip(columns_a, columns_b, strict=True)]
    return float(np.mean(shares))


def _equal_pairs(x: np.ndarray, y: np.ndarray) -> int:
    """How many pairs i != j have x_i = y_j."""
    labels = np.union1d(x, y)
    every = sum(int((x == label).sum()) * int((y == label).sum()) for label in labels)
    return every - int((x == y).sum())


def _check(a: np.ndarray, b: np.ndarray, least: int) -> None:
    if a.shape != b.shape or a.ndim not in (1, 2) or len(a) < least:
        raise ValueError(f"agreement: labels are {a.shape} and {b.shape}; wanted the same (N,) or (N, K), N >= {least}")
