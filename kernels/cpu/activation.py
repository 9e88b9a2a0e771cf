"""Bias, nonlinearity and dropout on their own, forward and backward; row weights.

    leaky ReLU   a if a > 0 else slope * a;  derivative 1 if a > 0 else slope (method 2.1)
    sigmoid      1 / (1 + exp(-a)), computed as (1 + tanh(a / 2)) / 2, which never overflows
    maxout       maximum over `pieces` adjacent channels (method 2.3); the first wins a tie
    dropout      y * keep / (1 - rate), keep ~ Bernoulli(1 - rate): 16 random bits an element

Within a layer all of this rides on the convolution: `epilogue.py`. The passes themselves are in `elementwise.py`.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Activation, Dropout, check_activation, check_bias, check_contiguous, check_dropout, stacked
from .elementwise import activate, column_sums, drop_, keep_mask, maxout, slabs, slopes
from .parallel import scratch, split


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

    def share(start: int, stop: int, _part: int) -> None:
        if winner is None:
            np.copyto(y[start:stop], x[start:stop])
            activate(y[start:stop], bias, activation)
        else:
            biased = x[start:stop] if bias is None else x[start:stop] + bias
            maxout(biased, pieces, y[start:stop], winner[start:stop])
        if dropout is not None and keep is not None:
            drop_(y[start:stop], keep[start:stop], dropout.rate)

    split(share, len(x), work=4 * x.size)
    return y, winner


def bias_activation_grad(
    gy: np.ndarray,
    y: np.ndarray,
    activation: Activation,
    *,
    winner: np.ndarray | None = None,
    bias_shape: tuple[int, ...] | None = None,
    dropout: Dropout | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradient of y = dropout(activation(x + bias)).

    gy           (K N, H, W, C / pieces), K cotangents;  y: (N, H, W, C / pieces)
    winner       what `apply_activation` returned beside y
    bias_shape   (C,), (H, W, C), or None where no bias gradient is asked for

    Returns gx: (K N, H, W, C) and gbias of `bias_shape`, of the first cotangent, or None.
    """
    count, n = stacked("bias_activation_grad", gy.shape, y.shape), len(y)
    if activation.name == "maxout" and (winner is None or winner.shape != y.shape):
        raise ValueError(f"bias_activation_grad: maxout needs its winners, of shape {y.shape}")
    check_dropout("bias_activation_grad", dropout)
    gx = np.empty((*gy.shape[:-1], gy.shape[-1] * activation.pieces), gy.dtype)
    check_bias("bias_activation_grad", bias_shape, gx.shape)
    keep = keep_mask(dropout, y.size).reshape(y.shape) if dropout else None
    sums: dict[int, np.ndarray] = {}

    def share(start: int, stop: int, part: int) -> None:
        for rows in slabs(y[start:stop]):
            here = slice(start + rows.start, start + rows.stop)
            factor = _derivative(y[here], activation, None if keep is None else keep[here], dropout)
            for k in range(count):
                there = slice(k * n + here.start, k * n + here.stop)
                if winner is None:
                    np.multiply(gy[there], factor, out=gx[there])
                else:
                    _to_winners(gy[there], factor, winner[here], activation.pieces, gx[there])
        if bias_shape is not None:
            sums[part] = _bias_grad(gx[start:stop], bias_shape)

    parts = split(share, n, work=4 * gx.size)
    return gx, sum((sums[part] for part in range(1, parts)), sums[0]) if bias_shape is not None else None


def _derivative(
    y: np.ndarray, activation: Activation, keep: np.ndarray | None, dropout: Dropout | None
) -> np.ndarray | float:
    """d(dropout(activation(a)))/da by y, but for maxout's winners; in this thread's scratch where it is an array."""
    scale = 1 / (1 - dropout.rate) if dropout else 1.0
    if activation.name == "leaky_relu":
        factor = slopes(y, activation.value)
    elif activation.name == "sigmoid":
        undropped = np.multiply(y, 1 / scale, out=scratch("undropped", y.shape, y.dtype))
        factor = np.subtract(1, undropped, out=scratch("act", y.shape, y.dtype))
        factor *= undropped
    elif keep is None:
        return 1.0
    else:
        return np.multiply(keep, y.dtype.type(scale), out=scratch("act", y.shape, y.dtype))
    if keep is not None:
        factor *= keep
        factor *= scale
    return factor


def _to_winners(gy: np.ndarray, factor: np.ndarray | float, winner: np.ndarray, pieces: int, out: np.ndarray) -> None:
    """out: (..., C) <- gy * factor: (..., C / pieces) at the winners, 0 elsewhere."""
    g = gy if isinstance(factor, float) else np.multiply(gy, factor, out=scratch("winners", gy.shape, gy.dtype))
    groups = out.reshape(*gy.shape, pieces)
    for piece in range(pieces):
        np.multiply(g, winner == piece, out=groups[..., piece])


def _bias_grad(gx: np.ndarray, bias_shape: tuple[int, ...]) -> np.ndarray:
    if len(bias_shape) == 3:
        return gx.sum(axis=0)
    return column_sums(gx.reshape(-1, gx.shape[-1])).astype(gx.dtype)


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
        for rows in slabs(flat_x[start:stop]):
            here = slice(start + rows.start, start + rows.stop)
            np.multiply(flat_x[here], keep[here], out=flat_y[here])
            flat_y[here] *= 1 / (1 - dropout.rate)

    split(share, x.size, work=10 * x.size, align=16)
    return y


def scale_rows(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """x * weights: every row of the batch by a number of its own.

    x        (N, ...);  weights: (N, 1, ...), N numbers

    Returns an array like x.
    """
    if weights.size != len(x) or len(weights) != len(x):
        raise ValueError(f"scale_rows: weights have shape {weights.shape}, wanted a number for each row of x {x.shape}")
    y = np.empty_like(x)
    factors = weights.reshape(-1, *(1,) * (x.ndim - 1))

    def share(start: int, stop: int, _part: int) -> None:
        np.multiply(x[start:stop], factors[start:stop], out=y[start:stop])

    split(share, len(x), work=x.size)
    return y
