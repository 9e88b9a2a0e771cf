"""Sums of products on tiles of registers: what a direct convolution (`direct.py`) is made of.

A tile is `rows` x `vectors` vectors of sums that stay in registers while two streams are read: of one a number for each
row, spread over a vector, of the other the vectors. Everything else is where the streams begin and how far apart their
numbers lie, so that one function serves a convolution and both of its gradients.

Each sum is taken in the order of the loops, whatever the shape of the tile.
"""

from __future__ import annotations

from functools import cache

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import compiled
from .vectors import BYTES, INT, Vectors, one_dtype

#: Steps for which the vectors of a panel are read again and again from the first level of cache.
SEGMENT = 160


@intrinsic(prefer_literal=True)
def tile(
    _, rows, vectors, a, a0, a_row, a_line, a_step, b, b0, b_line, b_step, lines, steps, out, out0, out_row, skip
):  # fmt: skip
    """out[out0 + p out_row + v] += sum_{l < lines, t < steps} a[a0 + p a_row + l a_line + t a_step]
                                                               b[b0 + l b_line + t b_step + v]

    for skip <= p < rows and v < vectors * width of a vector. rows and vectors are known to the compiler; a, b and out
    are one-dimensional, contiguous and of one dtype; the rest are numbers of elements.
    """
    one_dtype(a, b, out)
    where = types.int64
    signature = types.void(rows, vectors, a, *[where] * 4, b, *[where] * 5, out, *[where] * 3)
    return signature, _tile


def _tile(context, builder, signature, args):
    rows, vectors = (kind.literal_value for kind in signature.args[:2])
    _, _, _, a0, a_row, a_line, a_step, _, b0, b_line, b_step, lines, steps, _, out0, out_row, skip = args
    v = Vectors(context, builder, signature, args, 2)
    targets = [v.row(v.on(v.pointer(13, out0), out_row, INT(p)), vectors) for p in range(rows)]
    sums = [v.sums([v.load(target) for target in row]) for row in targets]
    of_a, of_b = v.pointer(2, a0), v.pointer(7, b0)
    with cgutils.for_range(builder, lines) as line:
        line_a, line_b = v.on(of_a, a_line, line.index), v.on(of_b, b_line, line.index)
        with cgutils.for_range(builder, steps) as step:
            v.add_products(sums, v.on(line_a, a_step, step.index), a_row, v.on(line_b, b_step, step.index))
    for p in range(rows):
        with builder.if_then(builder.icmp_signed(">=", INT(p), skip)):
            for target, total in zip(targets[p], sums[p], strict=True):
                v.store(builder.load(total), target)
    return context.get_dummy_value()


@cache
def correlate(rows, vectors):
    """The loop for tiles of so many pixels; the last of a line lies over the one before where they do not divide it."""

    @compiled
    def loop(x, panels, stride, out):
        """out[n, a, b, o] += sum_{i, t} x[n, stride a + i, stride b][t] w[o, i, t]

        with x counted from there on over the edges of pixels. x: (N, H, W, C); panels: (kH, O / v, run, v), w with
        channels last; out: (N, Ho, Wo, O).
        """
        line, pixel, (_, height, width, channels) = x.shape[2] * x.shape[3], x.shape[3], out.shape
        taps, count, run, _ = panels.shape
        panel = vectors * (BYTES // x.itemsize)
        flat_x, flat_w, flat_out = x.reshape(-1), panels.reshape(-1), out.reshape(-1)
        segment = -(-run // -(-run // SEGMENT))
        for n in range(x.shape[0]):
            for i in range(taps):
                for v in range(count):
                    for t in range(0, run, segment):
                        w0, steps = ((i * count + v) * run + t) * panel, min(segment, run - t)
                        for a in range(height):
                            source = (n * x.shape[1] + stride * a + i) * line + t
                            to = (n * height + a) * width * channels + v * panel
                            for wanted in range(0, width, rows):
                                b = min(wanted, width - rows)
                                tile(
                                    rows, vectors, flat_x, source + b * stride * pixel, stride * pixel, 0, 1,
                                    flat_w, w0, 0, panel, 1, steps, flat_out, to + b * channels, channels, wanted - b,
                                )  # fmt: skip

    return loop


@cache
def scatter(rows, vectors):
    """The loop for tiles of so many pixels of gy, the last over the one before as in `correlate`."""

    @compiled
    def loop(gy, panels, stride, out):
        """out[n, stride a + i, stride b + j, c] += sum_o gy[n, a, b, o] w[o, i, j, c]

        gy: (N, Ho, Wo, O); panels: (kH, kW, C / v, O, v), w with channels last; out: (N, H, W, C).
        """
        _, height, width, run = gy.shape
        _, lines, pixels, channels = out.shape
        kh, kw, count, _, _ = panels.shape
        panel = vectors * (BYTES // gy.itemsize)
        flat_g, flat_w, flat_out = gy.reshape(-1), panels.reshape(-1), out.reshape(-1)
        segment = -(-run // -(-run // SEGMENT))
        for n in range(gy.shape[0]):
            for tap in range(kh * kw):
                i, j = tap // kw, tap % kw
                for v in range(count):
                    for t in range(0, run, segment):
                        w0, steps = ((tap * count + v) * run + t) * panel, min(segment, run - t)
                        for a in range(height):
                            source = (n * height + a) * width * run + t
                            to = ((n * lines + stride * a + i) * pixels + j) * channels + v * panel
                            for wanted in range(0, width, rows):
                                b = min(wanted, width - rows)
                                tile(
                                    rows, vectors, flat_g, source + b * run, run, 0, 1, flat_w, w0, 0, panel, 1, steps,
                                    flat_out, to + b * stride * channels, stride * channels, wanted - b,
                                )  # fmt: skip

    return loop


@cache
def weight_sums(rows, vectors):
    """The loop for tiles of so many numbers of windows' lines, the last over the one before as in `correlate`."""

    @compiled
    def loop(x, gy, stride, lines, out):
        """out[i, t, o] += sum_{n, a, b} x[n, stride a + i, stride b][t] gy[n, a, b, o]

        with x counted from there on over the edges of pixels. x: (N, H, W, C); gy: (N, Ho, Wo, O);
        out: (kH, run, O). So many lines of gy are worked on at a time.
        """
        line, pixel, channels = x.shape[2] * x.shape[3], x.shape[3], gy.shape[3]
        taps, run, _ = out.shape
        panel = vectors * (BYTES // x.itemsize)
        flat_x, flat_gy, flat_out = x.reshape(-1), gy.reshape(-1), out.reshape(-1)
        for n in range(x.shape[0]):
            for a in range(0, gy.shape[1], lines):
                some = min(lines, gy.shape[1] - a)
                for i in range(taps):
                    source = (n * x.shape[1] + stride * a + i) * line
                    for v in range(0, channels, panel):
                        g0 = (n * gy.shape[1] + a) * gy.shape[2] * channels + v
                        for wanted in range(0, run, rows):
                            t = min(wanted, run - rows)
                            tile(
                                rows, vectors, flat_x, source + t, 1, stride * line, stride * pixel,
                                flat_gy, g0, gy.shape[2] * channels, channels, some, gy.shape[2],
                                flat_out, (i * run + t) * channels + v, channels, wanted - t,
                            )  # fmt: skip

    return loop
