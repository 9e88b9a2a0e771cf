"""The three kernels of `conv.py`: windows (a convolution or an input gradient), weight gradient, and both at once."""

from __future__ import annotations

from ..launch import jit, tl
from .conv_columns import finish_columns
from .conv_epilogue import finish
from .weight_gemm import weight_tile
from .window_gemm import window_product


@jit
def window_tile(pid, a_ptr, w_ptr, out, norm, random, columns, images, sets, G: tl.constexpr, E: tl.constexpr):
    """Program pid of sets * tiles: a set is `images` images, whose rows are cut into tiles by themselves."""
    tiles_m = tl.cdiv(images * G.positions, G.BM)
    tile_n, set, tile = pid % G.tiles_n, pid // G.tiles_n // tiles_m, pid // G.tiles_n % tiles_m
    m = tile * G.BM + tl.arange(0, G.BM)
    m_mask = m < images * G.positions
    acc = window_product(a_ptr, w_ptr, set * images, m, m_mask, tile_n * G.BN + tl.arange(0, G.BN), G)
    finish(acc, tile_n * G.BN, m, m_mask, set * images, set * tiles_m + tile, out, norm, random, columns[0], G, E)
    if E.reduces:
        finish_columns(set, sets, tile, tiles_m, tile_n, columns, G, E)


@jit
def conv_window(a_ptr, w_ptr, y_ptr, bias_ptr, winner_ptr, x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, clock_ptr,
                stream, parts_ptr, sums_ptr, counters_ptr, images, sets, G: tl.constexpr, E: tl.constexpr):  # fmt: skip
    """A convolution or an input gradient with its epilogue; arguments: `conv_ending.Ending.arguments`."""
    norm = (x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr)
    window_tile(tl.program_id(0), a_ptr, w_ptr, (y_ptr, bias_ptr, winner_ptr), norm, (clock_ptr, stream),
                (parts_ptr, sums_ptr, counters_ptr), images, sets, G, E)  # fmt: skip


@jit
def conv_weight(big_ptr, small_ptr, gw_ptr, pixels, per, WG: tl.constexpr):
    """A weight gradient, in pieces."""
    weight_tile(tl.program_id(0), big_ptr, small_ptr, gw_ptr, pixels, per, WG)


@jit
def conv_backward(a_ptr, w_ptr, y_ptr, x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, clock_ptr, stream, parts_ptr,
                  sums_ptr, counters_ptr, images, sets, big_ptr, small_ptr, gw_ptr, pixels, per, windows,
                  G: tl.constexpr, E: tl.constexpr, WG: tl.constexpr):  # fmt: skip
    """The first `windows` programs compute the input gradient, the others the weight gradient."""
    pid = tl.program_id(0)
    if pid < windows:
        norm = (x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr)
        window_tile(pid, a_ptr, w_ptr, (y_ptr, None, None), norm, (clock_ptr, stream),
                    (parts_ptr, sums_ptr, counters_ptr), images, sets, G, E)  # fmt: skip
    else:
        weight_tile(pid - windows, big_ptr, small_ptr, gw_ptr, pixels, per, WG)
