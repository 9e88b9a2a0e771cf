"""Bias, nonlinearity and dropout, forward and backward, in blocks that stay in cache.

    leaky ReLU   a if a > 0 else slope * a;  derivative 1 if a > 0 else slope (method 2.1)
    sigmoid      1 / (1 + exp(-a)), computed as (1 + tanh(a / 2)) / 2, which never overflows
    maxout       maximum over `pieces` adjacent channels (method 2.3); the first wins a tie
    dropout      x * keep / (1 - rate), keep ~ Bernoulli(1 - rate): 16 random bits an element

A derivative is taken from the output (leaky ReLU, sigmoid) or the winner's number (maxout), so that backward needs
no second copy of what went in. `activate` and `drop` work on a slab of the batch: the convolutions call them on each
chunk while it is still in cache.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Activation, Dropout, check_activation, check_bias, check_contiguous, check_dropout
from .parallel import BLOCK, scratch, split
from .sampling import random_uint16


def leaky_relu_(y: np.ndarray, slope: float) -> None:
    """y <- leaky ReLU(y) in place; y of any shape, at most a few blocks long."""
    if slope == 0:
        np.maximum(y, 0, out=y)
    elif slope < 1:
        t = np.multiply(y, slope, out=scratch("act", y.shape, y.dtype))
        np.maximum(y, t, out=y)


def slopes(y: np.ndarray, slope: float) -> np.ndarray:
    """The derivative of leaky ReLU, 1 or `slope`, by the sign of y (input or output); in this thread's scratch."""
    keep = np.greater(y, 0, out=scratch("mask", y.shape, np.dtype(bool)))
    out = scratch("act", y.shape, y.dtype)
    np.copyto(out, keep)
    return np.maximum(out, slope, out=out)


def maxout(x: np.ndarray, pieces: int, out: np.ndarray, winner: np.ndarray) -> None:
    """x: (..., C) -> out: (..., C / pieces) and winner: the same shape, uint8."""
    groups = x.reshape(*x.shape[:-1], -1, pieces)
    np.copyto(out, groups[..., 0])
    winner[...] = 0
    for piece in range(1, pieces):
        better = groups[..., piece] > out
        np.maximum(out, groups[..., piece], out=out)
        np.maximum(winner, better * np.uint8(piece), out=winner)


def slabs(y: np.ndarray) -> list[slice]:
    """Slices of y's first axis, each of about a block of elements."""
    step = max(1, BLOCK // max(1, y[:1].size))
    return [slice(a, min(a + step, len(y))) for a in range(0, len(y), step)]


def activate(y: np.ndarray, bias: np.ndarray | None, activation: Activation) -> None:
    """Adds a tied or untied bias to y: (n, H, W, C) and applies leaky ReLU or sigmoid, in place."""
    if bias is not None:
        y += bias
    if activation.name == "leaky_relu":
        for rows in slabs(y):
            leaky_relu_(y[rows], activation.value)
    elif activation.name == "sigmoid":
        y *= 0.5
        np.tanh(y, out=y)
        y += 1
        y *= 0.5


def apply_activation(
    x: np.ndarray, bias: np.ndarray | None, activation: Activation
) -> tuple[np.ndarray, np.ndarray | None]:
    """y = activation(x + bias), the epilogue of the convolutions on its own.

    x      (N, H, W, C);  bias (C,), (H, W, C) or None

    Returns y: (N, H, W, C / pieces), and for maxout the winners (uint8, shape of y), else None.
    """
    check_activation("apply_activation", activation, x.shape[-1])
    check_bias("apply_activation", None if bias is None else bias.shape, x.shape)
    pieces = activation.pieces
    y = np.empty((*x.shape[:-1], x.shape[-1] // pieces), x.dtype)
    winner = np.empty(y.shape, np.uint8) if activation.name == "maxout" else None

    def share(start: int, stop: int, _part: int) -> None:
        if winner is None:
            np.copyto(y[start:stop], x[start:stop])
            activate(y[start:stop], bias, activation)
        else:
            biased = x[start:stop] if bias is None else x[start:stop] + bias
            maxout(biased, pieces, y[start:stop], winner[start:stop])

    split(share, len(x), work=4 * x.size)
    return y, winner


def bias_activation_grad(
    gy: np.ndarray,
    y: np.ndarray,
    activation: Activation,
    *,
    winner: np.ndarray | None = None,
    bias_shape: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradient of y = activation(x + bias).

    gy, y        (N, H, W, C / pieces);  winner: what `apply_activation` returned beside y
    bias_shape   (C,), (H, W, C), or None where no bias gradient is asked for

    Returns gx: (N, H, W, C) and gbias of `bias_shape` or None.
    """
    if gy.shape != y.shape:
        raise ValueError(f"bias_activation_grad: gy has shape {gy.shape}, wanted {y.shape}")
    if activation.name == "maxout" and (winner is None or winner.shape != y.shape):
        raise ValueError(f"bias_activation_grad: maxout needs its winners, of shape {y.shape}")
    gx = np.empty((*gy.shape[:-1], gy.shape[-1] * activation.pieces), gy.dtype)
    check_bias("bias_activation_grad", bias_shape, gx.shape)
    sums: dict[int, np.ndarray] = {}

    def share(start: int, stop: int, part: int) -> None:
        for rows in slabs(gx[start:stop]):
            rows = slice(start + rows.start, start + rows.stop)
            _activation_grad(gy[rows], y[rows], activation, None if winner is None else winner[rows], gx[rows])
        if bias_shape is not None:
            sums[part] = _bias_grad(gx[start:stop], bias_shape)

    parts = split(share, len(gy), work=4 * gx.size)
    return gx, sum((sums[part] for part in range(1, parts)), sums[0]) if bias_shape is not None else None


def _activation_grad(
    gy: np.ndarray, y: np.ndarray, activation: Activation, winner: np.ndarray | None, out: np.ndarray
) -> None:
    if activation.name == "leaky_relu":
        np.multiply(gy, slopes(y, activation.value), out=out)
    elif activation.name == "sigmoid":
        t = np.subtract(1, y, out=scratch("act", y.shape, y.dtype))
        t *= y
        np.multiply(gy, t, out=out)
    elif winner is not None:
        groups = out.reshape(*y.shape, activation.pieces)
        for piece in range(activation.pieces):
            np.multiply(gy, winner == piece, out=groups[..., piece])
    else:
        np.copyto(out, gy)


def _bias_grad(gx: np.ndarray, bias_shape: tuple[int, ...]) -> np.ndarray:
    if len(bias_shape) == 3:
        return gx.sum(axis=0)
    return column_sums(gx.reshape(-1, gx.shape[-1])).astype(gx.dtype)


#: Elements that `column_sums` adds up in the array's own precision before it goes on in float64.
SUM_BLOCK = 131_072


def column_sums(x: np.ndarray) -> np.ndarray:
    """Sums over the rows of x: (rows, C), in the dtype for at most a block at a time, then in float64: (C,)."""
    step = max(1, min(BLOCK, SUM_BLOCK) // x.shape[1])
    ones = np.ones(step, x.dtype)
    total = np.zeros(x.shape[1])
    for a in range(0, len(x), step):
        block = x[a : a + step]
        total += ones[: len(block)] @ block
    return total


_masks: dict[tuple[Dropout, int], np.ndarray] = {}


def keep_mask(dropout: Dropout, size: int) -> np.ndarray:
    """Which elements of a tensor are kept: (size,) bool, by their place in C order.

    A step asks for each mask four times, forward and in two walks back, and drawing it is most of dropout's work; so
    the masks of one step are remembered, a byte an element, until another step asks.
    """
    key = dropout, size
    if key not in _masks:
        if any(known.counters[:2] != dropout.counters[:2] for known, _ in _masks):
            _masks.clear()
        threshold = np.uint16(min(round(dropout.rate * 65536), 65535))
        mask = np.empty(size, bool)

        def share(start: int, stop: int, _part: int) -> None:
            for a in range(start, stop, BLOCK):
                b = min(a + BLOCK, stop)
                np.greater_equal(random_uint16(dropout.counters, a, b - a), threshold, out=mask[a:b])

        split(share, size, work=10 * size, align=16)
        _masks[key] = mask
    return _masks[key]


def drop(x: np.ndarray, keep: np.ndarray, rate: float, out: np.ndarray) -> None:
    """out <- x / (1 - rate) where keep, 0 elsewhere; keep: (x.size,) bool. x and out may be one array."""
    flat, flat_out = x.reshape(-1), out.reshape(-1)
    for a in range(0, flat.size, BLOCK):
        here = slice(a, min(a + BLOCK, flat.size))
        np.multiply(flat[here], keep[here], out=flat_out[here])
        flat_out[here] *= 1 / (1 - rate)


def dropout(x: np.ndarray, dropout: Dropout) -> np.ndarray:
    """Bernoulli dropout by counters; applied to the gradient with the same record, it is its own backward.

    x   any shape, float32 or float64.  Returns an array of the same shape.
    """
    check_dropout("dropout", dropout)
    check_contiguous("dropout", x=x)
    y = np.empty_like(x)
    keep = keep_mask(dropout, x.size)

    def share(start: int, stop: int, _part: int) -> None:
        drop(x.reshape(-1)[start:stop], keep[start:stop], dropout.rate, y.reshape(-1)[start:stop])

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
