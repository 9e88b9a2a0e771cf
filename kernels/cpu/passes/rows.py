"""Sums of a table's rows that stay in registers: the products of what maxout left (`winners.py`)."""

from __future__ import annotations

from functools import cache

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled
from .vectors import BYTES, INT, Vectors, one_dtype


@intrinsic(prefer_literal=True)
def sum_of_rows(_, vectors, factors, f0, index, i0, count, table, width, start, channels, out, out0):
    """out[out0 + c] += sum_{i < count} factors[f0 + i] table[index[i0 + i] width + start + c]   for c < channels

    channels   at least a vector and at most `vectors` of them, which are known to the compiler: the last one lies over
               the one before where they do not divide
    All arrays are one-dimensional and contiguous; index of int64, the others of one dtype.
    """
    one_dtype(factors, table, out)
    where = types.int64
    return types.void(vectors, factors, where, index, where, where, table, *[where] * 3, out, where), _sum_of_rows


def _sum_of_rows(context, builder, signature, args):
    vectors = signature.args[0].literal_value
    _, _, f0, _, i0, count, _, width, start, channels, _, out0 = args
    v = Vectors(context, builder, signature, args, 1)
    last = builder.sub(channels, INT(v.width))
    places = []
    for k in range(vectors):
        place = INT(k * v.width)
        places.append(builder.select(builder.icmp_signed("<", place, last), place, last))
    target = v.pointer(10, out0)
    sums = v.sums([v.load(builder.gep(target, [place])) for place in places])
    factors, index, table = v.pointer(1, f0), v.pointer(3, i0), v.pointer(6, start)
    with cgutils.for_range(builder, count) as step:
        factor = v.spread(builder.gep(factors, [step.index]))
        row = v.on(table, width, builder.load(builder.gep(index, [step.index])))
        for total, place in zip(sums, places, strict=True):
            v.add(total, factor, v.load(builder.gep(row, [place])))
    for total, place in zip(sums, places, strict=True):
        v.store(builder.load(total), builder.gep(target, [place]))
    return context.get_dummy_value()


def row_vectors(channels: int, itemsize: int) -> int:
    """Vectors of a row that `sum_of_rows` keeps in registers: all of it, or equal stretches; 0 where it fills none."""
    width = BYTES // itemsize
    if channels < width:
        return 0
    needed = -(-channels // width)
    vectors = -(-needed // -(-needed // 13))
    while 0 < channels % (vectors * width) < width:  # the last stretch would be less than a vector
        vectors -= 1
    return vectors


@cache
def winner_input_grad(vectors):
    """The loop for so many vectors of a row at a time: `winners.py`."""
    size = BYTES  # bound here, so that what is kept on disk is kept apart from other processors'

    @compiled
    def loop(g, winner, w, pieces, block, index, out):
        """g, winner: (N, J); w: (J pieces, C); out: (N, C); of `block` winners, whose rows of w stay in cache, index
        takes the numbers."""
        rows, channels = out.shape
        stretch = vectors * (size // out.itemsize)
        flat_g, flat_w, flat_out = g.reshape(-1), w.reshape(-1), out.reshape(-1)
        out[:] = 0
        for first in range(0, g.shape[1], block):
            some = min(block, g.shape[1] - first)
            for n in range(rows):
                for k in range(some):
                    index[k] = (first + k) * pieces + winner[n, first + k]
                for c in range(0, channels, stretch):
                    sum_of_rows(
                        vectors, flat_g, n * g.shape[1] + first, index, 0, some,
                        flat_w, channels, c, min(stretch, channels - c), flat_out, n * channels + c,
                    )  # fmt: skip

    return loop


@cache
def winner_weight_grad(vectors):
    """The loop for so many vectors of a row at a time: `winners.py`."""
    size = BYTES  # bound here, so that what is kept on disk is kept apart from other processors'

    @compiled
    def loop(g, winner, x, pieces, block, factors, index, begins, out):
        """g, winner: (N, J); x: (N, C); out: (J pieces, C). Of `block` rows of x, which stay in cache, index and
        factors take numbers and gradients, sorted by the piece that won; begins: (pieces + 1,)."""
        channels = x.shape[1]
        stretch = vectors * (size // out.itemsize)
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)
        out[:] = 0
        for first in range(0, x.shape[0], block):
            last = min(first + block, x.shape[0])
            for j in range(g.shape[1]):
                begins[:] = 0
                for n in range(first, last):
                    begins[winner[n, j] + 1] += 1
                for k in range(1, pieces):
                    begins[k + 1] += begins[k]
                for n in range(first, last):
                    place = begins[winner[n, j]]
                    begins[winner[n, j]] += 1
                    index[place], factors[place] = n, g[n, j]
                begin = 0
                for k in range(pieces):
                    for c in range(0, channels, stretch):
                        sum_of_rows(
                            vectors, factors, begin, index, begin, begins[k] - begin,
                            flat_x, channels, c, min(stretch, channels - c), flat_out, (j * pieces + k) * channels + c,
                        )  # fmt: skip
                    begin = begins[k]

    return loop
