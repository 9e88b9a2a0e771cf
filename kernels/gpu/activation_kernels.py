"""What `activation.py` launches. Formulas: there. T: the table of the array that is written."""

from __future__ import annotations

from ..launch import jit, tl
from .philox import keep_scale_at
from .table import (
    column,
    keep_tile,
    last_to_finish,
    load_stacked,
    load_tile,
    load_vector,
    locate,
    rows_from,
    store_part,
    store_stacked,
    store_vector,
    sum_parts,
)


@jit
def activate(a, slope, ACTIVATION: tl.constexpr):
    """Leaky ReLU or sigmoid of a; anything else leaves it as it is."""
    if ACTIVATION == "leaky_relu":
        a = tl.where(a > 0, a, a * slope)
    if ACTIVATION == "sigmoid":
        e = tl.exp(-tl.abs(a))  # which never overflows
        a = tl.where(a > 0, 1.0, e) / (1.0 + e)
    return a


@jit
def activation_kernel(
    x_ptr, bias_ptr, y_ptr, winner_ptr, clock_ptr, stream, rows, slope,
    ACTIVATION: tl.constexpr, PIECES: tl.constexpr, BIASED: tl.constexpr, X_PITCH: tl.constexpr,
    KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """y of a tile; with maxout, one piece after another."""
    BM: tl.constexpr = T.BM
    BN: tl.constexpr = T.BN
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * BM
    y = load_piece(x_ptr, bias_ptr, row0, rows, n0, 0, PIECES, BIASED, X_PITCH, T)
    winner = tl.zeros((BM, BN), tl.uint8)
    for piece in tl.static_range(1, PIECES):
        other = load_piece(x_ptr, bias_ptr, row0, rows, n0, piece, PIECES, BIASED, X_PITCH, T)
        winner = tl.where(other > y, piece, winner).to(tl.uint8)
        y = tl.where(other > y, other, y)
    y = activate(y, slope, ACTIVATION)
    if KEEP_FROM >= 0:
        y *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    store_stacked(y_ptr, 0, y, row0, rows, n0, T)
    if PIECES > 1:
        n, n_mask = column(n0, T)
        r = tl.arange(0, BM)[:, None]
        offs = r * T.size + n[None, :]
        tl.store(rows_from(winner_ptr, row0, T.channels, T) + offs, winner, mask=(row0 + r < rows) & n_mask[None, :])


@jit
def load_piece(x_ptr, bias_ptr, row0, rows, n0, piece, PIECES: tl.constexpr, BIASED: tl.constexpr, PITCH: tl.constexpr,
               T: tl.constexpr):  # fmt: skip
    """Of each group of PIECES channels the one of this number, plus bias: (BM, BN) float32."""
    if PIECES == 1:
        x = load_stacked(x_ptr, 0, row0, rows, n0, PITCH, T)
        if BIASED:
            x += load_vector(bias_ptr, n0, T)[None, :]
        return x
    r = tl.arange(0, T.BM)[:, None]
    n = n0 + tl.arange(0, T.BN)
    n_mask = (n < T.columns) & (n % T.pitch < T.channels)
    offs = r * (T.pixels * PITCH) + (n // T.pitch * PITCH + n % T.pitch * PIECES + piece)[None, :]
    x_mask = (row0 + r < rows) & n_mask[None, :]
    x = tl.load(rows_from(x_ptr, row0, PITCH, T) + offs, mask=x_mask, other=0.0).to(tl.float32)
    if BIASED:
        b_offs = (n // T.pitch * T.channels + n % T.pitch) * PIECES + piece
        x += tl.load(bias_ptr + b_offs, mask=n_mask, other=0.0)[None, :]
    return x


@jit
def factor_of(
    y_ptr, clock_ptr, stream, row0, rows, n0, slope,
    ACTIVATION: tl.constexpr, PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """What gy is multiplied with: dropout's factor times the derivative, by y, of which what was kept has grown by
    KEEP_SCALE."""
    BM: tl.constexpr = T.BM
    BN: tl.constexpr = T.BN
    factor = tl.full((BM, BN), 1.0, tl.float32)
    if ACTIVATION == "leaky_relu":
        y = load_stacked(y_ptr, 0, row0, rows, n0, PITCH, T)
        factor = tl.where(y > 0, 1.0, slope)
    if ACTIVATION == "sigmoid":
        y = load_stacked(y_ptr, 0, row0, rows, n0, PITCH, T) * (1 / KEEP_SCALE)
        factor = y * (1 - y)
    if KEEP_FROM >= 0:
        factor *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    return factor


@jit
def spread(x, PIECES: tl.constexpr):
    """Every column PIECES times: (BM, BN) -> (BM, BN * PIECES)."""
    wide = tl.broadcast_to(x[:, :, None], (x.shape[0], x.shape[1], PIECES))
    return tl.reshape(wide, (x.shape[0], x.shape[1] * PIECES))


@jit
def load_groups(v_ptr, k, row0, rows, n0, PIECES: tl.constexpr, PITCH: tl.constexpr, T: tl.constexpr):
    """What belongs to each column's group of PIECES, (BM, BN), where pieces and tiles do not match."""
    r = tl.arange(0, T.BM)[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :]
    offs = r * (T.pixels * PITCH) + n // T.pitch * PITCH + n % T.pitch // PIECES
    mask = (row0 + r < rows) & (n < T.columns) & (n % T.pitch < T.channels)
    v_ptr = rows_from(rows_from(v_ptr, tl.cast(rows, tl.int64) * k, PITCH, T), row0, PITCH, T)
    return tl.load(v_ptr + offs, mask=mask, other=0)


@jit
def keep_groups(clock_ptr, stream, row0, n0, PIECES: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr,
                T: tl.constexpr):  # fmt: skip
    """Dropout's factor of each column's group."""
    row = tl.cast(row0 + tl.arange(0, T.BM), tl.int64)[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :]
    place = (row * T.pixels + n // T.pitch) * (T.channels // PIECES) + n % T.pitch // PIECES
    return keep_scale_at(clock_ptr, stream, place, KEEP_FROM, KEEP_SCALE)


@jit
def activation_grad_kernel(
    gy_ptr, y_ptr, winner_ptr, gx_ptr, part_ptr, counter_ptr, out_gbias_ptr, clock_ptr, stream,
    rows, shares, each, slope,
    K: tl.constexpr, ACTIVATION: tl.constexpr, PIECES: tl.constexpr, BIASED: tl.constexpr, GY_PITCH: tl.constexpr,
    Y_PITCH: tl.constexpr, W_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
    B: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """gx of K stacked cotangents, and the bias gradient of the first: each program adds up a share of the rows, the
    last one the shares. B: the table of y; None where pieces and tiles do not match."""
    BM: tl.constexpr = T.BM
    BN: tl.constexpr = T.BN
    n0, share = locate(tl.program_id(0), T)
    m0 = n0 // PIECES
    piece = ((n0 + tl.arange(0, BN)) % T.pitch % PIECES)[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for row0 in range(share * each, min(rows, share * each + each), BM):
        if B is not None:
            factor = factor_of(y_ptr, clock_ptr, stream, row0, rows, m0, slope, ACTIVATION, Y_PITCH, KEEP_FROM,
                               KEEP_SCALE, B)  # fmt: skip
            if PIECES > 1:
                winner = spread(load_tile(winner_ptr, row0, rows, m0, W_PITCH, B), PIECES)
        else:
            winner = load_groups(winner_ptr, 0, row0, rows, n0, PIECES, W_PITCH, T)
        for k in tl.static_range(K):
            if B is not None:
                gx = load_stacked(gy_ptr, k, row0, rows, m0, GY_PITCH, B) * factor
                if PIECES > 1:
                    gx = spread(gx, PIECES)
            else:
                gx = load_groups(gy_ptr, k, row0, rows, n0, PIECES, GY_PITCH, T).to(tl.float32)
                if KEEP_FROM >= 0:
                    gx *= keep_groups(clock_ptr, stream, row0, n0, PIECES, KEEP_FROM, KEEP_SCALE, T)
            if PIECES > 1:
                gx = tl.where(winner == piece, gx, 0.0)
            store_stacked(gx_ptr, k, gx, row0, rows, n0, T)
            if BIASED and k == 0:
                total += gx
    if BIASED:
        store_part(part_ptr, share, tl.sum(total, 0), n0, T)
        if last_to_finish(counter_ptr + n0 // BN, shares):
            store_vector(out_gbias_ptr, sum_parts(part_ptr, shares, n0, T, AT_ONCE), n0, T)


@jit
def dropout_kernel(
    x_ptr, y_ptr, clock_ptr, stream, first, rows,
    X_PITCH: tl.constexpr, ALIGNED: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * T.BM
    x = load_stacked(x_ptr, 0, row0, rows, n0, X_PITCH, T)
    x *= keep_tile(clock_ptr, stream, first, row0, n0, T, ALIGNED, KEEP_FROM, KEEP_SCALE)
    store_stacked(y_ptr, 0, x, row0, rows, n0, T)


@jit
def scale_rows_kernel(x_ptr, weights_ptr, y_ptr, rows, X_PITCH: tl.constexpr, W_PITCH: tl.constexpr, T: tl.constexpr):
    n0, tile = locate(tl.program_id(0), T)
    row = tile * T.BM + tl.arange(0, T.BM)
    weights = tl.load(weights_ptr + row * W_PITCH, mask=row < rows, other=0.0)
    x = load_stacked(x_ptr, 0, tile * T.BM, rows, n0, X_PITCH, T) * weights[:, None]
    store_stacked(y_ptr, 0, x, tile * T.BM, rows, n0, T)
