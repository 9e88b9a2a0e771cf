"""Convolution and transposed convolution with everything that rides on them: bias, activation, dropout, moments.

    y = dropout(activation(conv(x, w) + b))         moments: mean and variance of y, on the way to batch norm

The transposed layer is the adjoint of the convolution that owns its weight (method 2.1), so that one Function serves
both: forward of one is the input gradient of the other. Numbers come from `conv2d`, `conv2d_input_grad`,
`conv2d_weight_grad`, `conv2d_backward` (both gradients at once) and `bias_activation_grad`. Saved: x, w, and y where
something follows the product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit.autograd import Folded, Function, Rows, Tensor
from alikit.ops._dispatch import LINEAR, Activation, Dropout, NormState, conv_input_size, kernel


class Options(NamedTuple):
    """How a layer convolves: the arguments of `conv2d` of the same names; transposed: whether it is the adjoint."""

    transposed: bool
    stride: int
    activation: Activation
    moments: bool
    dropout: Dropout | None
    precision: str
    dtype: Any
    partials: bool
    deferred: bool


class Convolution(Function):
    """Inputs x, w and, optionally, b."""

    weighs_rows = True
    stacks = True
    takes_folds = True

    def __init__(self, options: Options):
        self.options = options

    def forward(self, x: Any, w: Any, b: Any = None) -> Any:
        how = self.options
        options = {
            "stride": how.stride,
            "activation": how.activation,
            "moments": how.moments,
            "dropout": how.dropout,
            "precision": how.precision,
            "dtype": how.dtype,
        }
        if how.transposed:
            size = tuple([conv_input_size(n, k, how.stride) for n, k in zip(x.shape[1:3], w.shape[1:3], strict=True)])
            y, self.extra = kernel("conv2d_input_grad", x)(x, w, size, b, **options)
        else:
            y, self.extra = kernel("conv2d", x)(x, w, b, **options, deferred=how.deferred)
        self.x, self.w = x, w
        self.b = b
        self.y = y if how.activation != LINEAR or how.dropout else None
        return y

    def fold(self) -> NormState | None:
        """Dropout and leaky ReLU, with the sums over g that are a tied bias's gradient."""
        activation, untied = self.options.activation, self.b is not None and self.b.ndim > 1
        if self.y is None or untied or activation.name not in ("linear", "leaky_relu"):
            return None
        slope = activation.value if activation.name == "leaky_relu" else 1.0
        return NormState(self.y, slope=slope, dropout=self.options.dropout)

    def backward(self, gy: Any) -> Any:
        need_x, need_w, need_b = (*self.needs, False)[:3]
        weights = self.row_weights
        gy, gb = self._epilogue_grad(gy, need_b and weights is None)
        gx = gw = None
        if need_x and need_w and weights is None:
            gx, gw = self._both(gy, need_x)
        else:
            if need_x:
                gx = self._input_grad(gy, need_x)
            if weights is not None:
                gy = kernel("scale_rows", gy)(gy, weights)
                gb = self._bias_grad(gy) if need_b else None
            if need_w:
                gw = self._weight_grad(gy)
        return (gx, gw, gb)[: len(self.needs)]

    def _epilogue_grad(self, gy: Any, need_b: bool | slice) -> tuple[Any, Any]:
        """The gradient before dropout and activation, and the bias's."""
        if isinstance(gy, Folded):
            return gy.g, gy.sums[0, 0].astype(self.b.dtype, copy=False) if need_b else None
        if self.y is None:
            return gy, self._bias_grad(gy) if need_b else None
        return kernel("bias_activation_grad", gy)(
            gy,
            self.y,
            self.options.activation,
            winner=self.extra if self.options.activation.name == "maxout" else None,
            bias_shape=self.b.shape if need_b else None,
            dropout=self.options.dropout,
            deferred=not self.options.transposed and self.x.shape[1:3] == (1, 1),
        )

    def _bias_grad(self, gy: Any) -> Any:
        first = self._first(gy)
        return kernel("bias_activation_grad", gy)(first, first, LINEAR, bias_shape=self.b.shape)[1]

    def _first(self, gy: Any) -> Any:
        """Of stacked cotangents; gy itself where there is one, whatever it is."""
        return gy if len(gy) == len(self.x) else gy[: len(self.x)]

    def _both(self, gy: Any, need: bool | slice) -> tuple[Any, Any]:
        how = self.options
        gx, sums, gw = kernel("conv2d_backward", gy)(
            self.x,
            gy,
            self.w,
            stride=how.stride,
            transposed=how.transposed,
            rows=need if isinstance(need, slice) else None,
            through=self.folds[0] if self.folds else None,
            precision=how.precision,
            dtype=self.x.dtype,
            partials=how.partials,
        )
        return _as_asked(gx, sums, need), gw

    def _input_grad(self, gy: Any, need: bool | slice) -> Any:
        how = self.options
        options = {
            "stride": how.stride,
            "through": self.folds[0] if self.folds else None,
            "precision": how.precision,
            "dtype": self.x.dtype,
        }
        if isinstance(need, slice):
            gy = gy[need]
        if how.transposed:
            gx, sums = kernel("conv2d", gy)(gy, self.w, **options)
        else:
            gx, sums = kernel("conv2d_input_grad", gy)(gy, self.w, self.x.shape[1:3], **options)
        return _as_asked(gx, sums, need)

    def _weight_grad(self, gy: Any) -> Any:
        how, first = self.options, self._first(gy)
        pair = (first, self.x) if how.transposed else (self.x, first)
        return kernel("conv2d_weight_grad", gy)(
            *pair, self.w.shape[1:3], stride=how.stride, precision=how.precision, partials=how.partials
        )


def _as_asked(gx: Any, sums: Any, need: bool | slice) -> Any:
    """The input gradient as the walk knows it."""
    if sums is not None:
        return Folded(gx, sums)
    return Rows(gx, need.start) if isinstance(need, slice) else gx


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
    precision: str = "fp32",
    dtype: Any = None,
    partials: bool = False,
    deferred: bool = False,
) -> tuple[Tensor, Any]:
    """Valid convolution with its epilogue (method 2.1).

    x          (N, H, W, C);  w: (O, kH, kW, C);  b: (O,) tied, (Ho, Wo, O) untied, or None
    dropout    of y, element by element; not together with moments
    precision  of the products: "fp32", on a GPU also "tf32" and "bf16"
    dtype      of y, where it differs from x's
    partials   the weight gradient is left as partial sums, (S, O, kH, kW, C), for Adam to add; on the CPU S is 1, and
               another thread may fill it until `grad` is done
    deferred   y is for a batch norm alone, which takes its moments: then both may be left to that to compute

    Returns y: (N, Ho, Wo, O / pieces) and, if `moments`, (mean, biased variance) of y as arrays, or what the norm is to
    be handed in their place if `deferred`; else None.
    """
    return _run(Options(False, stride, activation, moments, dropout, precision, dtype, partials, deferred), x, w, b)


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
    precision: str = "fp32",
    dtype: Any = None,
    partials: bool = False,
    deferred: bool = False,
) -> tuple[Tensor, Any]:
    """The adjoint of the convolution with weight w, with the same options; nothing of it is ever left to a norm.

    x   (N, H, W, O);  w: (O, kH, kW, C);  b: (C,) tied, (H', W', C) untied, or None

    Returns y: (N, H', W', C / pieces) with H' = stride * (H - 1) + kH, and the moments as in `conv2d`.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[0]:
        raise ValueError(f"conv_transpose2d: x {x.shape} must be (N, H, W, O) and w {w.shape} must be (O, kH, kW, C)")
    return _run(Options(True, stride, activation, moments, dropout, precision, dtype, partials, deferred), x, w, b)


def _run(options: Options, x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, Any]:
    fn = Convolution(options)
    y = fn(x, w) if b is None else fn(x, w, b)
    return y, fn.extra if options.moments else None
