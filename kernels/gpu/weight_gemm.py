"""The tile of a convolution's weight gradient: a product over all pixels of the batch, cut into pieces.

    gw[o, i, j, c] = sum_{n,a,b} gy[n, a, b, o] x[n, s a + i, s b + j, c]

Rows are (i, j, c), columns o, k the output pixels. There are few tiles and many pixels, so each program takes a piece
of the pixels and the pieces' sums are left apart, (pieces, O, kH, kW, C), to be added in order by whoever reads them:
the same bits every time, which atomic adds would not give. A's tile is indexed transposed, never transposed.
"""

from __future__ import annotations

from ..launch import jit, tl
from .window_gemm import multiply_add


@jit
def weight_tile(pid, x_ptr, gy_ptr, parts_ptr, pixels, per, G: tl.constexpr):
    """Program pid of tiles * pieces; pixels: of the batch, per: pixels of a piece, a multiple of BK."""
    BM: tl.constexpr = G.BM
    BN: tl.constexpr = G.BN
    DOT: tl.constexpr = G.dot
    piece, tile = pid // G.tiles, pid % G.tiles
    m = tile // G.tiles_n * G.BM + tl.arange(0, G.BM)
    n = tile % G.tiles_n * G.BN + tl.arange(0, G.BN)
    tap, c = m // G.pitch, m % G.pitch
    entry = (tap // G.kernel_w * G.in_w + tap % G.kernel_w) * G.pitch + c
    acc = tl.zeros((BM, BN), tl.float32)
    for start in tl.range(piece * per, tl.minimum(piece * per + per, pixels), G.BK, num_stages=G.stages):
        k = start + tl.arange(0, G.BK)
        image, place = k // (G.out_h * G.out_w), k % (G.out_h * G.out_w)
        row, col = place // G.out_w * G.stride, place % G.out_w * G.stride
        pixel = ((image * G.in_h + row) * G.in_w + col) * G.pitch
        a_mask = (m < G.M)[:, None] & (k < pixels)[None, :]
        a = tl.load(x_ptr + entry[:, None] + pixel[None, :], mask=a_mask, other=0.0)
        b_mask = (k < pixels)[:, None] & (n < G.gy_pitch)[None, :]
        b = tl.load(gy_ptr + k[:, None] * G.gy_pitch + n[None, :], mask=b_mask, other=0.0)
        acc = multiply_add(a, b, acc, DOT)
    w_offs = (piece * G.O + n)[None, :] * (G.taps * G.C) + (tap * G.C + c)[:, None]
    tl.store(parts_ptr + w_offs, acc, mask=(n < G.O)[None, :] & ((m < G.M) & (c < G.C))[:, None])


@jit
def sum_pieces(parts_ptr, out_ptr, pieces, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """out = the sum of `pieces` arrays of SIZE numbers, in order."""
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for piece in range(pieces):
        total += tl.load(parts_ptr + piece * SIZE + offs, mask=offs < SIZE, other=0.0)
    tl.store(out_ptr + offs, total, mask=offs < SIZE)
