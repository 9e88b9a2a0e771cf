"""A gradient passed back through dropout and leaky ReLU of a batch norm, and the sums that its statistics need.

    g = gy * keep / (1 - rate) * (1 if a > 0 else slope),   a = gamma * (x - mean) * inv_std + beta
    sums per cotangent and channel: sum g, sum g * (x - mean)

Without a norm, a is what a convolution gave with its bias, and sum g the bias's gradient.

Done by the norm's own gradient on all of gy, or by the convolution that computes gy, while it is in cache. Rows of few
channels are treated several at a time where that is faster (`passes.ROW`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..arrays import Activation, NormState
from . import passes
from .masks import keep_mask


def fold(rows: int, channels: int) -> int:
    """How many rows to treat as one: the largest divisor of `rows` that keeps them within `passes.ROW` elements."""
    return _divisor(rows, max(1, passes.ROW // channels))


@lru_cache(1024)
def _divisor(rows: int, most: int) -> int:
    return max(d for d in range(1, most + 1) if rows % d == 0)


def tiled(vectors: np.ndarray, times: int) -> np.ndarray:
    """(..., C) -> (..., times * C), as `np.tile` has it, in a fraction of its time for small ones."""
    if times == 1:
        return vectors
    return vectors[..., None, :].repeat(times, axis=-2).reshape(*vectors.shape[:-1], -1)


class Through:
    """Works on matrices of `width` columns, `fold` pixels a row: what `matrix` makes of an array.

    state   of the batch norm, if there is one;  unit: pixels that any stretch of rows is made of
    y       the norm's output, where it is at hand: its sign spares computing a again
    """

    def __init__(self, state: NormState, unit: int, y: np.ndarray | None = None):
        self.channels = state.x.shape[-1]
        self.fold = fold(unit, self.channels)
        self.x = self.matrix(state.x)
        self.normed = state.gamma is not None
        self.y = None if y is None else self.matrix(y)
        self.slope = state.slope
        self.keep, self.rate = None, 0.0
        if state.dropout is not None:
            self.keep = keep_mask(state.dropout, state.x.size).reshape(self.x.shape)
            self.rate = state.dropout.rate
        if state.gamma is not None and state.beta is not None and state.mean is not None:
            vectors = [state.mean] if self.y is not None else [state.mean, state.gamma * state.inv_std, state.beta]
            vectors = [tiled(v.astype(self.x.dtype, copy=False), self.fold) for v in vectors]
            self.mean, self.scale, self.beta = (*vectors, None, None)[:3]
        self.parts: dict[tuple[int, int], np.ndarray] = {}

    def matrix(self, array: np.ndarray) -> np.ndarray:
        """(rows, fold * C), a view."""
        return array.reshape(-1, self.fold * self.channels)

    def run(self, k: int, rows: slice, gy: np.ndarray, g: np.ndarray, part: int) -> None:
        """g <- gy passed back, for some rows of `matrix(x)` of the k-th cotangent; gy and g may be one array.

        part  of the work, whose sums are added up by themselves
        """
        sums = self.parts.setdefault((k, part), np.zeros((1 + self.normed, self.x.shape[1])))
        x, (y, keep) = self.x[rows], (None if whole is None else whole[rows] for whole in (self.y, self.keep))
        if self.normed:
            passes.through(gy, x, y, self.mean, self.scale, self.beta, self.slope, keep, self.rate, g, sums)
            return
        activation, flat = Activation("leaky_relu", self.slope), g.reshape(-1, copy=False)
        keep = None if keep is None else keep.reshape(-1)
        passes.activation_grad(gy.reshape(-1), x.reshape(-1), activation, keep, self.rate, flat)
        sums[0] += passes.column_sums(g)

    def sums(self, count: int) -> np.ndarray:
        """(count, 2, C) float64: of each cotangent sum g and sum g * (x - mean), parts added in their order; without a
        norm (count, 1, C), a bias's gradient as it is, of x's dtype."""
        found = np.zeros((count, 1 + self.normed, self.channels))
        for (k, _), part in sorted(self.parts.items()):
            found[k] += part if self.fold == 1 else part.reshape(len(part), self.fold, -1).sum(axis=1)
        return found if self.normed else found.astype(self.x.dtype)
