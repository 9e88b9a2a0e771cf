"""Batch normalisation fused with leaky ReLU and dropout, over all axes but the last (method 3.3).

    xhat = (x - mean) * inv_std,  inv_std = 1 / sqrt(var + eps),  var biased
    a = gamma * xhat + beta,      y = leaky_relu(a) * keep / (1 - rate)
    g = gy * keep / (1 - rate) * (1 if a > 0 else slope),  gbeta = sum g,  ggamma = sum g * xhat
    gx = gamma * inv_std * (g - gbeta / M - xhat * ggamma / M),  M = N * H * W

All of it is bound by memory, so the passes over the tensor are counted: forward one where the convolution has taken the
moments, else two; backward one where the gradient has come through leaky ReLU and dropout already and brings its sums,
else two, both of which go through leaky ReLU and dropout, since to write g in between would cost more than to
compute it again. x and the mask are read once for all stacked cotangents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import device
from ..arrays import Activation, Array, Dropout, Normalised
from ..checks import check_activation, check_dropout, stacked
from ..launch import Work, launch
from .norm_kernels import moments_kernel, norm_grad_kernel, norm_grad_sums_kernel, normalise_kernel, statistics_kernel
from .philox import dropout_arguments
from .table import Table, ceil_div, grid_of, merged_at_once, rows_of, shares_of, table_of


def _check(name: str, slope: float, dropout: Dropout | None, x: Array, **vectors: Array) -> None:
    check_activation(name, Activation("leaky_relu", slope), x.shape[-1])
    check_dropout(name, dropout)
    for key, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(f"{name}: {key} has shape {vector.shape}, wanted {x.shape[-1:]} for x {x.shape}")


def moments_of(x: Array) -> tuple[Array, Array]:
    """(mean, biased variance) over all axes but the last: (C,) float32 each. One launch."""
    table = table_of(x)
    rows, channels = rows_of(x, table), x.shape[-1]
    shares, each = shares_of(rows, table)
    mean, var = device.empty(channels), device.empty(channels)
    arguments = {
        "x_ptr": x,
        "part_ptr": device.empty((2, shares, table.columns)),
        "counter_ptr": device.counters(table.blocks),
        "out_mean_ptr": mean,
        "out_var_ptr": var,
        "rows": rows,
        "shares": shares,
        "each": each,
    }
    constants = {"X_PITCH": device.pitch(x), "T": table, "AT_ONCE": merged_at_once(table)}
    work = Work(x.size * x.dtype.itemsize, 8 * channels, 4 * x.size)
    launch(moments_kernel, table.blocks * shares, arguments, constants, work=work)
    return mean, var


def batch_norm_leaky_relu(
    x: Array,
    gamma: Array,
    beta: Array,
    moments: tuple[Array, Array] | None = None,
    *,
    eps: float,
    slope: float,
    dropout: Dropout | None = None,
    dtype: Any = None,
    deferred: bool = False,
) -> tuple[Any, Array, Array]:
    """y = leaky_relu(gamma * (x - mean) / sqrt(var + eps) + beta), with dropout. One launch, two without moments.

    x            (..., C) float32 or bfloat16; gamma, beta: (C,) float32
    moments      (mean, biased variance) of x where a convolution has them already, else they are taken here
    slope        of the leaky ReLU, in [0, 1]; 1 leaves the normalised value as it is
    dropout      of y;  dtype: of y, that of x by default
    deferred     y is a `Normalised`, and its reader's to compute: a 1x1 convolution's. No dropout or dtype then

    Returns y: (..., C), mean: (C,), inv_std: (C,); float32 but for y.
    """
    mean, var = moments or (gamma, gamma)
    _check("batch_norm_leaky_relu", slope, dropout, x, gamma=gamma, beta=beta, mean=mean, var=var)
    mean, var = moments_of(x) if moments is None else moments
    inv_std = device.empty(x.shape[-1])
    if deferred:
        if dropout is not None or (dtype or x.dtype) != x.dtype:
            raise ValueError("batch_norm_leaky_relu: what is deferred has no dropout and no dtype of its own")
        return Normalised(x, gamma, beta, mean, var, inv_std, float(eps), float(slope)), mean, inv_std
    y = device.empty_activation(x.shape, dtype or x.dtype)
    table = table_of(y)
    random, constants = dropout_arguments(dropout)
    arguments = {
        "x_ptr": x,
        "gamma_ptr": gamma,
        "beta_ptr": beta,
        "mean_ptr": mean,
        "var_ptr": var,
        "y_ptr": y,
        "out_inv_std_ptr": inv_std,
        "rows": rows_of(x, table),
        "eps": float(eps),
        "slope": float(slope),
        **random,
    }
    work = Work(x.size * x.dtype.itemsize, y.size * y.dtype.itemsize, 4 * x.size)
    grid = grid_of(rows_of(x, table), table)
    launch(normalise_kernel, grid, arguments, {"X_PITCH": device.pitch(x), "T": table, **constants}, work=work)
    return y, mean, inv_std


def batch_norm_leaky_relu_grad(
    gy: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    y: Array | None = None,
    *,
    slope: float,
    dropout: Dropout | None = None,
    sums: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Gradient of `batch_norm_leaky_relu` through the normalisation's statistics as well. One launch with sums, else
    two.

    gy         (K * N, ..., C), of K cotangents;  x: (N, ..., C);  gamma, beta, mean, inv_std: (C,)
    y          not needed: x is read in any case
    dropout    of the forward pass
    sums       (K, 2, C) float32, of g and of g * (x - mean), where gy is g already (`arrays.NormState`)

    Returns gx: (K * N, ..., C), of x's dtype, and of the first cotangent ggamma: (C,), gbeta: (C,), float32.
    """
    name = "batch_norm_leaky_relu_grad"
    _check(name, slope, dropout, x, gamma=gamma, beta=beta, mean=mean, inv_std=inv_std)
    count, channels = stacked(name, gy.shape, x.shape), x.shape[-1]
    if sums is not None and sums.shape != (count, 2, channels):
        raise ValueError(f"{name}: sums have shape {sums.shape}, wanted {(count, 2, channels)}")
    state = {"gamma_ptr": gamma, "beta_ptr": beta, "mean_ptr": mean, "inv_std_ptr": inv_std}
    arguments = {"gy_ptr": gy, "x_ptr": x, "slope": float(slope), **state}
    gx = device.empty_activation(gy.shape, x.dtype)
    table = table_of(gx, largest=2048)
    passed = sums is not None
    if sums is None:
        sums = _grad_sums(arguments, count, table, dropout)
    random, constants = dropout_arguments(None if passed else dropout)
    ggamma, gbeta = device.empty(channels), device.empty(channels)
    arguments |= {"sums_ptr": sums, "gx_ptr": gx, "out_ggamma_ptr": ggamma, "out_gbeta_ptr": gbeta, **random}
    arguments |= {"rows": rows_of(x, table)}
    constants |= {"K": count, "PASSED": passed, "GY_PITCH": device.pitch(gy), "X_PITCH": device.pitch(x), "T": table}
    read, written = gy.size * gy.dtype.itemsize + x.size * x.dtype.itemsize, gx.size * gx.dtype.itemsize
    grid = grid_of(rows_of(x, table), table)
    launch(norm_grad_kernel, grid, arguments, constants, work=Work(read, written, 6 * gx.size))
    return gx, ggamma, gbeta


def _grad_sums(arguments: dict[str, Any], count: int, table: Table, dropout: Dropout | None) -> Array:
    """Sums of g and g * (x - mean) of each cotangent: (K, 2, C) float32."""
    gy, x = arguments["gy_ptr"], arguments["x_ptr"]
    rows, channels = rows_of(x, table), table.channels
    shares, each = shares_of(rows, table)
    random, constants = dropout_arguments(dropout)
    sums = device.empty((count, 2, channels))
    arguments = {
        **arguments,
        "part_ptr": device.empty((count, 2, shares, table.columns)),
        "counter_ptr": device.counters(count * table.blocks),
        "out_sums_ptr": sums,
        "rows": rows,
        "shares": shares,
        "each": each,
        **random,
    }
    constants |= {"GY_PITCH": device.pitch(gy), "X_PITCH": device.pitch(x)}
    constants |= {"T": table, "AT_ONCE": merged_at_once(table)}
    work = Work(gy.size * gy.dtype.itemsize + x.size * x.dtype.itemsize, 4 * sums.size, 7 * gy.size)
    launch(norm_grad_sums_kernel, (table.blocks * shares, count), arguments, constants, work=work)
    return sums


def update_statistics(
    batch: Sequence[tuple[Array, Array]],
    *,
    out_running: Sequence[tuple[Array, Array]],
    momentum: float,
) -> None:
    """Folds batch statistics into running ones: running <- running + momentum * (value - running), all norms at once.

    batch        (mean, inv_std) of each batch norm, (C,) float32 each
    out_running  (running mean, running standard deviation) of each, changed; the deviation follows 1 / inv_std
    """
    shapes = [[tuple(a.shape for a in pair) for pair in pairs] for pairs in (batch, out_running)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"update_statistics: batch has shapes {shapes[0]}, out_running {shapes[1]}")
    if not batch:
        return
    rows = [(*new, *old, old[0].size) for new, old in zip(batch, out_running, strict=True)]
    if any(np.dtype(a.dtype) != np.float32 for row in rows for a in row[:4]):
        raise ValueError("update_statistics: statistics must be float32")
    block = 256
    grid = (len(rows), ceil_div(max(row[4] for row in rows), block))
    numbers = sum(row[4] for row in rows)
    arguments = {"table_ptr": device.pointer_table(rows), "momentum": float(momentum)}
    launch(statistics_kernel, grid, arguments, {"BLOCK": block}, warps=2, work=Work(16 * numbers, 8 * numbers))
