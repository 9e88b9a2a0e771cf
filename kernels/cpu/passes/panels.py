"""A product of matrices on tiles of registers, for some hundred rows: `dense.py`.

The columns of b are first laid out in panels, a few vectors wide, so that a tile reads them one behind the other. That
costs what a few rows of the product do.
"""

from __future__ import annotations

from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled
from .vectors import BYTES, INT, Vectors, one_dtype


@intrinsic(prefer_literal=True)
def tile(_, rows, vectors, a, a0, a_row, panel, b0, steps, out, out0, out_row):
    """out[out0 + p out_row + v] = sum_{t < steps} a[a0 + p a_row + t] panel[b0 + t vectors * width + v]

    for p < rows and v < vectors * width of a vector. rows and vectors are known to the compiler; a, panel and out are
    one-dimensional, contiguous and of one dtype; the rest are numbers of elements.
    """
    one_dtype(a, panel, out)
    where = types.int64
    return types.void(rows, vectors, a, *[where] * 2, panel, *[where] * 2, out, *[where] * 2), _tile


def _tile(context, builder, signature, args):
    rows, vectors = (kind.literal_value for kind in signature.args[:2])
    _, _, _, a0, a_row, _, b0, steps, _, out0, out_row = args
    v = Vectors(context, builder, signature, args, 2)
    sums = [v.sums([ir.Constant(v.vector, None)] * vectors) for _ in range(rows)]
    a, panel, out = v.pointer(2, a0), v.pointer(5, b0), v.pointer(8, out0)
    with cgutils.for_range(builder, steps) as step:
        v.add_products(sums, builder.gep(a, [step.index]), a_row, v.on(panel, INT(vectors * v.width), step.index))
    for p, row in enumerate(sums):
        for total, target in zip(row, v.row(v.on(out, out_row, INT(p)), vectors), strict=True):
            v.store(builder.load(total), target)
    return context.get_dummy_value()


@intrinsic(prefer_literal=True)
def move(_, vectors, a, a0, out, out0):
    """So many vectors from a[a0:] to out[out0:]."""
    one_dtype(a, out)
    where = types.int64
    return types.void(vectors, a, where, out, where), _move


def _move(context, builder, signature, args):
    vectors = signature.args[0].literal_value
    v = Vectors(context, builder, signature, args, 1)
    sources, targets = (v.row(v.pointer(position, args[position + 1]), vectors) for position in (1, 3))
    for source, target in zip(sources, targets, strict=True):
        v.store(v.load(source), target)
    return context.get_dummy_value()


@intrinsic
def turn(_, a, a0, a_row, out, out0, out_row):
    """out[out0 + j out_row + i] = a[a0 + i a_row + j] for i and j below the width of a vector."""
    one_dtype(a, out)
    where = types.int64
    return types.void(a, where, where, out, where, where), _turn


def _turn(context, builder, signature, args):
    _, a0, a_row, _, out0, out_row = args
    v = Vectors(context, builder, signature, args, 0)
    a, out = v.pointer(0, a0), v.pointer(3, out0)
    rows = [v.load(v.on(a, a_row, INT(i))) for i in range(v.width)]
    # of each two blocks above and below the diagonal one takes the other's place, from halves down to single numbers
    half = v.width // 2
    while half:
        for i in range(v.width):
            if not i & half:
                rows[i], rows[i | half] = v.swap(rows[i], rows[i | half], half)
        half //= 2
    for j, row in enumerate(rows):
        v.store(row, v.on(out, out_row, INT(j)))
    return context.get_dummy_value()


@compiled
def lay_out(b, start, stop, panels):
    """b: (K, C) -> panels: of columns [start, stop), two vectors at a time, (K, v) each, then what is left, a vector at
    a time. The last lies over the one before where they do not divide the columns."""
    (steps, columns), width = b.shape, stop - start
    one = BYTES // b.itemsize
    flat, paired = b.reshape(-1), width - width % (2 * one)
    for k in range(steps):
        row = k * columns + start
        for c in range(0, paired, 2 * one):
            move(2, flat, row + c, panels, c * steps + 2 * k * one)
        for c in range(paired, width, one):
            move(1, flat, row + min(c, width - one), panels, c * steps + k * one)


@compiled
def lay_out_turned(b, start, stop, panels):
    """b: (C, K), otherwise as `lay_out`."""
    steps, width = b.shape[1], stop - start
    one = BYTES // b.itemsize
    flat, paired = b.reshape(-1), width - width % (2 * one)
    whole = steps - steps % one
    for c in range(0, width, one):
        column = start + min(c, width - one)
        second = c % (2 * one) if c < paired else 0  # of two vectors
        apart = 2 * one if c < paired else one
        begin = (c - second) * steps + second
        for k in range(0, whole, one):
            turn(flat, column * steps + k, steps, panels, begin + k * apart, apart)
        for k in range(whole, steps):
            for i in range(one):
                panels[begin + k * apart + i] = b[column + i, k]


@cache
def product(rows):
    """The loop for tiles of so many rows; the last lies over the one before where they do not divide a's."""

    @compiled
    def loop(a, b, turned, start, stop, panels, out, to):
        """out[:, to:][:, : stop - start] = a @ b[:, start:stop]

        a: (N, K), at least `rows` of them; b: (K, C), or (C, K) if `turned`, of at least a vector of columns; panels:
        what takes them, K numbers for each column and for the rest of the last vector.
        """
        (count, steps), columns, width = a.shape, out.shape[1], stop - start
        one = BYTES // a.itemsize
        if turned:
            lay_out_turned(b, start, stop, panels)
        else:
            lay_out(b, start, stop, panels)
        flat_a, flat_out, paired = a.reshape(-1), out.reshape(-1), width - width % (2 * one)
        for wanted in range(0, count, rows):
            n = min(wanted, count - rows)
            a0, out0 = n * steps, n * columns + to
            for c in range(0, paired, 2 * one):
                tile(rows, 2, flat_a, a0, steps, panels, c * steps, steps, flat_out, out0 + c, columns)
            for c in range(paired, width, one):
                first = out0 + min(c, width - one)
                tile(rows, 1, flat_a, a0, steps, panels, c * steps, steps, flat_out, first, columns)

    return loop
