"""How the convolutions' products are cut into tiles: a table of what was measured, else a rule.

The rule is a small model of a GPU. A program brings (BM + BN) BK numbers from the L2 cache a step and multiplies them,
whichever takes longer; a step is never shorter than a latency; programs of a multiprocessor share it. So tiles win
that read little and still fill the machine. What was measured goes into TABLE.

Operands come 16 bytes at a time, so every thread must have as many to bring: 16 x 32 columns of a step in bf16 are
1024 bytes, enough for two warps and not for four. Where a tile is that small it gets fewer warps, or where their number
is given (by Hopper's instructions, which four warps execute, or by the other product of a launch) deeper steps.

A tile decides the order of sums. It follows from the layer and the kind of batch (few images, some, many) alone: the
last, smaller batch of an epoch runs the code of the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from .gpu.conv_shapes import Tile, WeightProduct, Windows
from .gpu.table import ceil_div, power_of_two


class Machine(NamedTuple):
    """Multiprocessors; multiply-adds a nanosecond of each in bf16, tf32, fp32; bytes a nanosecond from L2 to each;
    bytes of shared memory that a program may have."""

    sms: int
    rates: dict[str, float]
    l2: float
    shared: int


#: by compute capability; rates from data sheets (float32 sums), L2 from public measurements of the same chips
MACHINES = {
    80: Machine(108, {"bf16": 1440, "tf32": 720, "fp32": 90}, 37, 163 << 10),
    86: Machine(84, {"bf16": 420, "tf32": 210, "fp32": 210}, 24, 99 << 10),
    89: Machine(128, {"bf16": 640, "tf32": 320, "fp32": 320}, 31, 99 << 10),
    90: Machine(132, {"bf16": 3000, "tf32": 1500, "fp32": 250}, 42, 227 << 10),
    120: Machine(170, {"bf16": 620, "tf32": 310, "fp32": 310}, 35, 99 << 10),
}
LATENCY = 250  # nanoseconds of a step, unless other programs of the multiprocessor fill them
MEMORY = 3000  # bytes a nanosecond: partial sums are written, and read again by whoever adds them
LINE = 16 * 32  # bytes that the threads of a warp bring at once
PIECES = 128  # of a weight gradient's pixels, at most
SHAPES = ((128, 128), (128, 64), (64, 64), (128, 32), (64, 32), (128, 16), (64, 16))

#: `key` of a product -> what was measured to be the fastest
TABLE: dict[tuple, Tile] = {}
#: the same for what the compiler makes badly of the rule's tile, as `aot` sees it: what spills a register is finished
#: in other chunks, what comes by 4 bytes at once in smaller tiles. Not measured
MENDED: dict[tuple, Tile] = {
    ("window", "bf16", 86, 128, 1, 16, 512, 1, 256, True): Tile(128, 128, 32, 8, 3, chunk=64),
    ("window", "tf32", 89, 128, 961, 1, 64, 16, 64, True): Tile(128, 64, 32, 4, 2, chunk=16),
    **{("window", "tf32", arch, 128, 169, 1, 64, 16, 16, False): Tile(64, 64, 16, 4, 4) for arch in (80, 90, 120)},
}
_forced: dict[type, Tile] = {}


@contextlib.contextmanager
def forced(window: Tile | None = None, weight: Tile | None = None) -> Iterator[None]:
    """Within the block these tiles, whatever the sizes. For tests and tuning."""
    before = dict(_forced)
    _forced.update({kind: tile for kind, tile in ((Windows, window), (WeightProduct, weight)) if tile is not None})
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def typical(images: int) -> int:
    """The batch for which a tile is chosen."""
    return 16 if images <= 32 else 128 if images <= 512 else 2048


def machine(arch: int) -> Machine:
    """The machine of an architecture, or of the latest one before it."""
    return MACHINES[max((known for known in MACHINES if known <= arch), default=80)]


def key(product: Windows | WeightProduct, images: int, arch: int) -> tuple:
    """What a row of TABLE is found by: kind, precision, architecture, and the product's sizes."""
    if isinstance(product, Windows):
        sizes = (product.positions, product.phases, product.NP, product.taps, product.depth, product.adjoint)
        return ("window", product.dot, arch, typical(images), *sizes)
    return ("weight", product.dot, arch, typical(images), product.pixels, product.taps, product.C, product.O)


def window(unrolled: tuple[Windows, ...], images: int, arch: int, warps: int = 1) -> Windows:
    """One of the products, which are the same but for their `unroll`, cut into tiles; images: of all sets; warps: at
    least, where another product shares the launch."""
    return _window(unrolled, typical(images), arch, _forced.get(Windows), warps)


@cache
def _window(unrolled: tuple[Windows, ...], images: int, arch: int, tile: Tile | None, warps: int) -> Windows:
    place = key(unrolled[0], images, arch)
    tile = tile or TABLE.get(place) or MENDED.get(place)
    if tile is not None:
        return next((p for p in unrolled if p.unroll == tile.unroll), unrolled[0]).cut(tile)
    found: list[Windows] = [
        p.cut(replace(candidate, unroll=p.unroll))
        for p in unrolled
        for candidate in _candidates(p.dot, arch, p.N, p.depth, p.taps * p.pitch, warps)
    ]
    return min(found, key=lambda p: _cost(p, ceil_div(images * p.positions, p.BM) * p.tiles_n, p.steps, arch))


def weight(product: WeightProduct, images: int, arch: int, warps: int | None = None) -> WeightProduct:
    """The product, cut into tiles and pieces; `warps`: of the launch that it shares with another product."""
    return _weight(product, typical(images), arch, _forced.get(WeightProduct), warps)


@cache
def _weight(product: WeightProduct, images: int, arch: int, tile: Tile | None, warps: int | None) -> WeightProduct:
    tile = tile or TABLE.get(key(product, images, arch))
    if tile is not None:
        return product.cut(tile)
    pixels = images * product.pixels
    found: list[tuple[float, WeightProduct]] = []
    for tile in _candidates(product.dot, arch, product.O, 64, pixels, warps or 1):
        if warps is None or warps >= tile.warps:
            steps = ceil_div(pixels, tile.BK)
            tiles = product.cut(tile).tiles
            for pieces in sorted({ceil_div(steps, ceil_div(steps, n)) for n in range(1, min(PIECES, steps) + 1)}):
                sums = 8 * pieces * product.M * product.O / MEMORY
                cut = product.cut(replace(tile, pieces=pieces))
                found.append((sums + _cost(cut, tiles * pieces, ceil_div(steps, pieces), arch), cut))
    return min(found, key=lambda item: item[0])[1]


def _cost(product: Windows | WeightProduct, tiles: int, steps: int, arch: int) -> float:
    """Nanoseconds for `tiles` programs of `steps` steps each."""
    m, tile = machine(arch), product.tile
    rate = m.rates[product.dot[:4]] * tile.BN / (tile.BN + 16)  # narrow tiles feed tensor cores badly
    operands = (tile.BM + tile.BN) * tile.BK * _size(product.dot)
    step = max(tile.BM * tile.BN * tile.BK / rate, operands / m.l2)
    each = ceil_div(tiles, m.sms)
    together = 2 if tile.BM * tile.BN > 64 * 64 else 4  # programs of a multiprocessor that overlap
    return steps * max(each * step, ceil_div(each, together) * LATENCY)


def _candidates(dot: str, arch: int, columns: int, depth: int, flat: int, warps: int) -> list[Tile]:
    """Tiles worth comparing, whose operands feed `warps` warps at least; BK divides `depth` where that allows a good
    one, else it cuts `flat` numbers."""
    size = _size(dot)
    widest = {"bf16": 64 if machine(arch).shared > 100 << 10 else 32, "tf32": 32, "fp32": 16}[dot[:4]]
    divisor = min(widest, depth & -depth)
    bk = divisor if divisor * size >= 64 else max(16, min(widest, power_of_two(flat)))
    least = max(warps, 4 if dot != "fp32" and 90 <= arch < 120 else 1)
    return [
        _fed(bm, bn, bk, size, arch, least)
        for bm, bn in SHAPES
        if bn <= max(16, power_of_two(columns)) and (dot != "fp32" or bm * bn <= 64 * 64)
    ]


def _fed(bm: int, bn: int, bk: int, size: int, arch: int, least: int) -> Tile:
    """The tile with the warps that its operands feed; a step is deepened until these are `least`."""
    while min(bm, bn) * bk * size < least * LINE:
        bk *= 2
    warps = min(8 if bm * bn > 128 * 64 else 4, min(bm, bn) * bk * size // LINE)
    stages = max(2, min(4, machine(arch).shared // 2 // ((bm + bn) * bk * size)))
    return Tile(bm, bn, bk, max(warps, least), stages)


def _size(dot: str) -> int:
    """Bytes of an operand's number."""
    return 2 if dot == "bf16" else 4
