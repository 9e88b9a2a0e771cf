"""The products of a 1x1 layer whose input a batch norm with leaky ReLU makes: normalised where it is read.

    y = W h,   gW = sum over pixels of gy h^T,   h = leaky_relu(a),  a = gamma (x - mean) inv_std + beta

Such a layer reads each pixel once for each tile of columns, so that h costs a few operations an element here, and its
tensor is not written, to be read twice. It is rounded as it would be in memory. A layer with larger kernels would
normalise each element once for each entry of its window: for those h is written.

`arrays.Normalised` is such an input. x's pads are zeros, and so are h's: scale, beta and mean are zero there. Rows that
do not exist are not; they are stored nowhere, or meet zeros.
"""

from __future__ import annotations

from ..launch import jit, tl
from .conv_columns import finish_columns
from .conv_epilogue import finish
from .conv_kernels import window_tile
from .window_gemm import load_weights, load_windows, multiply_add


@jit
def inverse_deviation(var_ptr, eps, c, C: tl.constexpr):
    """inv_std of channels c."""
    return tl.rsqrt(tl.load(var_ptr + c, mask=c < C, other=1.0) + eps)


@jit
def affine(norm, inv_std, c, C: tl.constexpr):
    """mean, scale and beta of channels c, float32."""
    gamma_ptr, beta_ptr, mean_ptr = norm
    mask = c < C
    scale = tl.load(gamma_ptr + c, mask=mask, other=0.0) * inv_std
    return tl.load(mean_ptr + c, mask=mask, other=0.0), scale, tl.load(beta_ptr + c, mask=mask, other=0.0)


@jit
def normalised(x, mean, scale, beta, slope):
    """h of a tile x, with the vectors along either axis."""
    a = (x.to(tl.float32) - mean) * scale + beta
    return tl.where(a > 0, a, a * slope).to(x.dtype)


@jit
def normed_product(a_ptr, w_ptr, norm, var_ptr, eps, slope, m, m_mask, n, G: tl.constexpr):
    """As `window_product` with windows of one pixel."""
    BM: tl.constexpr = G.BM
    BN: tl.constexpr = G.BN
    DOT: tl.constexpr = G.dot
    pixel = m * G.pitch
    acc = tl.zeros((BM, BN), tl.float32)
    for step in tl.range(0, G.steps, num_stages=G.stages):
        c = step * G.BK + tl.arange(0, G.BK)
        mean, scale, beta = affine(norm, inverse_deviation(var_ptr, eps, c, G.depth), c, G.depth)
        x = load_windows(a_ptr, pixel, m, m, m_mask, step, G)
        b = load_weights(w_ptr, n, step, G)
        acc = multiply_add(normalised(x, mean[None, :], scale[None, :], beta[None, :], slope), b, acc, DOT)
    return acc


@jit
def normed_weight_tile(pid, big_ptr, small_ptr, parts_ptr, norm, inv_std_ptr, slope, pixels, per, G: tl.constexpr,
                       SMALL: tl.constexpr):  # fmt: skip
    """As `weight_tile` with kernels of one pixel; SMALL: it is the operand `small` that is normalised, else `big`."""
    BM: tl.constexpr = G.BM
    BN: tl.constexpr = G.BN
    DOT: tl.constexpr = G.dot
    piece, tile = pid // G.tiles, pid % G.tiles
    m = tile // G.tiles_n * G.BM + tl.arange(0, G.BM)
    n = tile % G.tiles_n * G.BN + tl.arange(0, G.BN)
    c = n if SMALL else m
    C: tl.constexpr = G.O if SMALL else G.C
    mean, scale, beta = affine(norm, tl.load(inv_std_ptr + c, mask=c < C, other=0.0), c, C)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in tl.range(piece * per, tl.minimum(piece * per + per, pixels), G.BK, num_stages=G.stages):
        k = start + tl.arange(0, G.BK)
        a_mask = (m < G.M)[:, None] & (k < pixels)[None, :]
        a = tl.load(big_ptr + m[:, None] + (k * G.pitch)[None, :], mask=a_mask, other=0.0)
        b_mask = (k < pixels)[:, None] & (n < G.gy_pitch)[None, :]
        b = tl.load(small_ptr + k[:, None] * G.gy_pitch + n[None, :], mask=b_mask, other=0.0)
        if SMALL:
            b = normalised(b, mean[None, :], scale[None, :], beta[None, :], slope)
        else:
            a = normalised(a, mean[:, None], scale[:, None], beta[:, None], slope)
        acc = multiply_add(a, b, acc, DOT)
    w_offs = (piece * G.O + n)[None, :] * G.C + m[:, None]
    tl.store(parts_ptr + w_offs, acc, mask=(n < G.O)[None, :] & (m < G.C)[:, None])


@jit
def pointwise_window(a_ptr, w_ptr, y_ptr, bias_ptr, winner_ptr, gamma_ptr, beta_ptr, mean_ptr, var_ptr, out_inv_std_ptr,
                     eps, slope, clock_ptr, stream, parts_ptr, sums_ptr, counters_ptr, images, sets, G: tl.constexpr,
                     E: tl.constexpr):  # fmt: skip
    """As `conv_window`; the norm is the one in front, whose inv_std the first program leaves for the way back."""
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(images * G.positions, G.BM)
    tile_n, tile = pid % G.tiles_n, pid // G.tiles_n
    m = tile * G.BM + tl.arange(0, G.BM)
    m_mask = m < images * G.positions
    n = tile_n * G.BN + tl.arange(0, G.BN)
    acc = normed_product(a_ptr, w_ptr, (gamma_ptr, beta_ptr, mean_ptr), var_ptr, eps, slope, m, m_mask, n, G)
    finish(acc, tile_n * G.BN, m, m_mask, 0, tile, (y_ptr, bias_ptr, winner_ptr), None, (clock_ptr, stream), parts_ptr,
           G, E)  # fmt: skip
    if pid == 0:
        for first in range(0, G.depth, 128):
            c = first + tl.arange(0, 128)
            tl.store(out_inv_std_ptr + c, inverse_deviation(var_ptr, eps, c, G.depth), mask=c < G.depth)
    if E.reduces:
        finish_columns(0, sets, tile, tiles_m, tile_n, (parts_ptr, sums_ptr, counters_ptr), G, E)


@jit
def pointwise_weight(big_ptr, small_ptr, gw_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, slope, pixels, per,
                     WG: tl.constexpr, SMALL: tl.constexpr):  # fmt: skip
    """As `conv_weight`."""
    norm = (gamma_ptr, beta_ptr, mean_ptr)
    normed_weight_tile(tl.program_id(0), big_ptr, small_ptr, gw_ptr, norm, inv_std_ptr, slope, pixels, per, WG, SMALL)


@jit
def pointwise_backward(a_ptr, w_ptr, y_ptr, x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, slope, clock_ptr, stream,
                       parts_ptr, sums_ptr, counters_ptr, images, sets, big_ptr, small_ptr, gw_ptr, pixels, per,
                       windows, G: tl.constexpr, E: tl.constexpr, WG: tl.constexpr, SMALL: tl.constexpr):  # fmt: skip
    """As `conv_backward`: the gradient passes through the norm that the weight gradient applies to the same x."""
    pid = tl.program_id(0)
    if pid < windows:
        norm = (x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr)
        window_tile(pid, a_ptr, w_ptr, (y_ptr, None, None), norm, (clock_ptr, stream),
                    (parts_ptr, sums_ptr, counters_ptr), images, sets, G, E)  # fmt: skip
    else:
        normed_weight_tile(pid - windows, big_ptr, small_ptr, gw_ptr, (gamma_ptr, beta_ptr, mean_ptr), inv_std_ptr,
                           slope, pixels, per, WG, SMALL)  # fmt: skip
