"""What happens to a convolution's output while it is in cache: bias, nonlinearity, and the moments for batch norm."""

from __future__ import annotations

import numpy as np

from ..arrays import Activation
from .activation import activate, maxout
from .norm import Moments, merge_moments
from .parallel import scratch

#: beside the output: (mean, variance) if asked for, the winners of maxout, or nothing
Extra = tuple[np.ndarray, np.ndarray] | np.ndarray | None


class Epilogue:
    """Bias, activation and moments, applied to each slab of the output while it is in cache."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, bias, activation: Activation, moments: bool):
        self.bias, self.activation = bias, activation
        pieces = activation.pieces
        self.y = np.empty((*shape[:-1], shape[-1] // pieces), dtype)
        self.winner = np.empty(self.y.shape, np.uint8) if activation.name == "maxout" else None
        self.moments: dict[tuple[int, int], Moments] | None = {} if moments else None

    def target(self, rows: slice, channels: slice, width: int) -> np.ndarray:
        """Where the product of a slab may be written: the output itself, or scratch where maxout will shrink it."""
        if self.winner is None:
            return self.y[rows, :, :, channels]
        n = len(range(*rows.indices(len(self.y))))
        return scratch("epilogue", (n, *self.y.shape[1:3], width), self.y.dtype)

    def finish(self, product: np.ndarray, rows: slice, channels: slice, part: int) -> None:
        """product: (n, H, W, width), what `target` gave, now filled."""
        bias = None if self.bias is None else self.bias[..., channels]
        if self.winner is not None:
            if bias is not None:
                product += bias
            pieces = self.activation.pieces
            out = slice(channels.start // pieces, channels.stop // pieces)
            maxout(product, pieces, self.y[rows, :, :, out], self.winner[rows, :, :, out])
            return
        if bias is not None or self.activation.name != "linear":
            activate(product, bias, self.activation)
        if self.moments is not None:
            key = (channels.start, part)
            if key not in self.moments:
                self.moments[key] = Moments(product.shape[-1])
            self.moments[key].add(np.ascontiguousarray(product).reshape(-1, product.shape[-1]))

    def result(self) -> tuple[np.ndarray, Extra]:
        if self.moments is None:
            return self.y, self.winner
        starts = sorted({start for start, _ in self.moments})
        columns = [
            merge_moments([self.moments[key] for key in sorted(self.moments) if key[0] == start], self.y.dtype)
            for start in starts
        ]
        return self.y, (np.concatenate([m for m, _ in columns]), np.concatenate([v for _, v in columns]))
