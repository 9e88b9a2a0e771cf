"""The passes on NumPy: several for each function, run block by block while a block is in cache.

A derivative is taken from the output (leaky ReLU, sigmoid) or the winner's number (maxout), so that backward needs
no second copy of what went in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ...arrays import Activation
from ..parallel import BLOCK, constant, scratch

#: Elements that a row of a matrix should have: an inner loop of 32 would cost more in its overhead than in its work.
ROW = 4096

#: Pieces of a dense maxout layer from which its gradient is left to the winners (`winners.py`): never, with NumPy. Its
#: products are here to say what those of `fused` are.
WINNERS: float = math.inf

#: Elements that `column_sums` adds up in the array's own precision before it goes on in float64.
SUM_BLOCK = 131_072


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of `rows` rows of `width` elements, each of about a block of elements."""
    step = max(1, BLOCK // max(1, width))
    return (slice(a, min(a + step, rows)) for a in range(0, rows, step))


def activate(y: np.ndarray, bias: np.ndarray | None, activation: Activation) -> None:
    """y: (rows, width) <- activation(y + bias), bias: (width,) or None; not for maxout."""
    for here in blocks(*y.shape):
        block = y[here]
        if bias is not None:
            block += bias
        if activation.name == "leaky_relu":
            leaky_relu(block, activation.value)
        elif activation.name == "sigmoid":
            block *= 0.5
            np.tanh(block, out=block)
            block += 1
            block *= 0.5


def leaky_relu(y: np.ndarray, slope: float) -> None:
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


def activation_grad(
    gy: np.ndarray, y: np.ndarray, activation: Activation, keep: np.ndarray | None, rate: float, out: np.ndarray
) -> None:
    """out <- gy times the derivative of y = dropout(activation(a)) by a, all flat; not for maxout."""
    for here in blocks(gy.size, 1):
        factor = _derivative(y[here], activation, 1 - rate)
        np.multiply(gy[here], factor, out=out[here])
        if keep is not None:
            out[here] *= keep[here]
            out[here] *= 1 / (1 - rate)


def _derivative(y: np.ndarray, activation: Activation, kept: float) -> np.ndarray | float:
    """By y = activation(a) / kept; in this thread's scratch where it is an array."""
    if activation.name == "leaky_relu":
        return slopes(y, activation.value)
    if activation.name == "sigmoid":
        undropped = np.multiply(y, kept, out=scratch("undropped", y.shape, y.dtype))
        factor = np.subtract(1, undropped, out=scratch("act", y.shape, y.dtype))
        factor *= undropped
        return factor
    return 1.0


def maxout(
    x: np.ndarray, bias: np.ndarray | None, pieces: int, out: np.ndarray, winner: np.ndarray, to: int = 0
) -> None:
    """x: (rows, width) -> width / pieces columns of out, (rows, ...), from `to` on, the maxima of x + bias; and winner,
    alike, uint8: the first of the largest wins. x may be changed."""
    out, winner = (a[:, to : to + x.shape[1] // pieces] for a in (out, winner))
    if bias is not None:
        x += bias
    groups = x.reshape(len(x), -1, pieces)
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


def maxout_grad(
    gy: np.ndarray, winner: np.ndarray, pieces: int, keep: np.ndarray | None, rate: float, out: np.ndarray
) -> None:
    """out: (n, pieces) <- gy: (n,) at the winners: (n,), where kept, 0 elsewhere."""
    groups = out.reshape(len(gy), pieces)
    for here in blocks(gy.size, pieces):
        g = gy[here]
        if keep is not None:
            g = np.multiply(g, keep[here], out=scratch("winners", g.shape, g.dtype))
            g *= 1 / (1 - rate)
        for piece in range(pieces):
            np.multiply(g, winner[here] == piece, out=groups[here, piece])


def _spread(g: np.ndarray, winner: np.ndarray, pieces: int) -> np.ndarray:
    out = np.empty((g.size, pieces), g.dtype)
    maxout_grad(g.reshape(-1), winner.reshape(-1), pieces, None, 0.0, out)
    return out.reshape(len(g), g.shape[1] * pieces)


def winner_sums(g: np.ndarray, winner: np.ndarray, weights: np.ndarray | None, pieces: int, total: np.ndarray) -> None:
    """total: (J * pieces,) += the sum over n of g: (N, J), each at its winner: (N, J), times weights: (N,) or None."""
    g = g if weights is None else g * weights[:, None]
    total += _spread(g, winner, pieces).sum(axis=0, dtype=total.dtype)


def winner_input_grad(g: np.ndarray, winner: np.ndarray, w: np.ndarray, pieces: int, out: np.ndarray) -> None:
    """out: (N, C) <- g: (N, J), each at its winner: (N, J), times w: (J * pieces, C)."""
    np.matmul(_spread(g, winner, pieces), w, out=out)


def winner_weight_grad(g: np.ndarray, winner: np.ndarray, x: np.ndarray, pieces: int, out: np.ndarray) -> None:
    """out: (J * pieces, C) <- the transpose of g: (N, J), each at its winner: (N, J), times x: (N, C)."""
    np.matmul(_spread(g, winner, pieces).T, x, out=out)


def drop(y: np.ndarray, keep: np.ndarray, rate: float) -> None:
    """y <- y / (1 - rate) where keep, 0 elsewhere, all flat."""
    for here in blocks(y.size, 1):
        y[here] *= keep[here]
        y[here] *= 1 / (1 - rate)


def column_sums(x: np.ndarray) -> np.ndarray:
    """Sums over the rows of x: (rows, width), in the dtype for at most a block at a time, then in float64: (width,)."""
    step = max(1, min(BLOCK, SUM_BLOCK) // x.shape[1])
    ones = constant(1, (min(step, len(x)),), x.dtype)
    total = np.zeros(x.shape[1])
    for a in range(0, len(x), step):
        block = x[a : a + step]
        total += ones[: len(block)] @ block
    return total


def adam(
    grads: Sequence[np.ndarray],
    p: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    norms: np.ndarray,
) -> None:
    """Adam's update (`adam.py`) of a stretch of p, m and v, flat and changed, by gradients that fill it end to end.

    norms   (len(grads),) float64, to which their squared norms are added
    """
    start = 0
    with np.errstate(all="ignore"):  # of this thread; the caller reports by name what is not finite
        for i, g in enumerate(grads):
            here = slice(start, start + g.size)
            norms[i] += np.dot(g, g)
            _adam(g, p[here], m[here], v[here], rate, beta1, beta2, eps)
            start += g.size


def _adam(
    g: np.ndarray, p: np.ndarray, m: np.ndarray, v: np.ndarray, rate: float, beta1: float, beta2: float, eps: float
) -> None:
    t = scratch("adam", g.shape, p.dtype)
    np.multiply(g, 1 - beta1, out=t)
    m *= beta1
    m += t
    np.multiply(g, g, out=t)
    t *= 1 - beta2
    v *= beta2
    v += t
    np.sqrt(v, out=t)
    t += eps
    np.divide(m, t, out=t)
    t *= rate
    p -= t


def adversarial(logits: np.ndarray, losses: np.ndarray, glogits: np.ndarray) -> None:
    """Both losses (`loss.py`) of logits: (2, M), data first; losses: (4,), with the mean probabilities, and glogits:
    (2, 2, M), of L_D and L_G, are filled."""
    softplus, softplus_neg, prob, rest = softplus_terms(logits)
    pairs = logits.shape[1]
    for half, other in ((0, 1), (1, 0)):
        np.divide(-rest[half], pairs, out=glogits[half, half])
        np.divide(prob[half], pairs, out=glogits[other, half])
        losses[half] = softplus_neg[half].mean() + softplus[other].mean()
    losses[2:] = prob.mean(axis=1)


def softplus_terms(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """softplus(a), softplus(-a), s(a) and 1 - s(a), neither of these by cancellation:
    s(a) = 1 / (1 + e^-|a|) for a > 0, e^-|a| / (1 + e^-|a|) else."""
    decay = np.exp(-np.abs(a))
    tail = np.log1p(decay)
    positive = a > 0
    prob = np.where(positive, 1, decay) / (1 + decay)
    rest = np.where(positive, decay, 1) / (1 + decay)
    return np.maximum(a, 0) + tail, np.maximum(-a, 0) + tail, prob, rest


def box_muller(words: np.ndarray, out: np.ndarray) -> None:
    """out <- normal numbers, two of each 64-bit word: u1 and u2 from its low and high 32 bits."""
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    radius = np.sqrt(-2.0 * np.log(((low >> np.uint64(8)) + 0.5) * 2.0**-24))
    angle = high * (2.0 * np.pi * 2.0**-32)
    out[0::2] = radius * np.cos(angle)
    out[1::2] = (radius * np.sin(angle))[: out.size // 2]
