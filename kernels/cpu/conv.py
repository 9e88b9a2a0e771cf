"""Convolution and its two gradients: three functions carry all convolution, transposed layers included.

    y[n,a,b,o]   = sum_{i,j,c} x[n, s a + i, s b + j, c] w[o,i,j,c]          (valid, cross-correlation; method 2.1)
    gx[n,h,w,c]  = sum over all (a,i), (b,j) with s a + i = h, s b + j = w of gy[n,a,b,o] w[o,i,j,c]
    gw[o,i,j,c]  = sum_{n,a,b} gy[n,a,b,o] x[n, s a + i, s b + j, c]

Where Numba is installed and the channels fill vectors, sums are taken straight from the images (`direct.py`). Otherwise
each is one matrix product on a chunk of the batch small enough to stay in cache (`patches.py`); the input gradient then
has two forms: scattering the product's columns (many channels), or gathering windows of gy with all stride phases
stacked in one product (few channels): `gather_is_cheaper` chooses. Where the kernel covers the image the whole layer is
one dense product. Threads take shares of the batch; what else a layer does to its output is done to each chunk of it
while it is in cache (`epilogue.py`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import LINEAR, Activation, Dropout, NormState
from ..checks import check_contiguous, check_conv, check_precision
from .epilogue import Epilogue, Extra, Riders
from .joined import Passed, Product, input_grad
from .parallel import LARGE, later, split
from .products import dense, expand, forward, weight_sums, windows
from .winners import Winners

PRECISIONS = ("fp32",)


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    dropout: Dropout | None = None,
    moments: bool = False,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: type | None = None,
    deferred: bool = False,
) -> tuple[np.ndarray, Extra | Product]:
    """Valid convolution with its epilogue: y = dropout(activation(conv(x, w) + bias)).

    x        (N, H, W, C);  w: (O, kH, kW, C);  bias: (O,), (Ho, Wo, O) or None
    dropout  of the result
    moments  also take the per-channel moments of y, for batch norm; not together with maxout or dropout
    through  y is the gradient (of K N rows) of what this batch norm made: it is passed on through the norm's dropout
             and leaky ReLU. Nothing else may ride along then
    deferred  a batch norm alone reads y, to which it may be left with its moments: of a dense layer y is then memory,
             and in the moments' place stands what `batch_norm_leaky_relu` fills it from

    Returns y: (N, Ho, Wo, O / pieces), of `dtype` if given, and beside it (mean, variance) if `moments` and nothing is
    deferred, the winners if maxout, the sums (K, 2, O) of sum y and sum y (through.x - mean) if `through`, else None.
    """
    check_precision("conv2d", precision, PRECISIONS)
    return _conv2d(x, w, stride, Riders(bias, activation, dropout, moments, through), dtype, deferred)


def _conv2d(
    x: np.ndarray, w: np.ndarray, stride: int, riders: Riders, dtype: type | None, deferred: bool = False
) -> tuple[np.ndarray, Extra | Product]:
    oh, ow = check_conv("conv2d", x.shape, w.shape, None, stride)
    check_contiguous("conv2d", x=x)
    n, o, k = len(x), len(w), w[0].size
    is_dense = oh * ow == 1 and x[0].size == k
    if is_dense and deferred and riders.only_moments and dtype is None:
        return np.empty((n, 1, 1, o), x.dtype), Product(x.reshape(n, k), w.reshape(o, k).T)
    epilogue = Epilogue("conv2d", (n, oh, ow, o), x.dtype, riders)
    if is_dense:
        dense(epilogue, x.reshape(n, k), w.reshape(o, k).T)
        return epilogue.result(dtype)
    forward(epilogue, x, w, stride, (n, oh, ow, o))
    return epilogue.result(dtype)


def conv2d_input_grad(
    gy: np.ndarray | Winners,
    w: np.ndarray,
    size: tuple[int, int],
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    dropout: Dropout | None = None,
    moments: bool = False,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: type | None = None,
) -> tuple[np.ndarray, Extra]:
    """The adjoint of `conv2d` in x: the gradient of its input, and the forward pass of a transposed convolution.

    gy       (N, Ho, Wo, O);  w: (O, kH, kW, C);  size: (H, W) of the result
    bias, activation, dropout, moments    epilogue of a transposed layer, as in `conv2d`, on (N, H, W, C)
    through  of a gradient, as in `conv2d`

    Returns gx: (N, H, W, C) and the epilogue's extra.
    """
    check_precision("conv2d_input_grad", precision, PRECISIONS)
    return _input_grad(gy, w, size, stride, Riders(bias, activation, dropout, moments, through), dtype)


def _input_grad(
    gy: np.ndarray | Winners, w: np.ndarray, size: tuple[int, int], stride: int, riders: Riders, dtype: type | None
) -> tuple[np.ndarray, Extra | Passed]:
    n, o = len(gy), len(w)
    shape = (n, *size, *w.shape[3:])
    oh, ow = check_conv("conv2d_input_grad", shape, w.shape, gy.shape, stride)
    _check_winners("conv2d_input_grad", gy, size == (1, 1))
    w_rows = w.reshape(o, -1)
    if size == (1, 1) and isinstance(gy, np.ndarray) and riders.whole_norm:
        riders.check("conv2d_input_grad", shape)
        gx, passed = input_grad(gy.reshape(n, o), w_rows, *riders.whole_norm)
        return gx.astype(dtype or gx.dtype, copy=False), passed
    epilogue = Epilogue("conv2d_input_grad", shape, gy.dtype, riders)
    if isinstance(gy, Winners):
        gy.input_grad(epilogue, w_rows)
    elif size == (1, 1):
        dense(epilogue, gy.reshape(n, o), w_rows)
    elif oh * ow == 1 and size == tuple(w.shape[1:3]):
        expand(epilogue, gy.reshape(n, o), w_rows)
    else:
        windows(epilogue, gy, w, size, stride)
    return epilogue.result(dtype)


def conv2d_weight_grad(
    x: np.ndarray,
    gy: np.ndarray | Winners,
    kernel: tuple[int, int],
    *,
    stride: int = 1,
    precision: str = "fp32",
    partials: bool = False,
) -> np.ndarray:
    """The adjoint of `conv2d` in w.

    x         (N, H, W, C);  gy: (N, Ho, Wo, O);  kernel: (kH, kW)
    partials  leave the wait for it to whoever asks: until `settle`, of which `grad` and Adam make sure, it may not be
              there. On a GPU also the sum over shares of the batch is left, to `adam_step`

    Returns gw: (O, kH, kW, C), threads' sums added in a fixed order; with `partials` (1, O, kH, kW, C).
    """
    check_precision("conv2d_weight_grad", precision, PRECISIONS)
    shape = (*gy.shape[3:], *kernel, *x.shape[3:])
    oh, ow = check_conv("conv2d_weight_grad", x.shape, shape, gy.shape, stride)
    check_contiguous("conv2d_weight_grad", x=x)
    n, o, k = len(x), shape[0], math.prod(shape[1:])
    shape = (1, *shape) if partials else shape
    _check_winners("conv2d_weight_grad", gy, x[0].size == k)
    if isinstance(gy, Winners):
        return gy.weight_grad(x, wait=not partials).reshape(shape)
    if oh * ow == 1 and x[0].size == k:
        gy_rows, x_rows = gy.reshape(n, o), x.reshape(n, k)
        gw, work = np.empty((o, k), x.dtype), n * k * o / 8

        def share(start: int, stop: int, _part: int) -> None:
            np.matmul(gy_rows[:, start:stop].T, x_rows, out=gw[start:stop])

        if partials and work < LARGE:
            later(lambda: share(0, o, 0), work=work)
        else:
            split(share, o, work=work)
        return gw.reshape(shape)
    return weight_sums(x, gy, kernel, stride).reshape(shape)


def _check_winners(name: str, gy: np.ndarray | Winners, fits: bool) -> None:
    if isinstance(gy, Winners) and not fits:
        raise ValueError(f"{name}: gy {gy.shape} is left to winners: wanted a dense layer")


def conv2d_backward(
    x: np.ndarray,
    gy: np.ndarray | Winners,
    w: np.ndarray,
    *,
    stride: int = 1,
    transposed: bool = False,
    rows: slice | None = None,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: type | None = None,
    partials: bool = False,
) -> tuple[np.ndarray, np.ndarray | Passed | None, np.ndarray]:
    """Both gradients of a layer at once.

    x           (N, H, W, C), the layer's input;  gy: (K N, Ho, Wo, O), the gradient of its output
    transposed  whether the layer is `conv2d_input_grad`: then x is (N, H, W, O) and gy (K N, H', W', C)
    rows        of gy whose input gradient is wanted, all by default
    through     the batch norm that made x, through whose dropout and leaky ReLU the input gradient is passed on
    partials    of the weight gradient, as in `conv2d_weight_grad`

    Returns gx, with as many rows, of `dtype` or else x's; the sums of `through` (`conv2d`) or None, or, where a dense
    layer has passed gx through the whole norm, what `batch_norm_leaky_relu_grad` takes for them; gw of the first
    cotangent.
    """
    check_precision("conv2d_backward", precision, PRECISIONS)
    if len(gy) % max(1, len(x)):
        raise ValueError(f"conv2d_backward: gy {gy.shape} has {len(gy)} rows, wanted {len(x)} or a multiple, as x has")
    if rows is not None and through is not None:
        raise ValueError("conv2d_backward: a gradient that passes through a norm has all its rows")
    _check_winners("conv2d_backward", gy, not transposed)
    of_x: Any = gy if rows is None else gy[rows]
    first = gy[: len(x)]
    pair: tuple[Any, Any] = (first, x) if transposed else (x, first)
    # first, so that it may be at work while the other is computed
    gw = conv2d_weight_grad(*pair, w.shape[1:3], stride=stride, partials=partials)
    riders = Riders(through=through, y=None if through is None else x)
    dtype = dtype or x.dtype.type
    gx, sums = (
        _conv2d(of_x, w, stride, riders, dtype)
        if transposed
        else _input_grad(of_x, w, x.shape[1:3], stride, riders, dtype)
    )
    return gx, sums, gw  # type: ignore[return-value]
