"""The loops behind `fused`, compiled by Numba at their first call and kept on disk (`compiling.py`).

Every loop releases the interpreter's lock and divides as NumPy does. Nothing may be reordered (no fast-math, except in
a sum that is written as one): an element is computed as in `plain`, and what is not a number stays visible (of maxout's
gradient at the winner alone). Sums over rows run over at most `STRETCH` of them in `part`, which has the array's own
precision, then in float64; those of products of winners, as a matrix product's, in the array's. All scalars come in the
array's dtype: a bare 1.0 would be float64 and slow a loop down.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from .compiling import compiled

STRETCH, NORM_STRETCH = 256, 4096


@compiled
def bias_leaky_relu(y, bias, slope):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            a = y[i, j] + bias[j]
            y[i, j] = slope * a if a < 0 else a


@compiled
def add_bias(y, bias):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += bias[j]


@compiled
def leaky_relu_grad(gy, y, slope, out):
    for i in range(gy.size):
        out[i] = gy[i] if y[i] > 0 else gy[i] * slope


@compiled
def sigmoid_grad(gy, y, kept, one, out):
    for i in range(gy.size):
        s = y[i] * kept
        out[i] = gy[i] * ((one - s) * s)


@compiled
def drop(y, keep, factor):
    for i in range(y.size):
        y[i] = y[i] * keep[i] * factor


@cache
def maxout(pieces):
    """The loop for so many pieces: a number known to the compiler unrolls the inner loop, at a tenth of the time."""

    @compiled
    def loop(x, bias, out, winner, to):
        """Columns of out and winner from `to` on: a view of them would not be contiguous, at five times the time."""
        for i in range(x.shape[0]):
            for j in range(x.shape[1] // pieces):
                first = j * pieces
                best, number = x[i, first] + bias[first], np.uint8(0)
                for k in range(1, pieces):
                    rival = x[i, first + k] + bias[first + k]
                    better = (rival > best) | (rival != rival)
                    number = np.uint8(k) if better else number
                    best = rival if better else best
                out[i, to + j], winner[i, to + j] = best, number

    return loop


@compiled
def maxout_grad(gy, winner, out):
    out[:] = 0
    for i in range(gy.size):
        out[i, winner[i]] = gy[i]


@compiled
def winner_sums(g, winner, weights, pieces, total):
    """Places are unsigned: a signed one would be looked at for being negative, from the end."""
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            total[np.uintp(j * pieces + winner[n, j])] += g[n, j] * weights[n]


@compiled
def column_sums(x, part, total, start, stop):
    """Of the columns [start, stop), as in all loops that take both: a view of them would not be contiguous."""
    for first in range(0, x.shape[0], STRETCH):
        part[start:stop] = 0
        for i in range(first, min(first + STRETCH, x.shape[0])):
            for j in range(start, stop):
                part[j] += x[i, j]
        for j in range(start, stop):
            total[j] += part[j]


@compiled
def adversarial(logits, zero, one, losses, glogits):
    pairs = logits.shape[1]
    for half in range(2):  # data, whose L_D takes softplus(-l) and L_G softplus(l); samples, the other way round
        other = 1 - half
        for i in range(pairs):
            a = logits[half, i]
            decay = np.exp(-abs(a))
            tail = np.log1p(decay)
            prob, rest = (one if a > 0 else decay) / (one + decay), (decay if a > 0 else one) / (one + decay)
            losses[half] += (max(zero, -a) + tail) / pairs
            losses[other] += (max(zero, a) + tail) / pairs
            losses[2 + half] += prob / pairs
            glogits[half, half, i], glogits[other, half, i] = -rest / pairs, prob / pairs


@compiled
def box_muller(words, out):
    for i in range(words.size):
        low, high = words[i] & np.uint64(0xFFFFFFFF), words[i] >> np.uint64(32)
        radius = np.sqrt(-2.0 * np.log((np.float64(low >> np.uint64(8)) + 0.5) * 2.0**-24))
        angle = np.float64(high) * (2.0 * np.pi * 2.0**-32)
        out[2 * i] = radius * np.cos(angle)
        if 2 * i + 1 < out.size:
            out[2 * i + 1] = radius * np.sin(angle)


@partial(compiled, fastmath={"reassoc"})
def squared_norm(g):
    total = g.dtype.type(0)
    for i in range(g.size):
        total += g[i] * g[i]
    return total


@compiled
def adam_stretch(g, p, m, v, rate, beta1, rest1, beta2, rest2, eps):
    for i in range(g.size):
        m[i] = m[i] * beta1 + g[i] * rest1
        v[i] = v[i] * beta2 + g[i] * g[i] * rest2
        p[i] -= m[i] / (np.sqrt(v[i]) + eps) * rate


@compiled
def adam(grads, p, m, v, start, rate, beta1, rest1, beta2, rest2, eps, norms):
    """Returns where in p the last of the gradients ended."""
    for k in range(norms.size):
        g = grads[k]
        for a in range(0, g.size, NORM_STRETCH):
            part = g[a : a + NORM_STRETCH]
            stop = start + part.size
            norms[k] += squared_norm(part)
            adam_stretch(part, p[start:stop], m[start:stop], v[start:stop], rate, beta1, rest1, beta2, rest2, eps)
            start = stop
    return start
