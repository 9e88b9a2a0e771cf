"""Activations as tables, for kernels that do little more than read and write them.

A row is a pixel and its columns the channels, or a row is a whole image and its columns are all channels of all its
pixels (an untied bias has one number for each of those). A program treats a tile of BM rows and BN columns: adjacent
threads move neighbouring 16 bytes, and what belongs to a column is read once for the tile.

Columns are counted in memory, pads included, with the pitch of the array that is written: column n is channel
n % pitch of pixel n // pitch of its row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .. import device
from ..launch import jit, tl
from .philox import keep_bits, keep_scale_runs

#: Programs that keep every multiprocessor of a large GPU busy, twice over.
PROGRAMS = 264

#: Batch that tiles are chosen for, whatever the batch is: a last, smaller one must not need another kernel.
NOMINAL_BATCH = 128


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


@dataclass(frozen=True)
class Table:
    """What a kernel knows of a table when it is compiled.

    pixels     of a row;  channels: of a pixel;  pitch: columns from one pixel to the next
    BM, BN     rows and columns of a tile
    """

    pixels: int
    channels: int
    pitch: int
    BM: int
    BN: int

    @property
    def columns(self) -> int:
        """Of a row, pads included."""
        return self.pixels * self.pitch

    @property
    def size(self) -> int:
        """Elements of a row, without pads."""
        return self.pixels * self.channels

    @property
    def blocks(self) -> int:
        """Tiles beside each other."""
        return ceil_div(self.columns, self.BN)

    @property
    def dense(self) -> bool:
        """Whether there are no pads, so that elements of a row are adjacent."""
        return self.pitch == self.channels

    @property
    def few(self) -> bool:
        """Whether a block of random numbers covers several rows, and rows follow each other."""
        return self.pixels == 1 and self.channels < 16 and self.blocks == 1

    @property
    def drawn(self) -> int:
        """Blocks of random numbers for a tile, where they cover several rows."""
        return power_of_two(ceil_div(self.BM * self.channels, 16))

    @property
    def run(self) -> int:
        """Adjacent elements, a power of two up to 16, that every tile and every pixel is made of."""
        return math.gcd(16, self.BN if self.dense else math.gcd(self.BN, self.pitch))

    def behind_maxout(self, pieces: int) -> Table:
        """The table of what maxout makes of this one, both without pads or both with a pixel a row."""
        channels = self.channels // pieces
        return Table(self.pixels, channels, channels, self.BM, self.BN // pieces)


def table_of(y: Any, *, images: bool = False, largest: int = 4096) -> Table:
    """The table for an array that is written, (N, ..., C).

    images    a row is a whole image, else a pixel
    largest   elements of a tile where the tensor is large
    """
    pitch, pixels = device.pitch(y), math.prod(y.shape[1:-1])
    width = _width(pixels * pitch if images else pitch)
    enough = NOMINAL_BATCH * pixels * pitch // PROGRAMS
    tile = max(1024, min(largest, power_of_two(enough + 1) // 2))
    return Table(pixels if images else 1, y.shape[-1], pitch, max(1, tile // width), width)


def _width(columns: int) -> int:
    """Columns of a tile: wide, but not much wider than what there is."""
    if columns <= 16:
        return power_of_two(columns)
    return next((n for n in (64, 32) if ceil_div(columns, n) * n <= 1.25 * columns), 16)


def rows_of(x: Any, table: Table) -> int:
    """Rows of x as such a table."""
    return x.size // table.size


def grid_of(rows: int, table: Table) -> int:
    """Programs for a launch with one for each tile."""
    return table.blocks * ceil_div(rows, table.BM)


def shares_of(rows: int, table: Table, programs: int = PROGRAMS) -> tuple[int, int]:
    """For a launch that sums over rows: (shares, rows of each), so that shares times tiles beside each other make about
    `programs`. A share is a whole number of tiles."""
    tiles = ceil_div(rows, table.BM)
    each = ceil_div(tiles, max(1, programs // table.blocks))
    return max(1, ceil_div(tiles, each)), each * table.BM


def merged_at_once(table: Table) -> int:
    """Shares whose parts the last program reads in one go: 4,096 numbers, or it would wait for memory most of its
    time."""
    return max(1, 4096 // table.BN)


@jit
def locate(pid, T: tl.constexpr):
    """(first column, number of the rows' tile or share) of a program."""
    return pid % T.blocks * T.BN, pid // T.blocks


@jit
def spots(row0, rows, n0, PITCH: tl.constexpr, T: tl.constexpr):
    """Offsets (BM, BN) from row row0 on, and which of them exist, in an array of any pitch."""
    r = tl.arange(0, T.BM)[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :]
    if T.pixels == 1 or T.pitch == PITCH:
        return r * (T.pixels * PITCH) + n, (row0 + r < rows) & (n < min(T.columns, T.pixels * PITCH))
    offs = r * (T.pixels * PITCH) + n // T.pitch * PITCH + n % T.pitch
    return offs, (row0 + r < rows) & (n < T.columns) & (n % T.pitch < PITCH)


@jit
def rows_from(x_ptr, row, PITCH: tl.constexpr, T: tl.constexpr):
    """Where a row begins: 64 bits, since tensors may have more than 2^31 elements."""
    return x_ptr + tl.cast(row, tl.int64) * (T.pixels * PITCH)


@jit
def load_tile(x_ptr, row0, rows, n0, PITCH: tl.constexpr, T: tl.constexpr):
    """A tile (BM, BN) as it is stored, zero outside."""
    offs, x_mask = spots(row0, rows, n0, PITCH, T)
    return tl.load(rows_from(x_ptr, row0, PITCH, T) + offs, mask=x_mask, other=0)


@jit
def load_stacked(x_ptr, k, row0, rows, n0, PITCH: tl.constexpr, T: tl.constexpr):
    """A tile (BM, BN) of the k-th of several stacked tables of `rows` rows, as float32."""
    x_ptr = rows_from(x_ptr, tl.cast(rows, tl.int64) * k, PITCH, T)
    return load_tile(x_ptr, row0, rows, n0, PITCH, T).to(tl.float32)


@jit
def store_stacked(y_ptr, k, value, row0, rows, n0, T: tl.constexpr):
    """Writes a tile of the k-th of several stacked tables, and zeros into the pads."""
    offs, y_mask = spots(row0, rows, n0, T.pitch, T)
    if not T.dense:
        value = tl.where(((n0 + tl.arange(0, T.BN)) % T.pitch < T.channels)[None, :], value, 0)
    y_ptr = rows_from(rows_from(y_ptr, tl.cast(rows, tl.int64) * k, T.pitch, T), row0, T.pitch, T)
    tl.store(y_ptr + offs, value.to(y_ptr.dtype.element_ty), mask=y_mask)


@jit
def column(n0, T: tl.constexpr):
    """For the columns of a tile their number without pads, and which exist: (BN,) each."""
    n = n0 + tl.arange(0, T.BN)
    if T.dense:
        return n, n < T.columns
    return n // T.pitch * T.channels + n % T.pitch, (n < T.columns) & (n % T.pitch < T.channels)


@jit
def load_vector(v_ptr, n0, T: tl.constexpr, OUTSIDE: tl.constexpr = 0.0):
    """The numbers of a tile's columns, float32 (BN,)."""
    n, v_mask = column(n0, T)
    return tl.load(v_ptr + n, mask=v_mask, other=OUTSIDE)


@jit
def store_vector(v_ptr, value, n0, T: tl.constexpr):
    """Writes the numbers of a tile's columns."""
    n, v_mask = column(n0, T)
    tl.store(v_ptr + n, value, mask=v_mask)


@jit
def keep_tile(clock_ptr, stream, first, row0, n0, T: tl.constexpr, ALIGNED: tl.constexpr, KEEP_FROM: tl.constexpr,
              KEEP_SCALE: tl.constexpr):  # fmt: skip
    """Dropout's factor for a tile: (BM, BN) float32. first: place of the table's first element; ALIGNED: 16 divides
    it."""
    if T.few and ALIGNED:
        return keep_pixels(clock_ptr, stream, first, row0, T, KEEP_FROM, KEEP_SCALE)
    RUN: tl.constexpr = T.run
    n = n0 + tl.arange(0, T.BN // RUN) * RUN
    if not T.dense:
        n = n // T.pitch * T.channels + n % T.pitch
    row = first + tl.cast(row0 + tl.arange(0, T.BM), tl.int64) * T.size
    STRADDLE: tl.constexpr = not (ALIGNED and T.dense and T.size % RUN == 0)
    return keep_scale_runs(clock_ptr, stream, row[:, None] + n[None, :], RUN, STRADDLE, KEEP_FROM, KEEP_SCALE)


@jit
def keep_pixels(clock_ptr, stream, first, row0, T: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr):
    """The same where rows are pixels of a few channels: the tile's elements are adjacent, so that their blocks are
    drawn once, and each row picks the one or two that it lies in."""
    BLOCKS: tl.constexpr = T.drawn
    start = (first + tl.cast(row0, tl.int64) * T.size) >> 4
    drawn = keep_bits(clock_ptr, stream, start + tl.arange(0, BLOCKS), KEEP_FROM)
    place = tl.arange(0, T.BM) * T.size
    bits = tl.gather(drawn, place >> 4, 0)
    bits |= tl.gather(drawn, tl.minimum((place >> 4) + 1, BLOCKS - 1), 0) << 16
    bits = (bits >> (place & 15).to(tl.uint32))[:, None] >> tl.arange(0, T.BN).to(tl.uint32)[None, :]
    return tl.where(bits & 1 != 0, KEEP_SCALE, 0.0)


@jit
def last_to_finish(counter_ptr, programs):
    """Whether this program is the last of `programs` to come here. What the others wrote before, it may read now; the
    counter is zero again."""
    tl.debug_barrier()  # all threads' writes, before one of them counts
    last = tl.atomic_add(counter_ptr, 1, sem="acq_rel", scope="gpu") == programs - 1
    if last:
        tl.store(counter_ptr, 0)
    return last


@jit
def store_part(part_ptr, share, value, n0, T: tl.constexpr):
    """A share's sums (BN,) into part: (shares, columns), where columns lie as in memory, pads among them."""
    n = n0 + tl.arange(0, T.BN)
    tl.store(part_ptr + share * T.columns + n, value, mask=n < T.columns)


@jit
def load_parts(part_ptr, first, shares, n0, T: tl.constexpr, AT_ONCE: tl.constexpr):
    """Sums of the shares from `first` on, (AT_ONCE, BN), zero where there is none; for the last to finish."""
    share = (first + tl.arange(0, AT_ONCE))[:, None]
    n = (n0 + tl.arange(0, T.BN))[None, :]
    part_mask = (share < shares) & (n < T.columns)
    return tl.load(part_ptr + share * T.columns + n, mask=part_mask, other=0.0, cache_modifier=".cg")


@jit
def sum_parts(part_ptr, shares, n0, T: tl.constexpr, AT_ONCE: tl.constexpr):
    """Sums over all shares in fixed order: (BN,) float32."""
    BN: tl.constexpr = T.BN
    total = tl.zeros((AT_ONCE, BN), tl.float32)
    for first in range(0, shares, AT_ONCE):
        total += load_parts(part_ptr, first, shares, n0, T, AT_ONCE)
    return tl.sum(total, 0)
