"""Convolution and transposed convolution with everything that rides on them: bias, activation, dropout, moments.

    y = dropout(activation(conv(x, w) + b))         moments: mean and variance of y, on the way to batch norm

The transposed layer is the adjoint of the convolution that owns its weight (method 2.1), so that one Function serves
both: forward of one is the input gradient of the other. Numbers come from `conv2d`, `conv2d_input_grad`,
`conv2d_weight_grad` and `bias_activation_grad`. Saved: x, w, and y where something follows the product.
"""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor
from alikit.backend import array_module
from alikit.ops._dispatch import LINEAR, Activation, Dropout, conv_input_size, kernel


class Convolution(Function):
    """Inputs x, w and, optionally, b."""

    weighs_rows = True

    def __init__(self, stride: int, transposed: bool, activation: Activation, moments: bool, dropout: Dropout | None):
        self.stride, self.transposed, self.activation = stride, transposed, activation
        self.moments, self.dropout = moments, dropout

    def forward(self, x: Any, w: Any, b: Any = None) -> Any:
        options = {
            "stride": self.stride,
            "activation": self.activation,
            "moments": self.moments,
            "dropout": self.dropout,
        }
        if self.transposed:
            size = tuple(conv_input_size(n, k, self.stride) for n, k in zip(x.shape[1:3], w.shape[1:3], strict=True))
            y, self.extra = kernel("conv2d_input_grad", x)(x, w, size, b, **options)
        else:
            y, self.extra = kernel("conv2d", x)(x, w, b, **options)
        self.x, self.w = x, w
        self.bias_shape = None if b is None else b.shape
        self.y = y if self.activation != LINEAR or self.dropout else None
        return y

    def backward(self, gy: Any) -> Any:
        need_x, need_w, need_b = (*self.needs, False)[:3]
        gb = None
        if self.y is not None or need_b:
            gy, gb = kernel("bias_activation_grad", gy)(
                gy,
                self.y if self.y is not None else gy,
                self.activation,
                winner=self.extra if self.activation.name == "maxout" else None,
                bias_shape=self.bias_shape if need_b and self.row_weights is None else None,
                dropout=self.dropout,
            )
        gx = self._input_grad(gy, need_x) if need_x else None
        if self.row_weights is not None:
            gy = kernel("scale_rows", gy)(gy, self.row_weights)
            if need_b:
                _, gb = kernel("bias_activation_grad", gy)(gy, gy, LINEAR, bias_shape=self.bias_shape)
        return (gx, self._weight_grad(gy) if need_w else None, gb)[: len(self.needs)]

    def _input_grad(self, gy: Any, rows: bool | slice) -> Any:
        if self.transposed:
            return kernel("conv2d", gy)(gy, self.w, stride=self.stride)[0]
        size = self.x.shape[1:3]
        input_grad = kernel("conv2d_input_grad", gy)
        if rows is True:
            return input_grad(gy, self.w, size, stride=self.stride)[0]
        gx = array_module(gy).zeros(self.x.shape, gy.dtype)
        gx[rows] = input_grad(gy[rows], self.w, size, stride=self.stride)[0]
        return gx

    def _weight_grad(self, gy: Any) -> Any:
        weight_grad = kernel("conv2d_weight_grad", gy)
        if self.transposed:
            return weight_grad(gy, self.x, self.w.shape[1:3], stride=self.stride)
        return weight_grad(self.x, gy, self.w.shape[1:3], stride=self.stride)


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
) -> tuple[Tensor, Any]:
    """Valid convolution with its epilogue (method 2.1).

    x        (N, H, W, C);  w: (O, kH, kW, C);  b: (O,) tied, (Ho, Wo, O) untied, or None
    dropout  of y, element by element; not together with moments

    Returns y: (N, Ho, Wo, O / pieces) and, if `moments`, (mean, biased variance) of y as arrays, else None.
    """
    return _run(Convolution(stride, False, activation, moments, dropout), x, w, b)


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    stride: int = 1,
    activation: Activation = LINEAR,
    moments: bool = False,
    dropout: Dropout | None = None,
) -> tuple[Tensor, Any]:
    """The adjoint of the convolution with weight w, with the same epilogue.

    x   (N, H, W, O);  w: (O, kH, kW, C);  b: (C,) tied, (H', W', C) untied, or None

    Returns y: (N, H', W', C / pieces) with H' = stride * (H - 1) + kH, and the moments as in `conv2d`.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[0]:
        raise ValueError(f"conv_transpose2d: x {x.shape} must be (N, H, W, O) and w {w.shape} must be (O, kH, kW, C)")
    return _run(Convolution(stride, True, activation, moments, dropout), x, w, b)


def _run(fn: Convolution, x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, Any]:
    y = fn(x, w) if b is None else fn(x, w, b)
    return y, fn.extra if fn.moments else None
