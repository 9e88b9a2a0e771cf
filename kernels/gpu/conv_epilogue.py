"""What happens to a tile of a convolution between the product and memory: bias, activation, maxout, dropout, the way
back through a batch norm's activation and dropout, and the tile's part of per-channel sums.

The tile is (BM, BN) float32. Rows are positions of an image of the output, columns (phase, channel, piece of maxout);
behind maxout (phase, channel). The pixel of an element is the sum of a row's part and a column's.
"""

from __future__ import annotations

from ..launch import jit, tl
from .conv_columns import column_part, store_planes
from .philox import keep_scale_runs


@jit
def places(m, m_mask, col, G: tl.constexpr):
    """Rows m: (BM,) and columns col: (BN,), pieces not counted -> (pixels of rows, pixels of columns, channels, mask):
    the mask (BM, BN) says which elements exist, pads among them."""
    image, place = m // G.positions, m % G.positions
    h, w = place // G.w.grid * G.h.phases, place % G.w.grid * G.w.phases
    phase, c = col // G.columns, col % G.columns
    p, q = phase // G.w.phases, phase % G.w.phases
    mask = m_mask[:, None] & (phase < G.phases)[None, :]
    if not G.whole:
        mask = mask & (h[:, None] + p[None, :] < G.h.out) & (w[:, None] + q[None, :] < G.w.out)
    return (image * G.h.out + h) * G.w.out + w, p * G.w.out + q, c, mask


@jit
def add_bias(acc, bias_ptr, m, m_mask, n, G: tl.constexpr, E: tl.constexpr):
    """acc + bias, tied (channels,) or untied (h, w, channels), channels counted before maxout."""
    pixel_m, pixel_n, c, mask = places(m, m_mask, n // G.P2, G)
    real = (c < G.channels) & (n % G.P2 < G.pieces) & (n < G.N)
    c = c * G.pieces + n % G.P2
    if E.tied:
        bias = tl.load(bias_ptr + c, mask=real, other=0.0)[None, :]
    else:
        pixel = (pixel_m % (G.h.out * G.w.out))[:, None] + pixel_n[None, :]
        bias = tl.load(bias_ptr + pixel * (G.channels * G.pieces) + c[None, :], mask=mask & real[None, :], other=0.0)
    return acc + bias


@jit
def best_piece(acc, G: tl.constexpr):
    """Maxout over adjacent columns: (BM, columns / P2) values and the numbers of the pieces, the first of equals."""
    P2: tl.constexpr = G.P2
    groups = tl.reshape(acc, (acc.shape[0], acc.shape[1] // P2, P2))
    piece = tl.arange(0, P2)[None, None, :]
    if G.pieces != P2:
        groups = tl.where(piece < G.pieces, groups, float("-inf"))
    best = tl.max(groups, axis=2)
    winner = tl.min(tl.where(groups == best[:, :, None], piece, G.pieces - 1), axis=2)
    return best, winner


@jit
def drop(value, random, m, m_mask, col0, G: tl.constexpr, E: tl.constexpr):
    """value with dropout: an element's number is its place in the array without pads, within its cotangent."""
    RUN: tl.constexpr = G.run
    KEEP_FROM: tl.constexpr = E.keep_from
    KEEP_SCALE: tl.constexpr = E.keep_scale
    pixel_m, pixel_n, c, _ = places(m, m_mask, col0 + tl.arange(0, value.shape[1] // RUN) * RUN, G)
    first = (pixel_m * G.channels)[:, None] + (pixel_n * G.channels + c)[None, :]
    return value * keep_scale_runs(random[0], random[1], first, RUN, G.channels % RUN != 0, KEEP_FROM, KEEP_SCALE)


@jit
def through_norm(g, norm, pixel_m, pixel_n, c, mask, G: tl.constexpr, E: tl.constexpr):
    """(g times the derivative of leaky ReLU at a = gamma (x - mean) inv_std + beta, x - mean)."""
    x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr = norm
    x_offs = (pixel_m * E.x_pitch)[:, None] + (pixel_n * E.x_pitch + c)[None, :]
    c_mask = c < G.channels
    x = tl.load(x_ptr + x_offs, mask=mask, other=0.0).to(tl.float32)
    centred = x - tl.load(mean_ptr + c, mask=c_mask, other=0.0)[None, :]
    scale = tl.load(gamma_ptr + c, mask=c_mask, other=0.0) * tl.load(inv_std_ptr + c, mask=c_mask, other=0.0)
    beta = tl.load(beta_ptr + c, mask=c_mask, other=0.0)
    return tl.where(scale[None, :] * centred + beta[None, :] > 0, g, g * E.slope), centred


@jit
def finish(acc, n0, m, m_mask, first, part, out, norm, random, parts_ptr, G: tl.constexpr, E: tl.constexpr):
    """Stores the columns of a tile from n0 on, and their part of the per-channel results.

    m, m_mask   (BM,) rows, counted from the image `first`;  part: number of the tile of rows
    out         pointers to y, bias, winners;  norm: to x, gamma, beta, mean, inv_std;  random: clock, stream

    A wide tile is finished in halves: its masks, its random numbers and what it reads would not fit the registers.
    """
    if acc.shape[1] > G.chunk:
        HALF: tl.constexpr = acc.shape[1] // 2
        left, right = tl.split(tl.permute(tl.reshape(acc, (acc.shape[0], 2, HALF)), (0, 2, 1)))
        finish(left, n0, m, m_mask, first, part, out, norm, random, parts_ptr, G, E)
        finish(right, n0 + HALF, m, m_mask, first, part, out, norm, random, parts_ptr, G, E)
    else:
        y_ptr, bias_ptr, winner_ptr = out
        if E.bias > 0:
            acc = add_bias(acc, bias_ptr, m, m_mask, n0 + tl.arange(0, acc.shape[1]), G, E)
        if E.leaky:
            acc = tl.where(acc > 0, acc, acc * E.slope)
        if E.sigmoid:
            acc = tl.sigmoid(acc)
        value = acc
        if G.pieces > 1:
            value, winner = best_piece(acc, G)
        col = n0 // G.P2 + tl.arange(0, value.shape[1])
        pixel_m, pixel_n, c, mask = places(m, m_mask, col, G)
        real = mask & (c < G.channels)[None, :]
        if E.drops:
            value = drop(value, random, m, m_mask, n0 // G.P2, G, E)
        other = value
        if E.through:
            value, other = through_norm(value, norm, pixel_m, pixel_n, c, real, G, E)
        if E.reduces or G.columns > G.channels:
            value = tl.where(real, value, 0.0)
        pixel_m += first * (G.h.out * G.w.out)
        y_offs = (pixel_m * G.columns)[:, None] + (pixel_n * G.columns + c)[None, :]
        tl.store(y_ptr + y_offs, value.to(y_ptr.dtype.element_ty), mask=mask)
        if G.pieces > 1:
            w_offs = (pixel_m * G.channels)[:, None] + (pixel_n * G.channels + c)[None, :]
            tl.store(winner_ptr + w_offs, winner.to(tl.uint8), mask=real)
        if E.reduces:
            planes = column_part(value, other, real, m_mask, G, E)
            phase = col // G.columns
            store_planes(parts_ptr, part * G.phases + phase, c, phase < G.phases, planes, G)
