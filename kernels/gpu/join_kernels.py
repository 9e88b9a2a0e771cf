"""What `join.py` launches. T: the table of the joined array."""

from __future__ import annotations

from ..launch import jit, tl
from .philox import keep_scale_runs
from .table import keep_tile, locate, rows_from, store_stacked


@jit
def part_of(row0, rows, n0, FROM: tl.constexpr, SIZE: tl.constexpr, PITCH: tl.constexpr, T: tl.constexpr):
    """Of a tile of the joined array, offsets (BM, BN) in a part that is its columns [FROM, FROM + SIZE), and which
    elements lie there."""
    r = tl.arange(0, T.BM)[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :] - FROM
    return r * PITCH + n, (row0 + r < rows) & (n >= 0) & (n < SIZE)


@jit
def join_rows_kernel(
    a_ptr, b_ptr, y_ptr, clock_ptr, stream, rows_a, rows,
    A_PITCH: tl.constexpr, B_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """The rows of a, then those of b. Tiles do not begin anew with b, so that random numbers are drawn by the block."""
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * T.BM
    y = load_rows(a_ptr, row0, 0, rows_a, n0, A_PITCH, T) + load_rows(b_ptr, row0, rows_a, rows, n0, B_PITCH, T)
    if KEEP_FROM >= 0:
        y *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    store_stacked(y_ptr, 0, y, row0, rows, n0, T)


@jit
def load_rows(x_ptr, row0, first, end, n0, PITCH: tl.constexpr, T: tl.constexpr):
    """A tile from a part whose rows are [first, end) of the joined array; zero outside."""
    r = row0 + tl.arange(0, T.BM)[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :]
    offs = tl.arange(0, T.BM)[:, None] * PITCH + n
    mask = (r >= first) & (r < end) & (n < min(T.pitch, PITCH))
    return tl.load(rows_from(x_ptr, row0 - first, PITCH, T) + offs, mask=mask, other=0.0).to(tl.float32)


@jit
def join_columns_kernel(
    a_ptr, b_ptr, y_ptr, clock_ptr, stream, rows,
    SIZE_A: tl.constexpr, A_PITCH: tl.constexpr, B_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr,
    KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """The columns of a, then those of b."""
    n0, tile = locate(tl.program_id(0), T)
    row0 = tile * T.BM
    a_offs, a_mask = part_of(row0, rows, n0, 0, SIZE_A, A_PITCH, T)
    b_offs, b_mask = part_of(row0, rows, n0, SIZE_A, T.channels - SIZE_A, B_PITCH, T)
    y = tl.load(rows_from(a_ptr, row0, A_PITCH, T) + a_offs, mask=a_mask, other=0.0).to(tl.float32)
    y += tl.load(rows_from(b_ptr, row0, B_PITCH, T) + b_offs, mask=b_mask, other=0.0).to(tl.float32)
    if KEEP_FROM >= 0:
        y *= keep_tile(clock_ptr, stream, 0, row0, n0, T, True, KEEP_FROM, KEEP_SCALE)
    store_stacked(y_ptr, 0, y, row0, rows, n0, T)


@jit
def split_columns_kernel(
    gy_ptr, ga_ptr, gb_ptr, clock_ptr, stream, rows, programs_a,
    K: tl.constexpr, BOTH: tl.constexpr, FROM_A: tl.constexpr, FROM_B: tl.constexpr, SIZE: tl.constexpr,
    GY_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr, A: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Of K stacked arrays of SIZE columns, those from FROM_A on and, if BOTH, those from FROM_B on."""
    pid = tl.program_id(0)
    if BOTH and pid >= programs_a:
        take(gy_ptr, gb_ptr, clock_ptr, stream, pid - programs_a, rows, K, FROM_B, SIZE, GY_PITCH, KEEP_FROM,
             KEEP_SCALE, B)  # fmt: skip
    else:
        take(gy_ptr, ga_ptr, clock_ptr, stream, pid, rows, K, FROM_A, SIZE, GY_PITCH, KEEP_FROM, KEEP_SCALE, A)


@jit
def take(
    gy_ptr, g_ptr, clock_ptr, stream, pid, rows,
    K: tl.constexpr, FROM: tl.constexpr, SIZE: tl.constexpr, GY_PITCH: tl.constexpr, KEEP_FROM: tl.constexpr,
    KEEP_SCALE: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """A tile of the part that is columns FROM and on, for each cotangent with the same mask."""
    n0, tile = locate(pid, T)
    row0 = tile * T.BM
    offs, mask = part_of(row0, rows, n0, 0, T.channels, GY_PITCH, T)
    if KEEP_FROM >= 0:
        RUN: tl.constexpr = T.run
        row = tl.cast(row0 + tl.arange(0, T.BM), tl.int64) * SIZE + FROM
        runs = row[:, None] + (n0 + tl.arange(0, T.BN // RUN) * RUN)[None, :]
        STRADDLE: tl.constexpr = SIZE % RUN != 0 or FROM % RUN != 0
        keep = keep_scale_runs(clock_ptr, stream, runs, RUN, STRADDLE, KEEP_FROM, KEEP_SCALE)
    for k in tl.static_range(K):
        start_ptr = rows_from(gy_ptr, tl.cast(rows, tl.int64) * k + row0, GY_PITCH, T) + FROM
        g = tl.load(start_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        if KEEP_FROM >= 0:
            g *= keep
        store_stacked(g_ptr, k, g, row0, rows, n0, T)
