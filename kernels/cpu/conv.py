"""Convolution and its two gradients: three functions carry all convolution, transposed layers included.

    y[n,a,b,o]   = sum_{i,j,c} x[n, s a + i, s b + j, c] w[o,i,j,c]          (valid, cross-correlation; method 2.1)
    gx[n,h,w,c]  = sum over all (a,i), (b,j) with s a + i = h, s b + j = w of gy[n,a,b,o] w[o,i,j,c]
    gw[o,i,j,c]  = sum_{n,a,b} gy[n,a,b,o] x[n, s a + i, s b + j, c]

Each is one matrix product on a chunk of the batch small enough to stay in cache (`patches.py`), threads taking shares
of the batch. Where the kernel covers the image the whole layer is one dense product, and threads take shares of the
channels. The input gradient has two forms: scattering the product's columns (many channels), or gathering windows of
gy with all stride phases stacked in one product (few channels): `gather_is_cheaper` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arrays import (
    LINEAR,
    Activation,
    Dropout,
    check_activation,
    check_bias,
    check_contiguous,
    check_conv,
    check_dropout,
)
from .activation import drop, keep_mask
from .activation import dropout as drop_all
from .epilogue import Epilogue, Extra
from .parallel import scratch, split
from .patches import CHUNK_BYTES, GatherPlan, gather_is_cheaper, im2col, scatter_add


def _dense(epilogue: Epilogue, a: np.ndarray, b: np.ndarray) -> None:
    """One product a: (N, K) @ b: (K, C) with the channels shared out; `b` may be a transposed view."""
    channels = b.shape[1]
    n = len(a)

    def share(start: int, stop: int, part: int) -> None:
        out = epilogue.target(slice(0, n), slice(start, stop), stop - start)
        flat = out.reshape(n, -1) if out.flags.c_contiguous else out[:, 0, 0, :]
        np.matmul(a, b[:, start:stop], out=flat)
        epilogue.finish(out, slice(0, n), slice(start, stop), part)

    split(share, channels, work=a.size * channels / 8, align=16 * epilogue.activation.pieces)


def _by_images(fn: Callable[[int, int, int], None], count: int, bytes_per_image: int, work: float) -> int:
    """fn(start, stop, part) on chunks of images whose workspace is about CHUNK_BYTES."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_image))

    def share(start: int, stop: int, part: int) -> None:
        for a in range(start, stop, step):
            fn(a, min(a + step, stop), part)

    return split(share, count, work=work)


def _dropped(x: np.ndarray, start: int, dropout: Dropout | None, keep: np.ndarray | None) -> np.ndarray:
    """The chunk x of a batch, beginning at image `start`, as the convolution sees it."""
    if dropout is None or keep is None:
        return x
    out = scratch("dropped", x.shape, x.dtype)
    first = start * x[0].size
    drop(x, keep[first : first + x.size], dropout.rate, out)
    return out


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
) -> tuple[np.ndarray, Extra]:
    """Valid convolution with its epilogue: y = activation(conv(dropout(x), w) + bias).

    x        (N, H, W, C);  w: (O, kH, kW, C);  bias: (O,), (Ho, Wo, O) or None
    moments  also take the per-channel moments of y, for batch norm

    Returns y: (N, Ho, Wo, O / pieces) and beside it (mean, variance) if `moments`, the winners if maxout, else None.
    """
    oh, ow = check_conv("conv2d", x.shape, w.shape, None, stride)
    n, o, k = len(x), len(w), w[0].size
    check_contiguous("conv2d", x=x)
    check_activation("conv2d", activation, o, moments=moments)
    check_bias("conv2d", None if bias is None else bias.shape, (n, oh, ow, o))
    check_dropout("conv2d", dropout)
    epilogue = Epilogue((n, oh, ow, o), x.dtype, bias, activation, moments)
    w_rows = w.reshape(o, k)
    if oh * ow == 1 and x[0].size == k:
        _dense(epilogue, (drop_all(x, dropout) if dropout else x).reshape(n, k), w_rows.T)
        return epilogue.result()
    w_columns = np.ascontiguousarray(w_rows.T)
    keep = keep_mask(dropout, x.size) if dropout else None

    def chunk(start: int, stop: int, part: int) -> None:
        columns = im2col(_dropped(x[start:stop], start, dropout, keep), w.shape[1:3], (stride, stride))
        rows, channels = slice(start, stop), slice(0, o)
        out = epilogue.target(rows, channels, o)
        np.matmul(columns, w_columns, out=out.reshape(-1, o))
        epilogue.finish(out, rows, channels, part)

    _by_images(chunk, n, oh * ow * k * x.itemsize, n * oh * ow * k * o / 8)
    return epilogue.result()


def conv2d_input_grad(
    gy: np.ndarray,
    w: np.ndarray,
    size: tuple[int, int],
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
) -> tuple[np.ndarray, Extra]:
    """The adjoint of `conv2d` in x: the gradient of its input, and the forward pass of a transposed convolution.

    gy       (N, Ho, Wo, O);  w: (O, kH, kW, C);  size: (H, W) of the result
    bias, activation, moments    epilogue of a transposed layer, as in `conv2d`, on (N, H, W, C)
    dropout  the dropout of the convolution's input: the gradient passes through the same mask

    Returns gx: (N, H, W, C) and the epilogue's extra.
    """
    n, o, k = len(gy), len(w), w[0].size
    shape = (n, *size, *w.shape[3:])
    oh, ow = check_conv("conv2d_input_grad", shape, w.shape, gy.shape, stride)
    check_activation("conv2d_input_grad", activation, shape[3], moments=moments)
    check_bias("conv2d_input_grad", None if bias is None else bias.shape, shape)
    check_dropout("conv2d_input_grad", dropout)
    epilogue = Epilogue(shape, gy.dtype, bias, activation, moments)
    w_rows = w.reshape(o, k)
    if size == (1, 1):
        _dense(epilogue, gy.reshape(n, o), w_rows)
    elif oh * ow == 1 and size == tuple(w.shape[1:3]):
        _expand(epilogue, gy.reshape(n, o), w_rows)
    else:
        _windows(epilogue, gy, w, size, stride)
    gx, extra = epilogue.result()
    return (drop_all(gx, dropout) if dropout else gx), extra


def _expand(epilogue: Epilogue, gy: np.ndarray, w_rows: np.ndarray) -> None:
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
        out = epilogue.target(slice(start, stop), slice(0, c), c)
        np.copyto(out, product[start:stop])
        epilogue.finish(out, slice(start, stop), slice(0, c), part)

    split(finish, n, work=4 * product.size)


def _windows(epilogue: Epilogue, gy: np.ndarray, w: np.ndarray, size: tuple[int, int], stride: int) -> None:
    """The input gradient of a convolution with windows: gathered, or scattered, or (1x1) one plain product."""
    n, o = len(gy), len(w)
    c = w.shape[3]
    positions = gy.shape[1] * gy.shape[2]
    plan = GatherPlan(w, size, stride) if gather_is_cheaper(w.shape, size, stride) else None
    w_rows = w.reshape(o, -1)

    def chunk(start: int, stop: int, part: int) -> None:
        out = epilogue.target(slice(start, stop), slice(0, c), c)
        if plan is not None:
            plan.run(gy[start:stop], out)
        elif w_rows.shape[1] == c and stride == 1:
            np.matmul(gy[start:stop].reshape(-1, o), w_rows, out=out.reshape(-1, c))
        else:
            columns = scratch("columns", ((stop - start) * positions, w_rows.shape[1]), gy.dtype)
            np.matmul(gy[start:stop].reshape(-1, o), w_rows, out=columns)
            scatter_add(columns.reshape(*gy[start:stop].shape[:3], *w.shape[1:]), stride, out)
        epilogue.finish(out, slice(start, stop), slice(0, c), part)

    per_image = plan.bytes_per_image(gy.itemsize) if plan else positions * w_rows.shape[1] * gy.itemsize
    _by_images(chunk, n, per_image, n * positions * w.size / 8)


def conv2d_weight_grad(
    x: np.ndarray,
    gy: np.ndarray,
    kernel: tuple[int, int],
    *,
    stride: int = 1,
    dropout: Dropout | None = None,
) -> np.ndarray:
    """The adjoint of `conv2d` in w.

    x        (N, H, W, C);  gy: (N, Ho, Wo, O);  kernel: (kH, kW)
    dropout  the dropout of the convolution's input, applied to x again

    Returns gw: (O, kH, kW, C). Threads' sums are added in a fixed order.
    """
    shape = (*gy.shape[3:], *kernel, *x.shape[3:])
    oh, ow = check_conv("conv2d_weight_grad", x.shape, shape, gy.shape, stride)
    check_contiguous("conv2d_weight_grad", x=x)
    check_dropout("conv2d_weight_grad", dropout)
    n, o, k = len(x), shape[0], math.prod(shape[1:])
    gy_rows = gy.reshape(-1, o)
    if oh * ow == 1 and x[0].size == k:
        x_rows = (drop_all(x, dropout) if dropout else x).reshape(n, k)
        gw = np.empty((o, k), x.dtype)
        split(
            lambda start, stop, _part: np.matmul(gy_rows[:, start:stop].T, x_rows, out=gw[start:stop]),
            o,
            work=n * k * o / 8,
        )
        return gw.reshape(shape)
    sums: dict[int, np.ndarray] = {}
    keep = keep_mask(dropout, x.size) if dropout else None

    def chunk(start: int, stop: int, part: int) -> None:
        columns = im2col(_dropped(x[start:stop], start, dropout, keep), kernel, (stride, stride))
        g = gy_rows[start * oh * ow : stop * oh * ow].T
        if part not in sums:
            sums[part] = g @ columns
        else:
            sums[part] += np.matmul(g, columns, out=scratch("partial", (o, k), x.dtype))

    parts = _by_images(chunk, n, oh * ow * k * x.itemsize, n * oh * ow * k * o / 8)
    return sum((sums[part] for part in range(1, parts)), sums[0]).reshape(shape)


def conv2d_backward(
    x: np.ndarray,
    gy: np.ndarray,
    w: np.ndarray,
    *,
    stride: int = 1,
    transposed: bool = False,
    rows: slice | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Both gradients of a layer at once.

    x           (N, H, W, C), the layer's input;  gy: (K N, Ho, Wo, O), the gradient of its output
    transposed  whether the layer is `conv2d_input_grad`: then x is (N, H, W, O) and gy (K N, H', W', C)
    rows        of gy whose input gradient is wanted, all by default

    Returns gx, with as many rows; sums or None; gw: (O, kH, kW, C), of the first cotangent.
    """
    of_x = gy if rows is None else gy[rows]
    first = gy[: len(x)]
    if transposed:
        gw = conv2d_weight_grad(first, x, w.shape[1:3], stride=stride)
        return conv2d(of_x, w, stride=stride)[0], None, gw
    gw = conv2d_weight_grad(x, first, w.shape[1:3], stride=stride)
    return conv2d_input_grad(of_x, w, x.shape[1:3], stride=stride)[0], None, gw
