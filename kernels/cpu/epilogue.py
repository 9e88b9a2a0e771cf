"""What happens to a convolution's output while it is in cache.

Forward: bias, nonlinearity, the next layer's dropout, and the moments for batch norm. Backward, where the output is the
gradient of what a batch norm made: the way back through that norm's dropout and leaky ReLU, with the sums it needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import LINEAR, Activation, Dropout, NormState
from ..checks import check_epilogue
from . import passes
from .masks import cotangents, keep_mask
from .moments import Moments, merge_moments
from .parallel import scratch
from .through import Through

#: beside the output: (mean, variance), the winners of maxout, the sums of a gradient passed through, or nothing
Extra = tuple[np.ndarray, np.ndarray] | np.ndarray | None


class Riders(NamedTuple):
    """What rides on a convolution; y: the output of the norm of `through`, where it is at hand."""

    bias: np.ndarray | None = None
    activation: Activation = LINEAR
    dropout: Dropout | None = None
    moments: bool = False
    through: NormState | None = None
    y: np.ndarray | None = None

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Whether all this may ride on a product of `shape`, (N, H, W, C), before maxout."""
        check_epilogue(
            name,
            shape,
            bias=self.bias,
            activation=self.activation,
            dropout=self.dropout,
            moments=self.moments,
            through=self.through,
        )
        if self.through is not None and self.y is not None and self.y.shape != self.through.x.shape:
            raise ValueError(f"{name}: x has shape {self.y.shape}, the norm of `through` made {self.through.x.shape}")

    @property
    def only_moments(self) -> bool:
        """What rides on a layer in front of a batch norm."""
        return self.moments and self.bias is None and self.activation == LINEAR and not (self.dropout or self.through)

    @property
    def whole_norm(self) -> tuple[NormState, np.ndarray] | None:
        """The norm without dropout and its output, where both are at hand: all that passing through it takes."""
        through = self.through
        if through is None or self.y is None or through.gamma is None or through.dropout is not None:
            return None
        return through, self.y


class Epilogue:
    """Applies the riders to each slab of a product of `shape`, (N, H, W, C), while it is in cache."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype, riders: Riders):
        bias, activation, dropout, moments, through, y = riders
        riders.check(name, shape)
        self.bias, self.activation, self.dropout = bias, activation, dropout
        self.y = np.empty((*shape[:-1], shape[-1] // activation.pieces), dtype)
        self.winner = np.empty(self.y.shape, np.uint8) if activation.name == "maxout" else None
        self.keep = keep_mask(dropout, self.y.size).reshape(self.y.shape) if dropout else None
        self.moments: dict[int, Moments] | None = {} if moments else None
        self.through: Through | None = None
        if through is not None:
            self.rows = len(through.x)
            self.through = Through(through, shape[1] * shape[2], y)

    def target(self, rows: slice, width: int) -> np.ndarray:
        """Where the product of some images may go: the output itself, or scratch where maxout will shrink it."""
        if self.winner is None:
            return self.y[rows]
        n = len(range(*rows.indices(len(self.y))))
        return scratch("epilogue", (n, *self.y.shape[1:3], width), self.y.dtype)

    def finish(self, product: np.ndarray, rows: slice, part: int) -> None:
        """product: (n, H, W, C), what `target` gave, now filled."""
        if self.through is not None:
            self._pass_through(self.through, product, rows, part)
            return
        bias, activation = self.bias, self.activation
        # an untied bias has a number for each pixel and channel
        matrix = product.reshape(-1, product.shape[-1] if bias is None else bias.size)
        if self.winner is not None:
            out, winner = (a[rows].reshape(len(matrix), -1) for a in (self.y, self.winner))
            passes.maxout(matrix, None if bias is None else bias.reshape(-1), activation.pieces, out, winner)
        elif bias is not None or activation.name != "linear":
            passes.activate(matrix, None if bias is None else bias.reshape(-1), activation)
        self.drop(rows)
        if self.moments is not None:
            if part not in self.moments:
                self.moments[part] = Moments(product.shape[-1])
            self.moments[part].add(product.reshape(-1, product.shape[-1]))

    def maxout(self, product: np.ndarray, first: int, winner: np.ndarray) -> None:
        """product: (N, c), channels of a dense layer's whole product from `first` on; winner: the epilogue's own. The
        dropout behind it is left."""
        pieces, bias = self.activation.pieces, self.bias
        if bias is not None:
            bias = bias.reshape(-1)[first : first + product.shape[1]]
        out, winner = (whole.reshape(len(product), -1) for whole in (self.y, winner))
        passes.maxout(product, bias, pieces, out, winner, first // pieces)

    def drop(self, rows: slice) -> None:
        """Dropout on some images of the output."""
        if self.dropout is not None and self.keep is not None:
            passes.drop(self.y[rows].reshape(-1), self.keep[rows].reshape(-1), self.dropout.rate)

    def _pass_through(self, through: Through, product: np.ndarray, rows: slice, part: int) -> None:
        height = product[0].size // (through.fold * product.shape[-1])
        for k, a, b in cotangents(rows.start, rows.stop, self.rows):
            g = through.matrix(product[k * self.rows + a - rows.start : k * self.rows + b - rows.start])
            through.run(k, slice(a * height, b * height), g, g, part)

    def result(self, dtype: type | None = None) -> tuple[np.ndarray, Extra]:
        """The output, of `dtype` if given, and what belongs beside it."""
        y = self.y.astype(dtype or self.y.dtype, copy=False)
        if self.through is not None:
            return y, self.through.sums(len(y) // self.rows)
        if self.moments is None:
            return y, self.winner
        return y, merge_moments([self.moments[part] for part in sorted(self.moments)], self.y.dtype)
