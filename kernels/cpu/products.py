"""The matrix products that convolutions are made of, each with its epilogue on every slab of the result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .epilogue import Epilogue
from .parallel import scratch, split
from .patches import CHUNK_BYTES, GatherPlan, gather_is_cheaper, scatter_add


def dense(epilogue: Epilogue, a: np.ndarray, b: np.ndarray) -> None:
    """One product a: (N, K) @ b: (K, C) with the channels shared out; `b` may be a transposed view.

    Under maxout, which is work of its own, the rows are: each thread finishes its own.
    """
    rows, channels = slice(0, len(a)), b.shape[1]
    if epilogue.winner is not None:

        def finished(start: int, stop: int, part: int) -> None:
            out = epilogue.target(slice(start, stop), channels)
            np.matmul(a[start:stop], b, out=out.reshape(stop - start, channels))
            epilogue.finish(out, slice(start, stop), part)

        split(finished, len(a), work=len(a) * channels * (a.shape[1] / 8 + 10))
        return
    out = epilogue.target(rows, channels)
    product = out.reshape(len(a), channels)

    def share(start: int, stop: int, _part: int) -> None:
        np.matmul(a, b[:, start:stop], out=product[:, start:stop])

    split(share, channels, work=a.size * channels / 8, align=16)
    epilogue.finish(out, rows, 0)


def by_images(fn: Callable[[int, int, int], None], count: int, bytes_per_image: int, work: float) -> int:
    """fn(start, stop, part) on chunks of images whose workspace is about CHUNK_BYTES."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_image))

    def share(start: int, stop: int, part: int) -> None:
        for a in range(start, stop, step):
            fn(a, min(a + step, stop), part)

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


def windows(epilogue: Epilogue, gy: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int) -> None:
    """The input gradient of a convolution with windows: gathered, or scattered, or (1x1) one plain product."""
    n, o = len(gy), len(w)
    c = w.shape[3]
    positions = gy.shape[1] * gy.shape[2]
    plan = GatherPlan(w, size, stride) if gather_is_cheaper(w.shape, size, stride) else None
    w_rows = w.reshape(o, -1)

    def chunk(start: int, stop: int, part: int) -> None:
        out = epilogue.target(slice(start, stop), c)
        if plan is not None:
            plan.run(gy[start:stop], out)
        elif w_rows.shape[1] == c and stride == 1:
            np.matmul(gy[start:stop].reshape(-1, o), w_rows, out=out.reshape(-1, c))
        else:
            columns = scratch("columns", ((stop - start) * positions, w_rows.shape[1]), gy.dtype)
            np.matmul(gy[start:stop].reshape(-1, o), w_rows, out=columns)
            scatter_add(columns.reshape(*gy[start:stop].shape[:3], *w.shape[1:]), stride, out)
        epilogue.finish(out, slice(start, stop), part)

    per_image = plan.bytes_per_image(gy.itemsize) if plan else positions * w_rows.shape[1] * gy.itemsize
    by_images(chunk, n, per_image, n * positions * w.size / 8 + 10 * epilogue.y.size)
