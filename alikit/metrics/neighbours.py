"""Scores by nearest neighbours: fidelity and diversity apart, two-sample accuracy, and who copied whom.

Precision and recall (Kynkaanniemi et al. 2019) ask which share of one set lies inside the other's manifold, a union of
balls that reach to each point's k-th neighbour. Density and coverage (Naeem et al. 2020) do the same in a way that one
outlier's huge ball cannot spoil. None of the four is 1 for two draws from one distribution: read them beside a floor.

The leave-one-out 1-NN two-sample test (Lopez-Paz & Oquab 2017) classifies each point by its nearest neighbour in the
union of both sets: 0.5 where they are alike, 1 where they lie apart, and clearly below 0.5 where one set copies the
other, which no other score here sees.
"""

from collections.abc import Iterable

import numpy as np

BLOCK = 1024
K = 5


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = K) -> dict[str, float]:
    """real: (N, d), fake: (M, d), both longer than k ->

    precision   share of the fakes that lie in a ball of the real points (fidelity)
    recall      share of the real points that lie in a ball of the fakes (diversity)
    density     real balls that a fake lies in, over k, on average: may exceed 1
    coverage    share of the real balls that hold a fake

    A ball of a point reaches to its k-th nearest neighbour in its own set and does not hold its rim.
    """
    _check("precision_recall", real, fake, k)
    radii_real, radii_fake = _radii(real, k), _radii(fake, k)
    inside = np.zeros(len(fake), np.int64)  # real balls around each fake
    recalled, covered = [], []
    for start in range(0, len(real), BLOCK):
        squares = squared_distances(real[start : start + BLOCK], fake)
        within = squares < radii_real[start : start + BLOCK, None]
        inside += within.sum(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((squares < radii_fake).any(axis=1))
    return {
        "precision": float((inside > 0).mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": float(inside.mean() / k),
        "coverage": float(np.concatenate(covered).mean()),
    }


def two_sample(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """real: (N, d), fake: (M, d), at least 2 each, of about the same length ->

    accuracy        of the leave-one-out 1-NN classifier, the mean of the two below
    accuracy_real   share of the real points whose nearest neighbour is real
    accuracy_fake   share of the fakes whose nearest neighbour is fake

    At equal distances the point of the other set is the nearer one: an exact copy counts as found out.
    """
    _check("two_sample", real, fake, 1)
    real_is_real = _radii(real, 1) < nearest(real, fake)[1]
    fake_is_fake = _radii(fake, 1) < nearest(fake, real)[1]
    of_real, of_fake = float(real_is_real.mean()), float(fake_is_fake.mean())
    return {"accuracy": (of_real + of_fake) / 2, "accuracy_real": of_real, "accuracy_fake": of_fake}


def nearest(queries: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """queries: (N, ...), pool: (M, ...) -> the index of each query's nearest point of the pool (N,), and the squared
    Euclidean distance to it (N,) in float64. Of points at one distance the first wins."""
    return nearest_in_blocks(queries, (pool[start : start + BLOCK] for start in range(0, len(pool), BLOCK)))


def nearest_in_blocks(queries: np.ndarray, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` in a pool that comes in pieces (m, ...), one after another: it may be larger than the memory."""
    flat = queries.reshape(len(queries), -1)
    best, index, start = np.full(len(flat), np.inf), np.zeros(len(flat), np.int64), 0
    for block in blocks:
        squares = squared_distances(flat, block.reshape(len(block), -1))
        here = squares.argmin(axis=1)
        value = squares[np.arange(len(flat)), here]
        closer = value < best
        best[closer], index[closer] = value[closer], start + here[closer]
        start += len(block)
    return index, best


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a: (N, d), b: (M, d) -> (N, M) float64, |a_i - b_j|^2 as |a|^2 + |b|^2 - 2 a . b.

    That sum cancels where points lie near one another and far from 0: both are measured from a point in their midst,
    and what is left of a cancellation is 0, so that equal points are at distance 0 and tie.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    lengths = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    squares = lengths - 2 * (a @ b.T)
    squares[squares < 1e-12 * lengths] = 0.0
    return squares


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """x: (N, d) -> (N,), the squared distance of each point to its k-th nearest neighbour in x, itself left out."""
    radii = []
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        squares = squared_distances(block, x)
        squares[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        radii.append(np.partition(squares, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)


def _check(name: str, real: np.ndarray, fake: np.ndarray, k: int) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) <= k or k < 1:
        raise ValueError(
            f"{name}: real is {real.shape}, fake is {fake.shape}; wanted (N, d) and (M, d), both longer than {k}"
        )
