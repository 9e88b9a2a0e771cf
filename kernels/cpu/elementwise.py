"""Elementwise passes in blocks that stay in cache: what activations, norms, joins and the convolutions' epilogue share.

A derivative is taken from the output (leaky ReLU, sigmoid) or the winner's number (maxout), so that backward needs
no second copy of what went in. The functions work on a slab of the batch: the convolutions call them on each chunk
while it is still in cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arrays import Activation, Dropout
from .parallel import BLOCK, constant, scratch, split
from .sampling import random_uint16


def leaky_relu_(y: np.ndarray, slope: float) -> None:
    """y <- leaky ReLU(y) in place; y of any shape, at most a few blocks long."""
    if slope == 0:
        np.maximum(y, constant(0, y.shape, y.dtype), out=y)
    elif slope < 1:
        t = np.multiply(y, slope, out=scratch("act", y.shape, y.dtype))
        np.maximum(y, t, out=y)


def slopes(y: np.ndarray, slope: float) -> np.ndarray:
    """The derivative of leaky ReLU, 1 or `slope`, by the sign of y (input or output); in this thread's scratch."""
    keep = np.greater(y, 0, out=scratch("mask", y.shape, np.dtype(bool)))
    out = scratch("act", y.shape, y.dtype)
    np.copyto(out, keep)
    return np.maximum(out, constant(slope, out.shape, out.dtype), out=out)


def maxout(x: np.ndarray, pieces: int, out: np.ndarray, winner: np.ndarray) -> None:
    """x: (..., C) -> out: (..., C / pieces) and winner: the same shape, uint8."""
    groups = x.reshape(*x.shape[:-1], -1, pieces)
    np.copyto(out, groups[..., 0])
    winner[...] = 0
    rival = scratch("rival", out.shape, out.dtype)
    better = scratch("better", out.shape, np.dtype(np.uint8))
    for piece in range(1, pieces):
        np.copyto(rival, groups[..., piece])  # read once with a stride, then compared at full speed
        np.greater(rival, out, out=better.view(bool))
        np.maximum(out, rival, out=out)
        better *= np.uint8(piece)
        np.maximum(winner, better, out=winner)


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


#: Elements that `column_sums` adds up in the array's own precision before it goes on in float64.
SUM_BLOCK = 131_072


def column_sums(x: np.ndarray) -> np.ndarray:
    """Sums over the rows of x: (rows, C), in the dtype for at most a block at a time, then in float64: (C,)."""
    step = max(1, min(BLOCK, SUM_BLOCK) // x.shape[1])
    ones = constant(1, (min(step, len(x)),), x.dtype)
    total = np.zeros(x.shape[1])
    for a in range(0, len(x), step):
        block = x[a : a + step]
        total += ones[: len(block)] @ block
    return total


def cotangents(start: int, stop: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """The rows [start, stop) of stacked cotangents of `rows` rows: (cotangent, its first row, the one behind its last).

    What the forward pass kept, masks for example, it kept for `rows` rows.
    """
    while start < stop:
        k, a = divmod(start, rows)
        b = min(rows, a + stop - start)
        yield k, a, b
        start += b - a


_masks: dict[Dropout, np.ndarray] = {}


def keep_mask(dropout: Dropout, size: int) -> np.ndarray:
    """Which elements of a tensor are kept: (size,) bool, by their place in C order.

    A step asks for each mask again in its walk back, and drawing it is most of dropout's work; so the masks of one step
    are remembered, a byte an element, until another step asks.
    """
    if dropout not in _masks or len(_masks[dropout]) < size:
        if any(known.counters[:2] != dropout.counters[:2] for known in _masks):
            _masks.clear()
        threshold = np.uint16(min(round(dropout.rate * 65536), 65535))
        mask = np.empty(size, bool)

        def share(start: int, stop: int, _part: int) -> None:
            for a in range(start, stop, BLOCK):
                b = min(a + BLOCK, stop)
                np.greater_equal(random_uint16(dropout.counters, a, b - a), threshold, out=mask[a:b])

        split(share, size, work=10 * size, align=16)
        _masks[dropout] = mask
    mask = _masks[dropout]
    return mask if len(mask) == size else mask[:size]


def drop_(y: np.ndarray, keep: np.ndarray, rate: float) -> None:
    """y <- y / (1 - rate) where keep, 0 elsewhere, in place; keep: bool, of y's shape."""
    for rows in slabs(y):
        block = y[rows]
        block *= keep[rows]
        block *= 1 / (1 - rate)
