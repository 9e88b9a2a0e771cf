"""Bias, nonlinearity and dropout on their own, forward and backward; row weights.

    leaky ReLU   a if a > 0 else slope * a;  derivative 1 if a > 0 else slope (method 2.1)
    sigmoid      1 / (1 + exp(-a)), computed as (1 + tanh(a / 2)) / 2, which never overflows
    maxout       maximum over `pieces` adjacent channels (method 2.3); the first wins a tie
    dropout      y * keep / (1 - rate), keep ~ Bernoulli(1 - rate): 16 random bits an element

Within a layer all of this rides on the convolution: `epilogue.py`. The passes themselves are in `passes/`.
"""

from __future__ import annotations

import numpy as np

from ..arrays import LINEAR, Activation, Dropout
from ..checks import check_activation, check_bias, check_contiguous, check_dropout, stacked
from . import passes
from .masks import keep_mask
from .parallel import split
from .winners import Winners


def apply_activation(
    x: np.ndarray, bias: np.ndarray | None, activation: Activation, *, dropout: Dropout | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """y = dropout(activation(x + bias)), the epilogue of the convolutions on its own.

    x        (N, H, W, C);  bias (C,), (H, W, C) or None
    dropout  of the result

    Returns y: (N, H, W, C / pieces), and for maxout the winners (uint8, shape of y), else None.
    """
    check_activation("apply_activation", activation, x.shape[-1])
    check_bias("apply_activation", None if bias is None else bias.shape, x.shape)
    check_dropout("apply_activation", dropout)
    pieces = activation.pieces
    y = np.empty((*x.shape[:-1], x.shape[-1] // pieces), x.dtype)
    winner = np.empty(y.shape, np.uint8) if activation.name == "maxout" else None
    keep = keep_mask(dropout, y.size).reshape(y.shape) if dropout else None
    width = x.shape[-1] if bias is None else bias.size  # an untied bias has a number for each pixel and channel
    flat_bias = None if bias is None else bias.reshape(-1)

    def share(start: int, stop: int, _part: int) -> None:
        mine = y[start:stop]
        if winner is None:
            np.copyto(mine, x[start:stop])
            passes.activate(mine.reshape(-1, width), flat_bias, activation)
        else:
            maxima, numbers = (a[start:stop].reshape(-1, width // pieces) for a in (y, winner))
            passes.maxout(x[start:stop].reshape(-1, width).copy(), flat_bias, pieces, maxima, numbers)
        if dropout is not None and keep is not None:
            passes.drop(mine.reshape(-1), keep[start:stop].reshape(-1), dropout.rate)

    split(share, len(x), work=4 * x.size)
    return y, winner


def bias_activation_grad(
    gy: np.ndarray | Winners,
    y: np.ndarray,
    activation: Activation,
    *,
    winner: np.ndarray | None = None,
    bias_shape: tuple[int, ...] | None = None,
    dropout: Dropout | None = None,
    deferred: bool = False,
) -> tuple[np.ndarray | Winners, np.ndarray | None]:
    """Gradient of y = dropout(activation(x + bias)).

    gy           (K N, H, W, C / pieces), K cotangents;  y: (N, H, W, C / pieces)
    winner       what `apply_activation` returned beside y
    bias_shape   (C,), (H, W, C), or None where no bias gradient is asked for
    deferred     gx is of a dense layer, for the kernels of this twin alone: behind maxout it may be `Winners`

    Returns gx: (K N, H, W, C), gy itself where nothing is done to it, and of the first cotangent gbias of `bias_shape`,
    or None.
    """
    if isinstance(gy, Winners):
        return _of_winners(gy, activation, bias_shape, dropout)
    count, n = stacked("bias_activation_grad", gy.shape, y.shape), len(y)
    if activation.name == "maxout" and (winner is None or winner.shape != y.shape):
        raise ValueError(f"bias_activation_grad: maxout needs its winners, of shape {y.shape}")
    check_dropout("bias_activation_grad", dropout)
    shape = (*gy.shape[:-1], gy.shape[-1] * activation.pieces)
    check_bias("bias_activation_grad", bias_shape, shape)
    dense = activation.pieces >= passes.WINNERS and gy.shape[1:3] == (1, 1)
    if deferred and winner is not None and dense:
        return _left_to_winners(gy, winner, activation.pieces, bias_shape, dropout)
    same = activation == LINEAR and dropout is None
    gx = gy if same else np.empty(shape, gy.dtype)
    keep = keep_mask(dropout, y.size).reshape(y.shape) if dropout else None
    sums: dict[int, np.ndarray] = {}

    rate = dropout.rate if dropout else 0.0

    def share(start: int, stop: int, part: int) -> None:
        mask = None if keep is None else keep[start:stop].reshape(-1)
        for k in range(0 if same else count):
            there = slice(k * n + start, k * n + stop)
            g, out = gy[there].reshape(-1), gx[there].reshape(-1, activation.pieces)
            if winner is None:
                passes.activation_grad(g, y[start:stop].reshape(-1), activation, mask, rate, out.reshape(-1))
            else:
                passes.maxout_grad(g, winner[start:stop].reshape(-1), activation.pieces, mask, rate, out)
        if bias_shape is not None:
            sums[part] = _bias_grad(gx[start:stop], bias_shape)

    parts = split(share, n, work=4 * gx.size)
    return gx, sum((sums[part] for part in range(1, parts)), sums[0]) if bias_shape is not None else None


def _left_to_winners(
    gy: np.ndarray, winner: np.ndarray, pieces: int, bias_shape: tuple[int, ...] | None, behind: Dropout | None
) -> tuple[Winners, np.ndarray | None]:
    gy = np.ascontiguousarray(gy)
    if behind is not None:  # every cotangent meets the same mask
        gy = np.concatenate([dropout(part, behind) for part in np.split(gy, len(gy) // len(winner))])
    gx = Winners(gy, winner, pieces)
    return gx, None if bias_shape is None else gx[: len(winner)].sums().reshape(bias_shape)


def _of_winners(
    gy: Winners, activation: Activation, bias_shape: tuple[int, ...] | None, behind: Dropout | None
) -> tuple[Winners, np.ndarray | None]:
    """They are behind their maxout already: a bias is all that is left."""
    if activation != LINEAR or behind is not None:
        raise ValueError("bias_activation_grad: gy is left to winners: wanted no activation and no dropout")
    check_bias("bias_activation_grad", bias_shape, gy.shape)
    return gy, None if bias_shape is None else gy.sums().reshape(bias_shape)


def _bias_grad(gx: np.ndarray, bias_shape: tuple[int, ...]) -> np.ndarray:
    if len(bias_shape) == 3:
        return gx.sum(axis=0)
    return passes.column_sums(gx.reshape(-1, gx.shape[-1])).astype(gx.dtype)


def dropout(x: np.ndarray, dropout: Dropout, *, first: int = 0) -> np.ndarray:
    """Bernoulli dropout by counters; applied to the gradient with the same record, it is its own backward.

    x       any shape, float32 or float64
    first   place of x's first element in the tensor that the mask belongs to

    Returns an array of the same shape.
    """
    check_dropout("dropout", dropout)
    check_contiguous("dropout", x=x)
    y = np.empty_like(x)
    keep, flat_x, flat_y = keep_mask(dropout, first + x.size)[first:], x.reshape(-1), y.reshape(-1)

    def share(start: int, stop: int, _part: int) -> None:
        np.copyto(flat_y[start:stop], flat_x[start:stop])
        passes.drop(flat_y[start:stop], keep[start:stop], dropout.rate)

    split(share, x.size, work=10 * x.size, align=16)
    return y


def scale_rows(x: np.ndarray | Winners, weights: np.ndarray) -> np.ndarray | Winners:
    """x * weights: every row of the batch by a number of its own.

    x        (N, ...);  weights: (N, 1, ...), N numbers

    Returns an array like x.
    """
    if weights.size != len(x) or len(weights) != len(x):
        raise ValueError(f"scale_rows: weights have shape {weights.shape}, wanted a number for each row of x {x.shape}")
    if isinstance(x, Winners):
        return x.scaled(weights.reshape(-1))
    y = np.empty_like(x)
    factors = weights.reshape(-1, *(1,) * (x.ndim - 1))

    def share(start: int, stop: int, _part: int) -> None:
        np.multiply(x[start:stop], factors[start:stop], out=y[start:stop])

    split(share, len(x), work=x.size)
    return y
