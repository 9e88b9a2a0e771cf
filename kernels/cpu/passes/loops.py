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
def winner_sums(g, winner, pieces, total):
    """Places are unsigned: a signed one would be looked at for being negative, from the end."""
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            total[np.uintp(j * pieces + winner[n, j])] += g[n, j]


@compiled
def winner_input_grad(g, winner, w, pieces, out):
    """Of rows that fill no vector: `rows.py` has the loop for others."""
    out[:] = 0
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            for k in range(out.shape[1]):
                out[n, k] += g[n, j] * w[j * pieces + winner[n, j], k]


@compiled
def winner_weight_grad(g, winner, x, pieces, out):
    """Of rows that fill no vector: `rows.py` has the loop for others."""
    out[:] = 0
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            for k in range(out.shape[1]):
                out[j * pieces + winner[n, j], k] += g[n, j] * x[n, k]


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
def centred_sums(x, mean, part, shift, squares, start, stop):
    """Sums of x - mean and of its square."""
    for first in range(0, x.shape[0], STRETCH):
        part[:, start:stop] = 0
        for i in range(first, min(first + STRETCH, x.shape[0])):
            for j in range(start, stop):
                d = x[i, j] - mean[j]
                part[0, j] += d
                part[1, j] += d * d
        for j in range(start, stop):
            shift[j] += part[0, j]
            squares[j] += part[1, j]


@compiled
def moments(x, rows, part, centre, sums, mean, m2, start, stop):
    """mean and m2: (C,) float64, zero before: of blocks of so many rows, merged as `Moments.merge` does."""
    for first in range(0, x.shape[0], rows):
        block = x[first : first + rows]
        count = block.shape[0]
        sums[:, start:stop] = 0
        column_sums(block, part[0], sums[0], start, stop)
        for j in range(start, stop):
            centre[j] = sums[0, j] / count
        centred_sums(block, centre, part, sums[1], sums[2], start, stop)
        for j in range(start, stop):
            rounding = sums[1, j] / count  # what rounding the mean left behind
            delta = centre[j] + rounding - mean[j]
            m2[j] += sums[2, j] - count * rounding**2
            if first > 0:
                m2[j] += delta**2 * (first * count / (first + count))
            mean[j] += delta * (count / (first + count))


@compiled
def norm_vectors(gamma, beta, var, eps, one, grown, out, start, stop):
    for j in range(start, stop):
        out[0, j] = one / np.sqrt(var[j] + eps)
        out[1, j] = gamma[j] * out[0, j] * grown
        out[2, j] = beta[j] * grown


@compiled
def norm_factors(sums, gamma, inv_std, rows, factors, gammas, start, stop):
    for k in range(sums.shape[0]):
        for j in range(start, stop):
            scale = gamma[j] * inv_std[j]
            factors[k, 0, j] = scale
            factors[k, 1, j] = sums[k, 1, j] * (scale * inv_std[j] ** 2 / -rows)
            factors[k, 2, j] = sums[k, 0, j] * (scale / -rows)
    for j in range(start, stop):
        gammas[0, j], gammas[1, j] = sums[0, 1, j] * inv_std[j], sums[0, 0, j]


@compiled
def running(mean, inv_std, running_mean, running_std, momentum, one):
    for j in range(mean.size):
        running_mean[j] += momentum * (mean[j] - running_mean[j])
        running_std[j] += momentum * (one / inv_std[j] - running_std[j])


@compiled
def normalise(x, centre, scale, shift, slope, out, start, stop):
    for i in range(x.shape[0]):
        for j in range(start, stop):
            a = (x[i, j] - centre[j]) * scale[j] + shift[j]
            out[i, j] = slope * a if a < 0 else a


@compiled
def norm_channels(x, gamma, beta, eps, one, grown, slope, rows, part, sums, vectors, mean, out, start, stop):
    """A batch norm on some channels, from their moments on; part: (3, C) and sums: (5, C) to work with."""
    moments(x, rows, part[:2], part[2], sums[2:], sums[0], sums[1], start, stop)
    for j in range(start, stop):
        mean[j], part[2, j] = sums[0, j], sums[1, j] / x.shape[0]
    norm_vectors(gamma, beta, part[2], eps, one, grown, vectors, start, stop)
    normalise(x, mean, vectors[1], vectors[2], slope, out, start, stop)


@compiled
def through(gy, x, mean, scale, beta, slope, out):
    """gy times the slope at a, which is computed again."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            a = (x[i, j] - mean[j]) * scale[j] + beta[j]
            out[i, j] = gy[i, j] if a > 0 else gy[i, j] * slope


@compiled
def gradient_sums(g, x, mean, part, sums):
    """Sums of g and of g * (x - mean)."""
    for start in range(0, x.shape[0], STRETCH):
        part[:] = 0
        for i in range(start, min(start + STRETCH, x.shape[0])):
            for j in range(x.shape[1]):
                part[0, j] += g[i, j]
                part[1, j] += g[i, j] * (x[i, j] - mean[j])
        for j in range(x.shape[1]):
            sums[0, j] += part[0, j]
            sums[1, j] += part[1, j]


@compiled
def through_kept(g, x, y, mean, slope, one, part, sums, start, stop):
    """g <- g times the slope at y, and the sums of `gradient_sums`, in one go.

    Times one or the slope: if one of two values were g itself, it would be stored under a condition, one by one."""
    for first in range(0, x.shape[0], STRETCH):
        part[:, start:stop] = 0
        for i in range(first, min(first + STRETCH, x.shape[0])):
            for j in range(start, stop):
                passed = g[i, j] * (one if y[i, j] > 0 else slope)
                g[i, j] = passed
                part[0, j] += passed
                part[1, j] += passed * (x[i, j] - mean[j])
        for j in range(start, stop):
            sums[0, j] += part[0, j]
            sums[1, j] += part[1, j]


@compiled
def norm_grad(g, x, mean, k0, k1, k2, out, start, stop):
    for i in range(x.shape[0]):
        for j in range(start, stop):
            out[i, j] = g[i, j] * k0[j] + ((x[i, j] - mean[j]) * k1[j] + k2[j])


@compiled
def norm_channels_grad(g, x, y, gamma, mean, inv_std, slope, one, part, sums, factors, gammas, start, stop):
    """The way back through a norm and its leaky ReLU on some channels, g changed; sums: (1, 2, C), zero before."""
    through_kept(g, x, y, mean, slope, one, part, sums[0], start, stop)
    norm_factors(sums, gamma, inv_std, x.shape[0], factors, gammas, start, stop)
    norm_grad(g, x, mean, factors[0, 0], factors[0, 1], factors[0, 2], g, start, stop)


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
