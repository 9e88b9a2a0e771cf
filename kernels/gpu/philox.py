"""Philox4x64-10 and dropout's factors inside a Triton kernel: bit for bit the CPU's (cpu/sampling.py).

Key (seed, 0), counter (block, 0, step, stream): four 64-bit words a block (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", 2011). Dropout takes 16 bits an element: element e is lane e % 16 of block e // 16, low bits first,
and is kept where its lane reaches round(rate * 65536).

A block costs twenty 64-bit products, so it is drawn once for its 16 elements: its 16 comparisons become 16 bits of one
integer, and it is these integers, one for 16 elements, that are spread over the tile. A run of elements that does
not begin at a block's edge needs the block behind it too, never more.

A kernel with dropout takes what `dropout_arguments` returns: `clock_ptr` and `stream` at run time, `KEEP_FROM` (below
zero: no dropout) and `KEEP_SCALE` = 1 / (1 - rate) when it is compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import device
from ..arrays import Dropout
from ..launch import Int64, jit, tl


def dropout_arguments(dropout: Dropout | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a kernel wants to know of a dropout: (arguments, constants) for `launch`; None means none."""
    if dropout is None:
        return {"clock_ptr": None, "stream": Int64(0)}, {"KEEP_FROM": -1, "KEEP_SCALE": 1.0}
    counters, rate = dropout.counters, dropout.rate
    stream = counters.stream - (counters.stream >> 63 << 64)  # the same 64 bits, as a signed number
    constants = {"KEEP_FROM": min(round(rate * 65536), 65535), "KEEP_SCALE": float(np.float32(1 / (1 - rate)))}
    return {"clock_ptr": device.clock_of(counters), "stream": Int64(stream)}, constants


@jit
def philox_words(clock_ptr, stream, block):
    """The four words (uint64) of each block: block of any shape, clock_ptr: int64 [seed, step, ...]."""
    round0 = tl.full((), 0xD2E7470EE14C6C93, tl.uint64)
    round1 = tl.full((), 0xCA5A826395121157, tl.uint64)
    raise0 = tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
    raise1 = tl.full((), 0xBB67AE8584CAA73B, tl.uint64)
    key0 = tl.load(clock_ptr).to(tl.uint64)
    key1 = round0 * 0
    c0 = block.to(tl.uint64)
    c1 = c0 * 0
    c2 = c1 + tl.load(clock_ptr + 1).to(tl.uint64)
    c3 = c1 + stream.to(tl.uint64)
    turn = 0
    # `while`, since Triton would repeat unrolled arithmetic in every thread that wants its result, two to four times
    # over, rather than hand the result round; LLVM unrolls this one in the end
    while turn < 10:
        high0, low0 = tl.umulhi(round0, c0), tl.mul(round0, c0, sanitize_overflow=False)
        high1, low1 = tl.umulhi(round1, c2), tl.mul(round1, c2, sanitize_overflow=False)
        c0, c1 = high1 ^ c1 ^ key0, low1
        c2, c3 = high0 ^ c3 ^ key1, low0
        key0 = tl.add(key0, raise0, sanitize_overflow=False)
        key1 = tl.add(key1, raise1, sanitize_overflow=False)
        turn += 1
    return c0, c1, c2, c3


@jit
def keep_bits(clock_ptr, stream, block, KEEP_FROM: tl.constexpr):
    """For each block an uint32 whose bit i says whether element 16 * block + i is kept."""
    words = philox_words(clock_ptr, stream, block)
    bits = (block * 0).to(tl.uint32)
    for lane in tl.static_range(16):
        bits16 = (words[lane // 4] >> (16 * (lane % 4))).to(tl.uint32) & 0xFFFF
        bits |= (bits16 >= KEEP_FROM).to(tl.uint32) << lane
    return bits


@jit
def keep_scale_runs(clock_ptr, stream, first, RUN: tl.constexpr, STRADDLE: tl.constexpr, KEEP_FROM: tl.constexpr,
                    KEEP_SCALE: tl.constexpr):  # fmt: skip
    """Dropout's factor, 0 or KEEP_SCALE, of runs of adjacent elements.

    first      (A, B) places of the runs' first elements, in C order of the (logical) tensor
    RUN        elements of a run, a power of two up to 16
    STRADDLE   False: no run crosses a multiple of 16, which halves the work

    Returns (A, B * RUN) float32.
    """
    block = first >> 4
    bits = keep_bits(clock_ptr, stream, block, KEEP_FROM)
    if STRADDLE:
        bits |= keep_bits(clock_ptr, stream, block + 1, KEEP_FROM) << 16
    bits = bits >> (first & 15).to(tl.uint32)
    keep = (bits[:, :, None] >> tl.arange(0, RUN).to(tl.uint32)[None, None, :]) & 1
    return tl.where(tl.reshape(keep, (first.shape[0], first.shape[1] * RUN)) != 0, KEEP_SCALE, 0.0)


@jit
def keep_scale(clock_ptr, stream, first, BN: tl.constexpr, C: tl.constexpr, KEEP_FROM: tl.constexpr,
               KEEP_SCALE: tl.constexpr):  # fmt: skip
    """Dropout's factor for a tile of a (rows, C) tensor, BN columns wide from a column that is a multiple of BN.

    first   (BM,) place of the tile's first element in each of its rows: row * C + column

    Returns (BM, BN) float32; what it holds for columns beyond C means nothing. Cheapest where 16 divides C and BN.
    """
    RUN: tl.constexpr = min(16, BN)
    runs = first[:, None] + (tl.arange(0, BN // RUN) * RUN)[None, :]
    return keep_scale_runs(clock_ptr, stream, runs, RUN, C % RUN != 0, KEEP_FROM, KEEP_SCALE)


@jit
def keep_scale_span(clock_ptr, stream, first, SIZE: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr):
    """Dropout's factor for SIZE elements in C order, from `first`, a multiple of 16 as SIZE is: (SIZE,) float32."""
    runs = first + tl.arange(0, SIZE // 16) * 16
    scale = keep_scale_runs(clock_ptr, stream, runs[:, None], 16, False, KEEP_FROM, KEEP_SCALE)
    return tl.reshape(scale, (SIZE,))


@jit
def keep_scale_at(clock_ptr, stream, place, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr):
    """Dropout's factor at any places, each with a block of its own: sixteen times the work. Shape of place, float32."""
    bits = keep_bits(clock_ptr, stream, place >> 4, KEEP_FROM)
    return tl.where((bits >> (place & 15).to(tl.uint32)) & 1 != 0, KEEP_SCALE, 0.0)
