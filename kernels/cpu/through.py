"""A gradient passed back through dropout and leaky ReLU of a batch norm, and the sums that its statistics need.

    g = gy * keep / (1 - rate) * (1 if a > 0 else slope),   a = gamma * (x - mean) * inv_std + beta
    sums per cotangent and channel: sum g, sum g * (x - mean)

Without a norm, a is what a convolution gave with its bias, and sum g the bias's gradient.

Done block by block: by the norm's own gradient on all of gy, or by the convolution that computes gy, while it is in
cache. Rows of few channels are treated several at a time, since an inner loop of 32 elements would cost more in its
overhead than in its arithmetic.
"""

from __future__ import annotations

import numpy as np

from ..arrays import NormState
from .elementwise import column_sums, keep_mask, slopes
from .parallel import BLOCK, scratch

ALL = slice(None)


def fold(rows: int, channels: int) -> int:
    """How many rows to treat as one: the largest divisor of `rows` that keeps them within 4,096 elements."""
    return max(d for d in range(1, max(2, 4096 // channels + 1)) if rows % d == 0)


def tiled(vectors: np.ndarray, times: int) -> np.ndarray:
    """(..., C) -> (..., times * C), as `np.tile` has it, in a fraction of its time for small ones."""
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
        y = state.x if y is None and not self.normed else y
        self.y = None if y is None else self.matrix(y)
        self.slope = state.slope
        self.keep, self.factor = None, 1.0
        if state.dropout is not None:
            self.keep = keep_mask(state.dropout, state.x.size).reshape(self.x.shape)
            self.factor = 1 / (1 - state.dropout.rate)
        if state.gamma is not None and state.beta is not None and state.mean is not None:
            # kept values grow by a positive factor, which may be drawn into the affine part
            vectors = state.mean, state.gamma * state.inv_std * self.factor, state.beta * self.factor
            self.mean, self.scale, self.beta = (tiled(v.astype(self.x.dtype), self.fold) for v in vectors)
        self.parts: dict[tuple[int, int, int], np.ndarray] = {}

    def matrix(self, array: np.ndarray) -> np.ndarray:
        """(rows, fold * C), a view."""
        return array.reshape(-1, self.fold * self.channels)

    def run(self, start: int, pairs: list[tuple[int, np.ndarray, np.ndarray]], part: int, columns: slice = ALL) -> None:
        """g <- gy passed back, for a stretch of rows of one or several cotangents.

        start   the stretch's first row in `matrix(x)`;  pairs: (cotangent, gy, g), which may be one array
        part    of the work, whose sums are added up by themselves;  columns: the channels that gy has
        """
        rows, width = pairs[0][1].shape
        for k, _, _ in pairs:
            self.parts.setdefault((k, columns.start or 0, part), np.zeros((1 + self.normed, width)))
        step = max(1, BLOCK // width)
        for a in range(0, rows, step):
            here, there = slice(a, min(a + step, rows)), slice(start + a, start + min(a + step, rows))
            x = self.x[there, columns]
            centred = x
            if self.normed:
                centred = np.subtract(x, self.mean[columns], out=scratch("centred", x.shape, x.dtype))
            factor = self._factor(centred, there, columns)
            for i, (k, gy, g) in enumerate(pairs):
                block = np.multiply(gy[here], factor, out=g[here])
                sums = self.parts[k, columns.start or 0, part]
                sums[0] += column_sums(block)
                if self.normed:
                    product = centred if i == len(pairs) - 1 else scratch("product", x.shape, x.dtype)
                    sums[1] += column_sums(np.multiply(centred, block, out=product))

    def _factor(self, centred: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """d y / d a of a block, in scratch."""
        if self.y is None:
            a = np.multiply(centred, self.scale[columns], out=scratch("pre", centred.shape, centred.dtype))
            a += self.beta[columns]
        else:
            a = self.y[rows, columns]
        factor = slopes(a, self.slope)
        if self.keep is not None:
            factor *= self.keep[rows, columns]
            factor *= self.factor
        return factor

    def sums(self, count: int) -> np.ndarray:
        """(count, 2, C) float64: of each cotangent sum g and sum g * (x - mean), parts added in their order; without a
        norm (count, 1, C)."""
        found = np.zeros((count, 1 + self.normed, self.channels))
        for (k, start, _), part in sorted(self.parts.items()):
            width = part.shape[1] // self.fold
            found[k, :, start : start + width] += part.reshape(len(part), self.fold, width).sum(axis=1)
        return found
