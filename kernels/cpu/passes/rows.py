"""Sums of a table's rows that stay in registers: the products of what maxout left (`winners.py`)."""

from __future__ import annotations

from functools import cache

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled
from .vectors import BYTES, INT, Vectors, one_dtype


def _places(channels, width):
    """Where in a row of so many channels its vectors lie: the last over the one before where they do not divide it."""
    return [INT(min(c, channels - width)) for c in range(0, channels, width)]


@intrinsic(prefer_literal=True)
def lay(_, channels, row, start, panel, to):
    """The vectors of row[start:] from panel[to:] on, one behind the other: there none lies on two lines of the cache.

    channels   at least a vector, and known to the compiler, as is therefore where each vector lies
    """
    one_dtype(row, panel)
    where = types.int64
    return types.void(channels, row, where, panel, where), _lay


def _lay(context, builder, signature, args):
    v = Vectors(context, builder, signature, args, 1)
    row, panel = v.pointer(1, args[2]), v.pointer(3, args[4])
    places = _places(signature.args[0].literal_value, v.width)
    for place, target in zip(places, v.row(panel, len(places)), strict=True):
        v.store(v.load(builder.gep(row, [place])), target)
    return context.get_dummy_value()


@intrinsic(prefer_literal=True)
def sum_of_rows(_, channels, factors, f0, index, i0, count, panel, out, out0):
    """out[out0 + c] += sum_{i < count} factors[f0 + i] (the row at panel[index[i0 + i]:])[c]   for c < channels

    channels   as of `lay`, which laid the rows
    All arrays are one-dimensional and contiguous; index of int32, the others of one dtype.
    """
    one_dtype(factors, panel, out)
    where = types.int64
    return types.void(channels, factors, where, index, where, where, panel, out, where), _sum_of_rows


def _sum_of_rows(context, builder, signature, args):
    _, _, f0, _, i0, count, _, _, out0 = args
    v = Vectors(context, builder, signature, args, 1)
    places = _places(signature.args[0].literal_value, v.width)
    target = v.pointer(7, out0)
    sums = v.sums([v.load(builder.gep(target, [place])) for place in places])
    factors, index, panel = v.pointer(1, f0), v.pointer(3, i0), v.pointer(6, INT(0))
    with cgutils.for_range(builder, count) as step:
        factor = v.spread(builder.gep(factors, [step.index]))
        row = builder.gep(panel, [builder.sext(builder.load(builder.gep(index, [step.index])), ir.IntType(64))])
        for total, source in zip(sums, v.row(row, len(places)), strict=True):
            v.add(total, factor, v.load(source))
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
    def loop(g, winner, w, pieces, block, index, panel, out):
        """g, winner: (N, J); w: (J pieces, C); out: (N, C). Of `block` winners at a time, whose stretches of w are laid
        into the panel and stay in cache; index: (N J,) takes the places of their rows there."""
        rows, channels = out.shape
        width = BYTES // w.itemsize
        apart = -(-max(stretch, last) // width) * width
        flat_g, flat_w, flat_out = g.reshape(-1), w.reshape(-1), out.reshape(-1)
        for n in range(rows):
            for first in range(0, g.shape[1], block):
                for j in range(first, min(first + block, g.shape[1])):
                    index[np.uintp(n * g.shape[1] + j)] = ((j - first) * pieces + winner[n, j]) * apart
        out[:] = 0

        def sums(some, c):
            for first in range(0, g.shape[1], block):
                count = min(block, g.shape[1] - first)
                for row in range(count * pieces):
                    lay(some, flat_w, (first * pieces + row) * channels + c, panel, row * apart)
                for n in range(rows):
                    begin = n * g.shape[1] + first
                    sum_of_rows(some, flat_g, begin, index, begin, count, panel, flat_out, n * channels + c)

        for c in range(0, channels - last, stretch):
            sums(stretch, c)
        sums(last, channels - last)

    return loop


@compiled
def sort_by_winner(g, winner, pieces, apart, index, factors, ends):
    """g, winner: (N, J), of any strides. For each row o = j pieces + winner of a weight, one behind the other and up to
    ends[o], index and factors of those n where it won, in their order: n as the place of a row in a panel.

    Places are unsigned: a signed one would be looked at for being negative, from the end."""
    ends[:] = 0
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            ends[np.uintp(j * pieces + winner[n, j])] += 1
    begin = 0
    for o in range(ends.size):
        count = ends[o]
        ends[o] = begin
        begin += count
    for n in range(g.shape[0]):
        for j in range(g.shape[1]):
            row = np.uintp(j * pieces + winner[n, j])
            place = np.uintp(ends[row])
            index[place], factors[place] = n * apart, g[n, j]
            ends[row] += 1


@cache
def winner_weight_grad(stretch, last):
    """The loop for rows in such stretches: `winners.py`."""

    @compiled
    def loop(g, winner, x, pieces, block, groups, index, factors, places, panel, out):
        """g, winner: (N, J); x: (N, C); out: (J pieces, C). Of `block` rows at a time, whose stretches of x are laid
        into the panel and stay in the first level of cache, and of so many groups, whose rows of out stay in the
        second; index and factors: (block groups,), places: (groups pieces,), for `sort_by_winner`."""
        channels = x.shape[1]
        width = BYTES // x.itemsize
        apart = -(-max(stretch, last) // width) * width
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)

        def sums(some, ends, first, count, c, out0):
            for row in range(count):
                lay(some, flat_x, (first + row) * channels + c, panel, row * apart)
            begin = 0
            for o in range(ends.size):
                end = ends[o]
                sum_of_rows(some, factors, begin, index, begin, end - begin, panel, flat_out, out0 + o * channels + c)
                begin = end

        for group in range(0, g.shape[1], groups):
            ends = places[: min(groups, g.shape[1] - group) * pieces]
            out[group * pieces :][: ends.size] = 0
            for row in range(0, g.shape[0], block):
                here = slice(row, row + block), slice(group, group + groups)
                sort_by_winner(g[here], winner[here], pieces, apart, index, factors, ends)
                count, out0 = min(block, g.shape[0] - row), group * pieces * channels
                for c in range(0, channels - last, stretch):
                    sums(stretch, ends, row, count, c, out0)
                sums(last, ends, row, count, channels - last, out0)

    return loop
