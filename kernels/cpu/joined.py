"""A dense layer and the batch norm behind it or in front of it, on the channels that a thread has made.

A batch norm works on each channel by itself, and a dense layer's product is shared out by channels: who has made some
has all rows of them, and can go on with moments and normalisation while they are in cache, or back through the norm to
its input. What is between two products then is one call for each thread, instead of several passes on one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Dropout, NormState
from . import passes
from .dense import multiply, share_channels
from .masks import keep_mask


@dataclass(frozen=True)
class Product:
    """A dense layer's product that is left to the batch norm behind it, in the place of its moments.

    a     (N, K);  b: (K, C)

    No tuple: whoever takes it for a mean and a variance is to fail.
    """

    a: np.ndarray
    b: np.ndarray

    def normed(
        self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, slope: float, dropout: Dropout | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x: (N, ..., C), which receives the product; returns what `batch_norm_leaky_relu` does."""
        y, mean, inv_std = np.empty_like(x), np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
        x_rows, y_rows = (whole.reshape(len(self.a), -1) for whole in (x, y))
        grown = 1 / (1 - dropout.rate) if dropout else 1.0
        keep = keep_mask(dropout, y.size).reshape(y_rows.shape) if dropout else None

        def share(start: int, stop: int, _part: int) -> None:
            multiply(self.a, self.b, start, stop, x_rows, start)
            passes.norm_channels(x_rows, gamma, beta, eps, grown, slope, start, stop, mean, inv_std, y_rows)
            if keep is not None:
                y_rows[:, start:stop] *= keep[:, start:stop]

        share_channels(share, self.a, self.b)
        return y, mean, inv_std


class Passed(NamedTuple):
    """That a gradient has passed through the whole batch norm in front of a dense layer: (C,) each, of gamma and beta.

    In the place of the sums that the norm's own gradient would take.
    """

    ggamma: np.ndarray
    gbeta: np.ndarray


def input_grad(a: np.ndarray, b: np.ndarray, norm: NormState, y: np.ndarray) -> tuple[np.ndarray, Passed]:
    """a: (K N, O) @ b: (O, C), the gradient of K cotangents of y: (N, ..., C), what `norm` without dropout has made,
    passed on to the gradient of its input, (K N, ..., C); and the first cotangent's of gamma and beta."""
    gx = np.empty((len(a), *norm.x.shape[1:]), a.dtype)
    x_rows, y_rows, g_rows = (whole.reshape(len(whole), -1) for whole in (norm.x, y, gx))
    parts = g_rows.reshape(-1, *x_rows.shape)  # (K, N, C)
    vectors: tuple[Any, Any, Any] = norm.gamma, norm.mean, norm.inv_std
    gammas = np.empty((len(parts), 2, b.shape[1]), vectors[0].dtype)

    def share(start: int, stop: int, _part: int) -> None:
        multiply(a, b, start, stop, g_rows, start)
        for g, of_vectors in zip(parts, gammas, strict=True):
            passes.norm_channels_grad(g, x_rows, y_rows, *vectors, norm.slope, start, stop, of_vectors)

    share_channels(share, a, b)
    return gx, Passed(gammas[0, 0], gammas[0, 1])
