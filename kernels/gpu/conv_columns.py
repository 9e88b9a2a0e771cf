"""Per-channel results of a convolution without a launch of their own.

Each program stores its tile's part and counts itself; the last one of a group of tiles merges the group's parts, and
the last of the groups merges those. Who is last decides nothing: parts are merged in the order of the tiles. Moments
are merged by Chan, Golub and LeVeque's formula (1979), as on the CPU; sums are added.

Memory between programs: the parts are stored, a barrier, then one atomic add that releases and acquires; the last
program reads past its L1 cache (.cg). Counters go back to zero for the next launch.

Parts are rows (set, tile of rows, phase) of three planes of channels. A set is a cotangent.
"""

from __future__ import annotations

from ..launch import jit, tl
from .table import last_to_finish


@jit
def column_part(value, other, mask, m_mask, G: tl.constexpr, E: tl.constexpr):
    """The tile's part, three of (BN,): count, mean and sum of squared deviations of value for the moments; sums of
    value and of value * other, and 0, on the way through a batch norm. value is 0 where mask is not."""
    zero = tl.zeros((value.shape[1],), tl.float32)
    if E.through:
        return tl.sum(value, axis=0), tl.sum(value * other, axis=0), zero
    count = zero + tl.sum(m_mask.to(tl.float32), axis=0) if G.whole else tl.sum(mask.to(tl.float32), axis=0)
    mean = tl.sum(value, axis=0) / tl.maximum(count, 1.0)
    centred = tl.where(mask, value - mean[None, :], 0.0)
    return count, mean, tl.sum(centred * centred, axis=0)


@jit
def store_planes(ptr, row, c, mask, planes, G: tl.constexpr):
    """Writes three planes of channels c to row(s) of parts."""
    offs = row * (3 * G.columns) + c
    tl.store(ptr + offs, planes[0], mask=mask)
    tl.store(ptr + offs + G.columns, planes[1], mask=mask)
    tl.store(ptr + offs + 2 * G.columns, planes[2], mask=mask)


@jit
def merge(parts_ptr, first, last, c, mask, G: tl.constexpr, E: tl.constexpr):
    """The parts of rows [first, last) in order, for channels c: (BN,); three of (BN,)."""
    ROWS: tl.constexpr = G.merge_rows
    s0 = tl.zeros((c.shape[0],), tl.float32)
    s1, s2 = s0, s0
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS)[:, None]
        both = (rows < last) & mask[None, :]
        offs = rows * (3 * G.columns) + c[None, :]
        b0 = tl.load(parts_ptr + offs, mask=both, other=0.0, cache_modifier=".cg")
        b1 = tl.load(parts_ptr + offs + G.columns, mask=both, other=0.0, cache_modifier=".cg")
        if E.through:
            s0 += tl.sum(b0, axis=0)
            s1 += tl.sum(b1, axis=0)
        else:
            b2 = tl.load(parts_ptr + offs + 2 * G.columns, mask=both, other=0.0, cache_modifier=".cg")
            count = tl.sum(b0, axis=0)
            mean = tl.sum(b0 * b1, axis=0) / tl.maximum(count, 1.0)
            b1 -= mean[None, :]
            delta = mean - s1
            share = count / tl.maximum(s0 + count, 1.0)
            s2 += tl.sum(b2 + b0 * b1 * b1, axis=0) + delta * delta * s0 * share
            s1 += delta * share
            s0 += count
    return s0, s1, s2


@jit
def store_result(sums_ptr, set, c, planes, G: tl.constexpr, E: tl.constexpr):
    """sums: (sets, 2, channels): (mean, biased variance), or both sums."""
    mask = c < G.channels
    if E.through:
        first, second = planes[0], planes[1]
    else:
        first, second = planes[1], planes[2] / tl.maximum(planes[0], 1.0)
    tl.store(sums_ptr + set * (2 * G.channels) + c, first, mask=mask)
    tl.store(sums_ptr + set * (2 * G.channels) + G.channels + c, second, mask=mask)


@jit
def merge_block(from_ptr, first, last, block, to_ptr, row, sums_ptr, set, final, G: tl.constexpr, E: tl.constexpr):
    """Merges rows [first, last) for a block of channels: into the result where `final`, else into a row of parts."""
    for c0 in range(block * G.BN, tl.minimum(block * G.BN + G.block_columns, G.columns), G.BN):
        c = c0 + tl.arange(0, G.BN)
        merged = merge(from_ptr, first, last, c, c < G.columns, G, E)
        if final:
            store_result(sums_ptr, set, c, merged, G, E)
        else:
            store_planes(to_ptr, row, c, c < G.columns, merged, G)


@jit
def finish_columns(set, sets, tile, tiles_m, tile_n, columns, G: tl.constexpr, E: tl.constexpr):
    """Behind the program's parts; the last program of all stores the result.

    columns   pointers: parts, with room for the groups' behind those of the tiles; result; counters
    """
    parts_ptr, sums_ptr, counters_ptr = columns
    block = tile_n % G.blocks
    groups = tl.cdiv(tiles_m, G.group)
    group = tile // G.group
    tiles = tl.minimum(G.group, tiles_m - group * G.group)
    groups_ptr = parts_ptr + sets * tiles_m * (G.phases * 3 * G.columns)
    counter_ptr = counters_ptr + (set * groups + group) * G.blocks + block
    if last_to_finish(counter_ptr, tiles * (G.tiles_n // G.blocks)):
        row = set * groups + group
        first = (set * tiles_m + group * G.group) * G.phases
        last = first + tiles * G.phases
        merge_block(parts_ptr, first, last, block, groups_ptr, row, sums_ptr, set, groups == 1, G, E)
        counter_ptr = counters_ptr + (sets * groups + set) * G.blocks + block
        if groups > 1:  # noqa: SIM102 (two conditions: `and` would count at once, in vain)
            if last_to_finish(counter_ptr, groups):
                first = set * groups
                merge_block(groups_ptr, first, first + groups, block, groups_ptr, 0, sums_ptr, set, True, G, E)
