"""Sums of a table's rows that stay in registers: the products of what maxout left (`winners.py`)."""

from __future__ import annotations

from functools import cache

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled
from .vectors import BYTES, INT, Vectors, one_dtype


@intrinsic(prefer_literal=True)
def sum_of_rows(_, channels, factors, f0, index, i0, count, table, start, out, out0):
    """out[out0 + c] += sum_{i < count} factors[f0 + i] table[start + index[i0 + i] + c]   for c < channels

    channels   at least a vector, and known to the compiler, as is therefore where each vector lies: the last one over
               the one before where they do not divide
    All arrays are one-dimensional and contiguous; index of int64, the others of one dtype.
    """
    one_dtype(factors, table, out)
    where = types.int64
    return types.void(channels, factors, where, index, where, where, table, where, out, where), _sum_of_rows


def _sum_of_rows(context, builder, signature, args):
    channels = signature.args[0].literal_value
    _, _, f0, _, i0, count, _, start, _, out0 = args
    v = Vectors(context, builder, signature, args, 1)
    places = [INT(min(c, channels - v.width)) for c in range(0, channels, v.width)]
    target = v.pointer(8, out0)
    sums = v.sums([v.load(builder.gep(target, [place])) for place in places])
    factors, index, table = v.pointer(1, f0), v.pointer(3, i0), v.pointer(6, start)
    with cgutils.for_range(builder, count) as step:
        factor = v.spread(builder.gep(factors, [step.index]))
        row = builder.gep(table, [builder.load(builder.gep(index, [step.index]))])
        for total, place in zip(sums, places, strict=True):
            v.add(total, factor, v.load(builder.gep(row, [place])))
    for total, place in zip(sums, places, strict=True):
        v.store(builder.load(total), builder.gep(target, [place]))
    return context.get_dummy_value()


def stretches(channels: int, itemsize: int, most: int) -> tuple[int, int]:
    """Channels of a row that are summed at a time, `most` vectors; and what is left for the last time, less than a
    vector more or any less, but a vector. (0, 0) where the row fills none."""
    width = BYTES // itemsize
    if channels < width:
        return 0, 0
    stretch = most * width
    last = channels % stretch
    return stretch, last if last >= width else min(channels, last + stretch)


@cache
def winner_input_grad(stretch, last):
    """The loop for rows in such stretches: `winners.py`."""

    @compiled
    def loop(g, winner, w, pieces, block, index, out):
        """g, winner: (N, J); w: (J pieces, C); out: (N, C). Of `block` winners at a time, whose stretches of w stay in
        cache; index: (N J,) takes the places of their rows."""
        rows, channels = out.shape
        flat_g, flat_w, flat_out = g.reshape(-1), w.reshape(-1), out.reshape(-1)
        for n in range(rows):
            for j in range(g.shape[1]):
                index[n * g.shape[1] + j] = (j * pieces + winner[n, j]) * channels
        out[:] = 0

        def sums(some, c):
            for first in range(0, g.shape[1], block):
                count = min(block, g.shape[1] - first)
                for n in range(rows):
                    begin = n * g.shape[1] + first
                    sum_of_rows(some, flat_g, begin, index, begin, count, flat_w, c, flat_out, n * channels + c)

        for c in range(0, channels - last, stretch):
            sums(stretch, c)
        sums(last, channels - last)

    return loop


@compiled
def sort_by_winner(g, winner, pieces, channels, index, factors, ends):
    """g, winner: (N, J), of any strides. For each row o = j pieces + winner of a weight, one behind the other and up to
    ends[o], index and factors of those n where it won, in their order: n as the place of a row of so many channels."""
    ends[:] = 0
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            ends[j * pieces + winner[n, j]] += 1
    begin = 0
    for o in range(ends.size):
        ends[o], begin = begin, begin + ends[o]
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            o = j * pieces + winner[n, j]
            index[ends[o]], factors[ends[o]] = n * channels, g[n, j]
            ends[o] += 1


@cache
def winner_weight_grad(stretch, last):
    """The loop for rows in such stretches: `winners.py`."""

    @compiled
    def loop(g, winner, x, pieces, block, groups, index, factors, places, out):
        """g, winner: (N, J); x: (N, C); out: (J pieces, C). Of `block` rows at a time, whose stretches of x stay in the
        first level of cache, and of so many groups, whose rows of out stay in the second; index and factors: (block
        groups,), places: (groups pieces,), for `sort_by_winner`."""
        channels = x.shape[1]
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)
        out[:] = 0

        def sums(some, ends, x0, out0):
            begin = 0
            for o in range(ends.size):
                count = ends[o] - begin
                sum_of_rows(some, factors, begin, index, begin, count, flat_x, x0, flat_out, out0 + o * channels)
                begin = ends[o]

        for group in range(0, g.shape[1], groups):
            for row in range(0, g.shape[0], block):
                here = slice(row, row + block), slice(group, group + groups)
                ends = places[: min(groups, g.shape[1] - group) * pieces]
                sort_by_winner(g[here], winner[here], pieces, channels, index, factors, ends)
                x0, out0 = row * channels, group * pieces * channels
                for c in range(0, channels - last, stretch):
                    sums(stretch, ends, x0 + c, out0 + c)
                sums(last, ends, x0 + channels - last, out0 + channels - last)

    return loop
