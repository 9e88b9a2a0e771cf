"""What `norm.py` launches. Formulas: there. x: (rows, C); T: the table of the array that is written."""

from __future__ import annotations

from ..launch import jit, tl
from .table import (
    keep_tile,
    last_to_finish,
    load_parts,
    load_stacked,
    load_vector,
    locate,
    store_part,
    store_stacked,
    store_vector,
    sum_parts,
)


@jit
def moments_kernel(
    x_ptr, part_ptr, counter_ptr, out_mean_ptr, out_var_ptr,
    rows, shares, each, X_PITCH: tl.constexpr, T: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Mean and variance per channel. part: (2, shares, columns), of each share of `each` rows its mean and its centred
    second moment; the last program merges them. All are of x - x[0], since means far from zero lose too many digits."""
    BN: tl.constexpr = T.BN
    n0, share = locate(tl.program_id(0), T)
    pivot = load_vector(x_ptr, n0, T).to(tl.float32)
    mean = tl.zeros((BN,), tl.float32)
    m2 = tl.zeros((BN,), tl.float32)
    count = 0.0
    for row0 in range(share * each, min(rows, share * each + each), T.BM):
        x = load_stacked(x_ptr, 0, row0, rows, n0, X_PITCH, T) - pivot[None, :]
        exists = (row0 + tl.arange(0, T.BM) < rows)[:, None]
        here = min(rows - row0, T.BM) * 1.0
        here_mean = tl.sum(tl.where(exists, x, 0.0), 0) / here
        centred = tl.where(exists, x - here_mean[None, :], 0.0)
        # Chan, Golub and LeVeque 1979
        delta = here_mean - mean
        m2 += tl.sum(centred * centred, 0) + delta * delta * (count * here / (count + here))
        mean += delta * (here / (count + here))
        count += here
    store_part(part_ptr, share, mean, n0, T)
    store_part(part_ptr + shares * T.columns, share, m2, n0, T)
    if last_to_finish(counter_ptr + n0 // BN, shares):
        mean, var = merge_moments(part_ptr, n0, rows, shares, each, T, AT_ONCE)
        store_vector(out_mean_ptr, pivot + mean, n0, T)
        store_vector(out_var_ptr, var, n0, T)


@jit
def merge_moments(part_ptr, n0, rows, shares, each, T: tl.constexpr, AT_ONCE: tl.constexpr):
    """Mean and variance of all rows from those of the shares, in fixed order: the same formula for many sets."""
    BN: tl.constexpr = T.BN
    mean = tl.zeros((BN,), tl.float32)
    for first in range(0, shares, AT_ONCE):
        count = rows_in(first, rows, each, AT_ONCE)
        mean += tl.sum(count * load_parts(part_ptr, first, shares, n0, T, AT_ONCE), 0)
    mean /= rows
    m2 = tl.zeros((BN,), tl.float32)
    for first in range(0, shares, AT_ONCE):
        count = rows_in(first, rows, each, AT_ONCE)
        delta = load_parts(part_ptr, first, shares, n0, T, AT_ONCE) - mean[None, :]
        part_m2 = load_parts(part_ptr + shares * T.columns, first, shares, n0, T, AT_ONCE)
        m2 += tl.sum(part_m2 + count * delta * delta, 0)
    return mean, m2 / rows


@jit
def rows_in(first, rows, each, AT_ONCE: tl.constexpr):
    """How many rows the shares from `first` on have, 0 for those that are not: (AT_ONCE, 1) float32."""
    share = (first + tl.arange(0, AT_ONCE))[:, None]
    return tl.minimum(tl.maximum(rows - share * each, 0), each).to(tl.float32)


@jit
def normalise_kernel(
    x_ptr, gamma_ptr, beta_ptr, mean_ptr, var_ptr, y_ptr, out_inv_std_ptr, clock_ptr, stream, rows, eps, slope,
    X_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * T.BM
    mean, beta = load_vector(mean_ptr, n0, T), load_vector(beta_ptr, n0, T)
    inv_std = tl.rsqrt(load_vector(var_ptr, n0, T, 1.0) + eps)
    scale = load_vector(gamma_ptr, n0, T) * inv_std
    x = load_stacked(x_ptr, 0, row0, rows, n0, X_PITCH, T)
    a = (x - mean[None, :]) * scale[None, :] + beta[None, :]
    y = tl.where(a > 0, a, a * slope)
    if KEEP_FROM >= 0:
        y *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    store_stacked(y_ptr, 0, y, row0, rows, n0, T)
    if tile == 0:
        store_vector(out_inv_std_ptr, inv_std, n0, T)


@jit
def before_norm(gy, centred, scale, beta, slope):
    """gy through leaky ReLU, whose input is computed as the forward pass did."""
    return tl.where(centred * scale[None, :] + beta[None, :] > 0, gy, gy * slope)


@jit
def norm_grad_sums_kernel(
    gy_ptr, x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, part_ptr, counter_ptr, out_sums_ptr,
    clock_ptr, stream, rows, shares, each, slope,
    GY_PITCH: tl.constexpr, X_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr,
    T: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Sums of g and of g * (x - mean). part: (K, 2, shares, columns); out_sums: (K, 2, C); axis 1 of the grid: K."""
    BM: tl.constexpr = T.BM
    BN: tl.constexpr = T.BN
    n0, share = locate(tl.program_id(0), T)
    k = tl.program_id(1)
    mean, beta = load_vector(mean_ptr, n0, T), load_vector(beta_ptr, n0, T)
    scale = load_vector(gamma_ptr, n0, T) * load_vector(inv_std_ptr, n0, T)
    sum_g = tl.zeros((BM, BN), tl.float32)
    sum_gx = tl.zeros((BM, BN), tl.float32)
    for row0 in range(share * each, min(rows, share * each + each), BM):
        centred = load_stacked(x_ptr, 0, row0, rows, n0, X_PITCH, T) - mean[None, :]
        g = load_stacked(gy_ptr, k, row0, rows, n0, GY_PITCH, T)
        g = before_norm(g, centred, scale, beta, slope)
        if KEEP_FROM >= 0:
            g *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
        sum_g += g
        sum_gx += g * centred
    first_ptr = part_ptr + k * 2 * shares * T.columns
    second_ptr = first_ptr + shares * T.columns
    store_part(first_ptr, share, tl.sum(sum_g, 0), n0, T)
    store_part(second_ptr, share, tl.sum(sum_gx, 0), n0, T)
    if last_to_finish(counter_ptr + k * T.blocks + n0 // BN, shares):
        out_sums_ptr += k * 2 * T.channels
        store_vector(out_sums_ptr, sum_parts(first_ptr, shares, n0, T, AT_ONCE), n0, T)
        store_vector(out_sums_ptr + T.channels, sum_parts(second_ptr, shares, n0, T, AT_ONCE), n0, T)


@jit
def norm_grad_kernel(
    gy_ptr, x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, sums_ptr, gx_ptr, out_ggamma_ptr, out_gbeta_ptr,
    clock_ptr, stream, rows, slope,
    K: tl.constexpr, PASSED: tl.constexpr, GY_PITCH: tl.constexpr, X_PITCH: tl.constexpr,
    KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """gx of K stacked cotangents. PASSED: gy has gone through dropout and leaky ReLU already."""
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * T.BM
    inv_std, beta = load_vector(inv_std_ptr, n0, T), load_vector(beta_ptr, n0, T)
    scale = load_vector(gamma_ptr, n0, T) * inv_std
    centred = load_stacked(x_ptr, 0, row0, rows, n0, X_PITCH, T) - load_vector(mean_ptr, n0, T)[None, :]
    if KEEP_FROM >= 0 and not PASSED:
        keep = keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    for k in tl.static_range(K):
        sum_g = load_vector(sums_ptr + 2 * k * T.channels, n0, T)
        sum_gx = load_vector(sums_ptr + (2 * k + 1) * T.channels, n0, T)
        if k == 0 and tile == 0:
            store_vector(out_gbeta_ptr, sum_g, n0, T)
            store_vector(out_ggamma_ptr, sum_gx * inv_std, n0, T)
        g = load_stacked(gy_ptr, k, row0, rows, n0, GY_PITCH, T)
        if not PASSED:
            g = before_norm(g, centred, scale, beta, slope)
            if KEEP_FROM >= 0:
                g *= keep
        factor, shift = -scale * inv_std * inv_std * sum_gx / rows, -scale * sum_g / rows
        gx = g * scale[None, :] + (centred * factor[None, :] + shift[None, :])
        store_stacked(gx_ptr, k, gx, row0, rows, n0, T)


@jit
def statistics_kernel(table_ptr, momentum, BLOCK: tl.constexpr):
    """A row of the table: addresses of mean, inv_std, running mean, running deviation; C. Axis 0 of the grid: rows."""
    table_ptr += tl.program_id(0) * 5
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < tl.load(table_ptr + 4)
    for part in tl.static_range(2):
        value_ptr = tl.load(table_ptr + part).to(tl.pointer_type(tl.float32))
        out_ptr = tl.load(table_ptr + 2 + part).to(tl.pointer_type(tl.float32))
        value = tl.load(value_ptr + offs, mask=mask, other=1.0)
        running = tl.load(out_ptr + offs, mask=mask, other=0.0)
        if part == 1:
            value = 1 / value
        tl.store(out_ptr + offs, running + momentum * (value - running), mask=mask)
