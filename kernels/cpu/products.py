"""The products that convolutions are made of, with the epilogue on every slab of the result, and which form of a layer
with windows is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from .dense import multiply, share_channels
from .direct import Forward, InputGrad, WeightGrad
from .epilogue import Epilogue
from .parallel import scratch, split, threads
from .patches import Columns, ColumnSums, Gather, Scatter, gather_is_cheaper


def dense(epilogue: Epilogue, a: np.ndarray, b: np.ndarray) -> None:
    """One product a: (N, K) @ b: (K, C) with the channels shared out; `b` may be a transposed view.

    Under maxout, which is work of its own, each thread finishes its own channels.
    """
    rows, channels, winner = slice(0, len(a)), b.shape[1], epilogue.winner
    if winner is not None:

        def finished(start: int, stop: int, _part: int) -> None:
            product = scratch("dense", (len(a), stop - start), a.dtype)
            multiply(a, b, start, stop, product, 0)
            epilogue.maxout(product, start, winner)

        align = math.lcm(16, epilogue.activation.pieces)
        split(finished, channels, work=len(a) * channels * (a.shape[1] / 8 + 10), align=align)
        epilogue.drop(rows)
        return
    out = epilogue.target(rows, channels)
    product = out.reshape(len(a), channels)

    def share(start: int, stop: int, _part: int) -> None:
        multiply(a, b, start, stop, product, start)

    share_channels(share, a, b)
    epilogue.finish(out, rows, 0)


class Form(Protocol):
    """A way to compute a convolution of some images, at most `images` at a time."""

    images: int

    def run(self, x: np.ndarray, out: np.ndarray) -> None: ...


def by_images(epilogue: Epilogue, form: Form, x: np.ndarray, channels: int, work: float) -> None:
    """What `form` makes of x, with the epilogue on each chunk of it; threads share the images."""

    def chunk(start: int, stop: int, part: int) -> None:
        out = epilogue.target(slice(start, stop), channels)
        form.run(x[start:stop], out)
        epilogue.finish(out, slice(start, stop), part)

    in_chunks(chunk, len(x), form.images, work)


def in_chunks(fn: Callable[[int, int, int], None], count: int, size: int, work: float) -> int:
    """fn(start, stop, part) on chunks of so many images; returns how many threads shared them."""

    def share(start: int, stop: int, part: int) -> None:
        for a in range(start, stop, size):
            fn(a, min(a + size, stop), part)

    return split(share, count, work=work)


def expand(epilogue: Epilogue, gy: np.ndarray, w_rows: np.ndarray) -> None:
    """A 1x1 image to an image of the kernel's size: one dense product, threads sharing the positions."""
    n, h, wd, _ = epilogue.y.shape
    c = w_rows.shape[1] // (h * wd)
    product = np.empty((n, h * wd * c), gy.dtype)
    split(
        lambda start, stop, _part: np.matmul(gy, w_rows[:, start:stop], out=product[:, start:stop]),
        h * wd * c,
        work=gy.size * w_rows.shape[1] / 8,
        align=64,
    )
    product = product.reshape(n, h, wd, c)

    def finish(start: int, stop: int, part: int) -> None:
        out = epilogue.target(slice(start, stop), c)
        np.copyto(out, product[start:stop])
        epilogue.finish(out, slice(start, stop), part)

    split(finish, n, work=10 * product.size)


def forward(epilogue: Epilogue, x: np.ndarray, w: np.ndarray, stride: int, shape: tuple[int, ...]) -> None:
    """A convolution to `shape`, (N, Ho, Wo, O)."""
    positions, k = shape[1] * shape[2], w[0].size
    form = Forward.of(w, stride, shape) if x.dtype == w.dtype else None
    by_images(
        epilogue,
        form or Columns(w, stride, positions),
        x,
        len(w),
        len(x) * positions * (k * len(w) / 8 + k + 10 * len(w)),
    )


def windows(epilogue: Epilogue, gy: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int) -> None:
    """The input gradient of a convolution with windows: direct, gathered, or scattered."""
    positions = gy.shape[1] * gy.shape[2]
    form: Form | None = InputGrad.of(w, size, stride, gy.shape) if gy.dtype == w.dtype else None
    if form is None:
        gathered = gather_is_cheaper(w.shape, size, stride)
        form = Gather(w, size, stride) if gathered else Scatter(w, stride, positions)
    by_images(epilogue, form, gy, w.shape[3], len(gy) * positions * w.size / 8 + 10 * epilogue.y.size)


def weight_sums(x: np.ndarray, gy: np.ndarray, kernel: tuple[int, int], stride: int) -> np.ndarray:
    """The weight gradient of a convolution with windows, (O, kH kW C): threads' sums added in a fixed order."""
    n, oh, ow, o = gy.shape
    k = math.prod(kernel) * x.shape[3]
    gy = np.ascontiguousarray(gy)

    def begin() -> WeightGrad | ColumnSums:
        return WeightGrad.of(x, gy, kernel, stride) or ColumnSums(x, gy, kernel, stride)

    sums = [begin() for _ in range(threads())]
    parts = in_chunks(
        lambda start, stop, part: sums[part].add(x[start:stop], gy[start:stop]),
        n,
        sums[0].images,
        n * oh * ow * (k * o / 8 + 2 * k),
    )
    # in the order of the weights: Adam would turn it stretch by stretch
    return np.ascontiguousarray(sum((s.rows() for s in sums[1:parts]), sums[0].rows()))
