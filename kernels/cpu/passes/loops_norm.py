"""The loops behind `fused_norm`, as `loops` has the others: what holds there holds here."""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .loops import STRETCH, column_sums


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
    of_blocks, exact, m2 = sums[2:], sums[0], sums[1]
    centre = var = part[2]  # one after the other
    moments(x, rows, part[:2], centre, of_blocks, exact, m2, start, stop)
    for j in range(start, stop):
        mean[j], var[j] = exact[j], m2[j] / x.shape[0]
    norm_vectors(gamma, beta, var, eps, one, grown, vectors, start, stop)
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
