"""Mean and variance per channel, from parts that are merged by Chan's formula; never E[x^2] - E[x]^2."""

from __future__ import annotations

import numpy as np

from . import passes
from .parallel import split


class Moments:
    """Count, mean and centred second moment per channel of what it was shown, in float64."""

    def __init__(self, channels: int):
        self.count = 0
        self.mean = np.zeros(channels)
        self.m2 = np.zeros(channels)

    def add(self, x: np.ndarray) -> None:
        """Takes in x: (rows, C)."""
        for count, mean, m2 in passes.moments(x):
            self.merge(count, mean, m2)

    def merge(self, count: int, mean: np.ndarray, m2: np.ndarray) -> None:
        """Chan, Golub and LeVeque 1979: joins two sets of moments."""
        if self.count == 0:
            self.count, self.mean, self.m2 = count, mean, m2
            return
        total = self.count + count
        delta = mean - self.mean
        self.m2 += m2 + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total


def merge_moments(parts: list[Moments], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) of several sets, in order: (C,) each, of `dtype`."""
    first = parts[0]
    for other in parts[1:]:
        first.merge(other.count, other.mean, other.m2)
    return first.mean.astype(dtype), (first.m2 / first.count).astype(dtype)


def moments_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) over all axes but the last: (C,) each."""
    rows = x.reshape(-1, x.shape[-1])
    parts: dict[int, Moments] = {}

    def share(start: int, stop: int, part: int) -> None:
        parts[part] = Moments(rows.shape[1])
        parts[part].add(rows[start:stop])

    count = split(share, len(rows), work=4 * x.size)
    return merge_moments([parts[part] for part in range(count)], x.dtype)
