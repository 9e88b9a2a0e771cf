"""Convolution and its gradients on the GPU: the twins of `cpu/conv.py`.

    y[n,a,b,o]   = sum_{i,j,c} x[n, s a + i, s b + j, c] w[o,i,j,c]
    gx[n,h,w,c]  = sum over all (a,i), (b,j) with s a + i = h, s b + j = w of gy[n,a,b,o] w[o,i,j,c]
    gw[o,i,j,c]  = sum_{n,a,b} gy[n,a,b,o] x[n, s a + i, s b + j, c]

The first two are one kernel (`window_gemm.py`), which also does what follows them: bias, activation, dropout, moments
for a batch norm, or the way back through one (`conv_epilogue.py`). A layer's two gradients are one launch. A 1x1 layer
also takes an input that its kernels normalise as they read it (`pointwise_gemm.py`). Here are the public functions:
checks, sizes, launches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import device, tiles
from ..arrays import LINEAR, Activation, Array, Dropout, Normalised, NormState
from ..checks import check_conv
from ..launch import Work, arch, launch
from .conv_ending import Ending
from .conv_kernels import conv_backward, conv_weight, conv_window
from .conv_products import weight_product, window_products
from .conv_shapes import WeightProduct, Windows
from .pointwise_gemm import pointwise_backward, pointwise_weight, pointwise_window
from .table import ceil_div
from .weight_gemm import sum_pieces

SUMMED = 1024  # numbers of partial sums that a program adds
SHARED_WARPS = 4  # at least, of a launch that two products share: either may want a large tile


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    dropout: Dropout | None = None,
    moments: bool = False,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: Any = None,
    deferred: bool = False,
) -> tuple[Array, Any]:
    """Valid convolution with its epilogue: y = dropout(activation(conv(x, w) + bias)).

    x          (N, H, W, C), of a 1x1 layer maybe `Normalised`;  w: (O, kH, kW, C);  bias: (O,), (Ho, Wo, O) or None,
               float32
    moments    also take the per-channel moments of y, for batch norm
    through    y is the gradient, of K cotangents, of what a batch norm with leaky ReLU made: let it pass through
    precision  of the product: "fp32", "tf32" or "bf16"; sums are float32
    dtype      of y, that of x by default
    deferred   y may be left to the batch norm that alone reads it; here it never is

    Returns y: (N, Ho, Wo, O / pieces), and beside it (mean, variance) if `moments`, sums (K, 2, O) if `through`, the
    winners if maxout, else None.
    """
    oh, ow = check_conv("conv2d", x.shape, w.shape, None, stride)
    ending = Ending("conv2d", (len(x), oh, ow, len(w)), bias, activation, dropout, moments, through)
    return _windows("conv2d", ending, x, w, stride, False, precision, dtype)


def conv2d_input_grad(
    gy: Array,
    w: Array,
    size: tuple[int, int],
    bias: Array | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    dropout: Dropout | None = None,
    moments: bool = False,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: Any = None,
) -> tuple[Array, Any]:
    """The adjoint of `conv2d` in x: the gradient of its input, and the forward pass of a transposed convolution.

    gy   (N, Ho, Wo, O), or `Normalised` as in `conv2d`;  w: (O, kH, kW, C);  size: (H, W) of the result;  the rest as
         in `conv2d`

    Returns gx: (N, H, W, C) and the epilogue's extra.
    """
    shape = (len(gy), *size, *w.shape[3:])
    check_conv("conv2d_input_grad", shape, w.shape, gy.shape, stride)
    ending = Ending("conv2d_input_grad", shape, bias, activation, dropout, moments, through)
    return _windows("conv2d_input_grad", ending, gy, w, stride, True, precision, dtype)


def conv2d_weight_grad(
    x: Array, gy: Array, kernel: tuple[int, int], *, stride: int = 1, precision: str = "fp32", partials: bool = False
) -> Array:
    """The adjoint of `conv2d` in w.

    x         (N, H, W, C);  gy: (N, Ho, Wo, O);  kernel: (kH, kW). Either may be `Normalised`, of a 1x1 layer
    partials  leave the sums of shares of the batch apart, to be added in order

    Returns gw: (O, kH, kW, C) float32, or (S, O, kH, kW, C).
    """
    name = "conv2d_weight_grad"
    check_conv(name, x.shape, (*gy.shape[3:], *kernel, *x.shape[3:]), gy.shape, stride)
    (big, small), norm = (stored(x), stored(gy)), _norm(name, (x, gy), kernel, stride)
    product = tiles.weight(weight_product(name, big, small, kernel, stride, precision), len(x), arch())
    parts, arguments = _weight_arguments(product, big, small)
    if norm is not None:
        arguments |= {**_vectors(norm), "inv_std_ptr": norm.inv_std}
    launch(
        conv_weight if norm is None else pointwise_weight,
        product.tiles * product.tile.pieces,
        arguments,
        {"WG": product} if norm is None else {"WG": product, "SMALL": norm is gy},
        warps=product.tile.warps,
        stages=product.stages,
        work=Work(big.nbytes + small.nbytes, parts[0].nbytes, 2 * math.prod(gy.shape[:3]) * parts[0].size),
    )
    return parts if partials else _sum(parts)


def conv2d_backward(
    x: Array,
    gy: Array,
    w: Array,
    *,
    stride: int = 1,
    transposed: bool = False,
    rows: slice | None = None,
    through: NormState | None = None,
    precision: str = "fp32",
    dtype: Any = None,
    partials: bool = False,
) -> tuple[Array, Array | None, Array]:
    """Both gradients of a layer in one launch.

    x           (N, H, W, C), the layer's input, of a 1x1 layer maybe `Normalised`;  gy: (K N, Ho, Wo, O), the gradient
                of its output
    transposed  whether the layer is `conv2d_input_grad`: then x is (N, H, W, O) and gy (K N, H', W', C)
    rows        of gy whose input gradient is wanted, all by default
    through     the batch norm that made x: the gradient passes through it as in `conv2d`
    dtype       of gx, that of x by default

    Returns gx, with as many rows; the sums (K, 2, channels) or None; gw of the first cotangent as in
    `conv2d_weight_grad`. Of what is `Normalised` without `through`, one launch each.
    """
    name = "conv2d_backward"
    if len(gy) % max(1, len(x)):
        raise ValueError(f"{name}: gy {gy.shape} has {len(gy)} rows, wanted {len(x)} or a multiple, as x has")
    first = gy[: len(x)]
    big, small = (first, x) if transposed else (x, first)
    check_conv(name, big.shape, w.shape, small.shape, stride)
    if rows is not None and through is not None:
        raise ValueError(f"{name}: a gradient that passes through a norm has all its rows")
    a = gy if rows is None else gy[rows]
    ending = Ending(name, (len(a), *x.shape[1:]), through=through)
    norm = _norm(name, (x,), w.shape[1:3], stride)
    if norm is not None and through is None:
        gx, _ = _windows(name, ending, a, w, stride, not transposed, precision, dtype or x.dtype)
        gw = conv2d_weight_grad(big, small, w.shape[1:3], stride=stride, precision=precision, partials=partials)
        return gx, None, gw
    gx = device.empty_activation(ending.shape, dtype or x.dtype)
    products = window_products(name, a, w, gx, stride, not transposed, 1, precision)
    window = tiles.window(products, len(a), arch(), SHARED_WARPS)
    big, small = stored(big), stored(small)
    weight = weight_product(name, big, small, w.shape[1:3], stride, precision)
    weight = tiles.weight(weight, len(x), arch(), window.tile.warps)
    parts, arguments = _weight_arguments(weight, big, small)
    of_window = {"a_ptr": a, "w_ptr": w, "y_ptr": gx, **ending.arguments(window)}
    del of_window["bias_ptr"], of_window["winner_ptr"]
    constants = {"G": window, "E": ending.epilogue(), "WG": weight}
    if norm is not None:
        arguments["slope"] = norm.slope
        constants["SMALL"] = transposed
    programs = _programs(ending, window)
    pixels = math.prod(small.shape[1:3]) * (len(x) + len(a))
    launch(
        conv_backward if norm is None else pointwise_backward,
        programs + weight.tiles * weight.tile.pieces,
        {**of_window, **arguments, "windows": programs},
        constants,
        warps=window.tile.warps,
        stages=max(window.stages, weight.stages),
        work=Work(
            # what is normalised here is the x that the gradient passes through
            (0 if norm is not None else x.nbytes) + gy.nbytes + w.nbytes + ending.read(),
            gx.nbytes + parts[0].nbytes,
            2 * pixels * parts[0].size,
        ),
    )
    return gx, ending.extra, parts if partials else _sum(parts)


def _windows(
    name: str, ending: Ending, a: Array, w: Array, stride: int, adjoint: bool, precision: str, dtype: Any
) -> tuple[Array, Any]:
    """The launch of a convolution or an input gradient."""
    y = device.empty_activation(ending.shape, dtype or a.dtype)
    norm, a = _norm(name, (a,), w.shape[1:3], stride), stored(a)
    products = window_products(name, a, w, y, stride, adjoint, ending.activation.pieces, precision)
    product = tiles.window(products, len(a), arch())
    if ending.bias is not None and product.steps == 1 and product.chunk >= product.BN:
        # of a whole tile Triton makes a sum that begins with the bias, which passes through shared memory for it
        product = product.cut(replace(product.tile, chunk=product.BN // 2))
    pixels = math.prod((a if adjoint else y).shape[:3])
    arguments = {"a_ptr": a, "w_ptr": w, "y_ptr": y, **ending.arguments(product)}
    if norm is not None:
        del arguments["x_ptr"], arguments["inv_std_ptr"]  # of a gradient that passes through a norm, which this is not
        arguments |= {**_vectors(norm), "var_ptr": norm.var, "out_inv_std_ptr": norm.inv_std, "eps": norm.eps}
    launch(
        conv_window if norm is None else pointwise_window,
        _programs(ending, product),
        arguments,
        {"G": product, "E": ending.epilogue()},
        warps=product.tile.warps,
        stages=product.stages,
        work=Work(a.nbytes + w.nbytes + ending.read(), y.nbytes + ending.written(), 2 * pixels * w.size),
    )
    return y, ending.extra


def stored(x: Array | Normalised) -> Array:
    """What lies in memory of an input."""
    return x.x if isinstance(x, Normalised) else x


def _norm(name: str, inputs: Sequence[Array | Normalised], kernel: tuple[int, ...], stride: int) -> Normalised | None:
    """The one of the inputs that is to be normalised."""
    found = next((x for x in inputs if isinstance(x, Normalised)), None)
    if found is not None and (tuple(kernel) != (1, 1) or stride != 1):
        raise ValueError(f"{name}: a kernel {tuple(kernel)} of stride {stride}: only 1x1 layers normalise their input")
    return found


def _vectors(norm: Normalised) -> dict[str, Any]:
    return {"gamma_ptr": norm.gamma, "beta_ptr": norm.beta, "mean_ptr": norm.mean, "slope": norm.slope}


def _programs(ending: Ending, product: Windows) -> int:
    return ending.sets * ceil_div(ending.images * product.positions, product.BM) * product.tiles_n


def _weight_arguments(product: WeightProduct, big: Array, small: Array) -> tuple[Array, dict[str, Any]]:
    """(partial sums (S, O, kH, kW, C), what the kernel wants)."""
    pixels, pieces = len(small) * product.pixels, product.tile.pieces
    parts = device.empty((pieces, product.O, product.kernel_h, product.kernel_w, product.C))
    share = ceil_div(ceil_div(pixels, product.BK), pieces) * product.BK
    return parts, {"big_ptr": big, "small_ptr": small, "gw_ptr": parts, "pixels": pixels, "per": share}


def _sum(parts: Array) -> Array:
    """The sum over the first axis, in order."""
    if len(parts) == 1:
        return parts[0]
    out = device.empty(parts.shape[1:])
    launch(
        sum_pieces,
        ceil_div(out.size, SUMMED),
        {"parts_ptr": parts, "out_ptr": out, "pieces": len(parts)},
        {"SIZE": out.size, "BLOCK": SUMMED},
        work=Work(parts.nbytes, out.nbytes, parts.size),
    )
    return out
