"""Batch normalisation fused with leaky ReLU and the next layer's dropout, over all axes but the last (method 3.3).

    xhat = (x - mean) * inv_std,  inv_std = 1 / sqrt(var + eps),  var biased
    a = gamma * xhat + beta,      y = leaky_relu(a) * keep / (1 - rate)
    g = gy * keep / (1 - rate) * (1 if a > 0 else slope),  gbeta = sum g,  ggamma = sum g * xhat
    gx = gamma * inv_std * (g - gbeta / M - xhat * ggamma / M),  M = N * H * W

Moments (`moments.py`) come from the convolution that made x, taken while its output was in cache; g and its sums
(`through.py`) from the one that made gy, where it knew of this norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Activation, Dropout, NormState
from ..checks import check_activation, check_contiguous, check_dropout, stacked
from . import passes
from .joined import Passed, Product
from .masks import keep_mask
from .moments import moments_of
from .parallel import split
from .through import Through, fold, tiled


def _check(name: str, slope: float, x: np.ndarray, **vectors: np.ndarray) -> None:
    check_contiguous(name, x=x)
    check_activation(name, Activation("leaky_relu", slope), x.shape[-1])
    channels = x.shape[-1:]
    for key, vector in vectors.items():
        if vector.shape != channels:
            raise ValueError(f"{name}: {key} has shape {vector.shape}, wanted {channels} for x {x.shape}")


def batch_norm_leaky_relu(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray] | Product | None = None,
    *,
    eps: float,
    slope: float,
    dropout: Dropout | None = None,
    dtype: type | None = None,
    deferred: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y = dropout(leaky_relu(gamma * (x - mean) / sqrt(var + eps) + beta)).

    x            (..., C) float32 or float64; gamma, beta: (C,)
    moments      (mean, biased variance) of x where a convolution has them already, else they are taken here; or what it
                 has left to fill x from (`deferred`)
    slope        of the leaky ReLU, in [0, 1]; 1 leaves the normalised value as it is
    dropout      of the result;  dtype: of y, where it differs from x's
    deferred     y may be left to its reader; here it never is, since backward would compute it again

    Returns y: (..., C), mean: (C,), inv_std: (C,).
    """
    check_dropout("batch_norm_leaky_relu", dropout)
    if isinstance(moments, Product):
        _check("batch_norm_leaky_relu", slope, x, gamma=gamma, beta=beta)
        y, mean, inv_std = moments.normed(x, gamma, beta, eps, slope, dropout)
        return y.astype(dtype or y.dtype, copy=False), mean, inv_std
    mean, var = moments or (gamma, gamma)
    _check("batch_norm_leaky_relu", slope, x, gamma=gamma, beta=beta, mean=mean, var=var)
    mean, var = moments_of(x) if moments is None else moments
    y = np.empty_like(x)
    several = fold(x.size // x.shape[-1], x.shape[-1])
    grown = 1 / (1 - dropout.rate) if dropout else 1.0  # of what is kept: leaky_relu(grown * a) = grown * leaky_relu(a)
    inv_std, *vectors = passes.norm_vectors(gamma, beta, var, eps, grown)
    scale, shift, centre = (tiled(v, several) for v in (*vectors, mean))
    x_rows, y_rows = x.reshape(-1, scale.size), y.reshape(-1, scale.size)
    keep = keep_mask(dropout, x.size).reshape(x_rows.shape) if dropout else None

    def share(start: int, stop: int, _part: int) -> None:
        here = slice(start, stop)
        kept = None if keep is None else keep[here]
        passes.normalise(x_rows[here], centre, scale, shift, slope, kept, y_rows[here])

    split(share, len(x_rows), work=10 * x.size)
    return y.astype(dtype or y.dtype, copy=False), mean, inv_std


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
    dropout: Dropout | None = None,
    sums: np.ndarray | Passed | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient of `batch_norm_leaky_relu` through the normalisation's statistics as well.

    gy       (K N, ..., C), K cotangents;  x: (N, ..., C);  gamma, beta, mean, inv_std: (C,)
    y        the output of the forward pass, where it is at hand: its sign spares computing a again
    sums     (K, 2, C), what a convolution with `through` returned beside gy, which then is g; or, where that was passed
             through the whole norm, what it returned instead

    Returns gx: (K N, ..., C), and of the first cotangent ggamma: (C,), gbeta: (C,).
    """
    if isinstance(sums, Passed):
        return gy, sums.ggamma, sums.gbeta
    name = "batch_norm_leaky_relu_grad"
    _check(name, slope, x, gamma=gamma, beta=beta, mean=mean, inv_std=inv_std)
    check_contiguous(name, gy=gy)
    check_dropout(name, dropout)
    count, rows = stacked(name, gy.shape, x.shape), x.size // x.shape[-1]
    if y is not None and y.shape != x.shape:
        raise ValueError(f"{name}: y has shape {y.shape}, wanted {x.shape}")
    if sums is not None and sums.shape != (count, 2, x.shape[-1]):
        raise ValueError(f"{name}: sums have shape {sums.shape}, wanted {(count, 2, x.shape[-1])}")
    gx = np.empty_like(gy)
    several = fold(rows, x.shape[-1])
    x_rows = x.reshape(rows // several, -1)
    gy_rows, gx_rows = (v.reshape(count, *x_rows.shape) for v in (gy, gx))
    if sums is None:
        through = Through(NormState(x, gamma, beta, mean, inv_std, slope, dropout), rows, y)

        def reduce(start: int, stop: int, part: int) -> None:
            here = slice(start, stop)
            for k in range(count):
                through.run(k, here, gy_rows[k, here], gx_rows[k, here], part)

        split(reduce, len(x_rows), work=10 * gy.size)
        sums, g_rows = through.sums(count), gx_rows
    else:
        g_rows = gy_rows
    # gx = k0 g + k1 (x - mean) + k2 with one number a channel each
    factors, ggamma, gbeta = passes.norm_factors(sums, gamma, inv_std, rows)
    folded, centre = tiled(factors, several), tiled(mean.astype(x.dtype, copy=False), several)

    def combine(start: int, stop: int, _part: int) -> None:
        here = slice(start, stop)
        for k in range(count):
            k0, k1, k2 = folded[k]
            passes.norm_grad(g_rows[k, here], x_rows[here], centre, k0, k1, k2, gx_rows[k, here])

    split(combine, len(x_rows), work=10 * gy.size)
    return gx, ggamma, gbeta


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
        passes.running(mean, inv_std, running_mean, running_std, momentum)
