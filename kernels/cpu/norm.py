"""Batch normalisation fused with leaky ReLU, over all axes but the last (method 3.3).

    xhat = (x - mean) * inv_std,  inv_std = 1 / sqrt(var + eps),  var biased
    a = gamma * xhat + beta,      y = leaky_relu(a)
    g = gy * (1 if a > 0 else slope),  gbeta = sum g,  ggamma = sum g * xhat
    gx = gamma * inv_std * (g - gbeta / M - xhat * ggamma / M),  M = N * H * W

Moments are means and centred second moments of chunks, merged by Chan's formula; never E[x^2] - E[x]^2. A convolution
hands them over, taken while its output was in cache. Rows of few channels are treated several at a time, since an
inner loop of 32 elements would cost more in its overhead than in its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Activation, check_activation, check_contiguous
from .activation import column_sums, leaky_relu_, slopes
from .parallel import BLOCK, scratch, split


class Moments:
    """Count, mean and centred second moment per channel of what it was shown, in float64."""

    def __init__(self, channels: int):
        self.count = 0
        self.mean = np.zeros(channels)
        self.m2 = np.zeros(channels)

    def add(self, x: np.ndarray) -> None:
        """Takes in x: (rows, C), block by block."""
        step = max(1, BLOCK // x.shape[1])
        for a in range(0, len(x), step):
            block = x[a : a + step]
            mean = column_sums(block) / len(block)
            centred = np.subtract(block, mean.astype(x.dtype), out=scratch("act", block.shape, x.dtype))
            shift = column_sums(centred) / len(block)  # what rounding the mean left behind
            centred *= centred
            self.merge(len(block), mean.astype(x.dtype) + shift, column_sums(centred) - len(block) * shift**2)

    def merge(self, count: int, mean: np.ndarray, m2: np.ndarray) -> None:
        """Chan, Golub and LeVeque 1979: joins two sets of moments."""
        total = self.count + count
        delta = mean - self.mean
        self.m2 += m2 + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total


def merge_moments(parts: list[Moments], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) of several sets, in order: (C,) each, of `dtype`."""
    first = parts[0]
    for other in parts[1:]:
        first.merge(other.count, other.mean, other.m2)
    return first.mean.astype(dtype), (first.m2 / first.count).astype(dtype)


def moments_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, biased variance) over all axes but the last: (C,) each."""
    rows = x.reshape(-1, x.shape[-1])
    parts: dict[int, Moments] = {}

    def share(start: int, stop: int, part: int) -> None:
        parts[part] = Moments(rows.shape[1])
        parts[part].add(rows[start:stop])

    count = split(share, len(rows), work=4 * x.size)
    return merge_moments([parts[part] for part in range(count)], x.dtype)


def _check(name: str, slope: float, x: np.ndarray, **vectors: np.ndarray) -> None:
    check_contiguous(name, x=x)
    check_activation(name, Activation("leaky_relu", slope), x.shape[-1])
    for key, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(f"{name}: {key} has shape {vector.shape}, wanted {x.shape[-1:]} for x {x.shape}")


def _fold(rows: int, channels: int) -> int:
    """How many rows to treat as one: the largest divisor of `rows` that keeps them within 4,096 elements."""
    return max(d for d in range(1, max(2, 4096 // channels + 1)) if rows % d == 0)


def batch_norm_leaky_relu(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    eps: float,
    slope: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y = leaky_relu(gamma * (x - mean) / sqrt(var + eps) + beta).

    x            (..., C) float32 or float64; gamma, beta: (C,)
    moments      (mean, biased variance) of x where a convolution has them already, else they are taken here
    slope        of the leaky ReLU, in [0, 1]; 1 leaves the normalised value as it is

    Returns y: (..., C), mean: (C,), inv_std: (C,).
    """
    mean, var = moments or (gamma, gamma)
    _check("batch_norm_leaky_relu", slope, x, gamma=gamma, beta=beta, mean=mean, var=var)
    mean, var = moments_of(x) if moments is None else moments
    inv_std = 1 / np.sqrt(var + x.dtype.type(eps))
    y = np.empty_like(x)
    fold = _fold(x.size // x.shape[-1], x.shape[-1])
    scale, centre, shift = (np.tile(v, fold) for v in (gamma * inv_std, mean, beta))
    x_rows, y_rows = x.reshape(-1, scale.size), y.reshape(-1, scale.size)
    step = max(1, BLOCK // scale.size)

    def share(start: int, stop: int, _part: int) -> None:
        for a in range(start, stop, step):
            block = y_rows[a : min(a + step, stop)]
            np.subtract(x_rows[a : a + len(block)], centre, out=block)
            block *= scale
            block += shift
            leaky_relu_(block, slope)

    split(share, len(x_rows), work=5 * x.size)
    return y, mean, inv_std


def batch_norm_leaky_relu_grad(
    gy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    y: np.ndarray | None = None,
    *,
    slope: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of `batch_norm_leaky_relu` through the normalisation's statistics as well.

    gy, x    (..., C);  gamma, beta, mean, inv_std: (C,)
    y        the output of the forward pass, where it is at hand: its sign spares computing a again

    Returns gx: (..., C), ggamma: (C,), gbeta: (C,).
    """
    _check("batch_norm_leaky_relu_grad", slope, x, gamma=gamma, beta=beta, mean=mean, inv_std=inv_std)
    if gy.shape != x.shape:
        raise ValueError(f"batch_norm_leaky_relu_grad: gy has shape {gy.shape}, wanted {x.shape}")
    if y is not None and y.shape != x.shape:
        raise ValueError(f"batch_norm_leaky_relu_grad: y has shape {y.shape}, wanted {x.shape}")
    channels, rows = x.shape[-1], x.size // x.shape[-1]
    fold = _fold(rows, channels)
    width, folded = fold * channels, rows // fold
    tiled = [np.tile(v, fold) for v in (mean, gamma * inv_std, beta)]
    gx = np.empty_like(x)
    gy_rows, x_rows, gx_rows = (v.reshape(folded, width) for v in (gy, x, gx))
    y_rows = None if y is None else y.reshape(folded, width)
    sums: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def reduce(start: int, stop: int, part: int) -> None:
        y_share = None if y_rows is None else y_rows[start:stop]
        sums[part] = _reduce(gy_rows[start:stop], x_rows[start:stop], y_share, gx_rows[start:stop], tiled, slope)

    parts = split(reduce, folded, work=10 * x.size)
    gbeta, ggamma = (np.sum([sums[p][k] for p in range(parts)], axis=0) for k in (0, 1))
    gbeta, ggamma = (v.reshape(fold, channels).sum(axis=0) for v in (gbeta, ggamma))
    ggamma *= inv_std
    # gx = k0 g + k1 (x - mean) + k2 with one number a channel each
    k0 = gamma * inv_std
    k1 = -k0 * inv_std * ggamma / rows
    k2 = -k0 * gbeta / rows
    factors = [np.tile(v.astype(x.dtype), fold) for v in (k0, k1, k2)]

    def combine(start: int, stop: int, _part: int) -> None:
        _combine(x_rows[start:stop], gx_rows[start:stop], tiled[0], factors)

    split(combine, folded, work=5 * x.size)
    return gx, ggamma.astype(x.dtype), gbeta.astype(x.dtype)


def _reduce(
    gy: np.ndarray, x: np.ndarray, y: np.ndarray | None, g: np.ndarray, tiled: list[np.ndarray], slope: float
) -> tuple[np.ndarray, np.ndarray]:
    """g <- gy * act'(a); returns the column sums of g and of g * (x - mean), in float64."""
    mean, scale, beta = tiled
    sum_g, sum_gx = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    step = max(1, BLOCK // x.shape[1])
    for a in range(0, len(x), step):
        here = slice(a, a + step)
        centred = np.subtract(x[here], mean, out=scratch("centred", x[here].shape, x.dtype))
        if y is None:
            a_here = np.multiply(centred, scale, out=scratch("pre", centred.shape, x.dtype))
            a_here += beta
        else:
            a_here = y[here]
        np.multiply(gy[here], slopes(a_here, slope), out=g[here])
        sum_g += column_sums(g[here])
        centred *= g[here]
        sum_gx += column_sums(centred)
    return sum_g, sum_gx


def _combine(x: np.ndarray, g: np.ndarray, mean: np.ndarray, factors: list[np.ndarray]) -> None:
    step = max(1, BLOCK // x.shape[1])
    for a in range(0, len(x), step):
        here = slice(a, a + step)
        t = np.subtract(x[here], mean, out=scratch("centred", x[here].shape, x.dtype))
        t *= factors[1]
        t += factors[2]
        block = g[here]
        block *= factors[0]
        block += t


def update_statistics(
    batch: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    out_running: Sequence[tuple[np.ndarray, np.ndarray]],
    momentum: float,
) -> None:
    """Folds batch statistics into running ones: running <- running + momentum * (value - running), all norms at once.

    batch        (mean, inv_std) of each batch norm, (C,) each
    out_running  (running mean, running standard deviation) of each, changed; the deviation follows 1 / inv_std
    """
    shapes = [[tuple(a.shape for a in pair) for pair in pairs] for pairs in (batch, out_running)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"update_statistics: batch has shapes {shapes[0]}, out_running {shapes[1]}")
    for (mean, inv_std), (running_mean, running_std) in zip(batch, out_running, strict=True):
        running_mean += momentum * (mean - running_mean)
        running_std += momentum * (1 / inv_std - running_std)
