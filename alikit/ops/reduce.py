"""Sums and means over axes."""

from __future__ import annotations

import math
from typing import Any

from alikit.autograd import Function, Tensor
from alikit.backend import array_module

Axes = int | tuple[int, ...] | None


class Sum(Function):
    """y = factor * sum of x over `axes`."""

    def __init__(self, axes: Axes, keepdims: bool, factor: float = 1.0):
        self.axes, self.keepdims, self.factor = axes, keepdims, factor

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        y = x.sum(axis=self.axes, keepdims=self.keepdims)
        return y if self.factor == 1.0 else y * self.factor

    def backward(self, g: Any) -> Any:
        xp = array_module(g)
        if not self.keepdims and self.axes is not None:
            g = xp.expand_dims(g, self.axes)
        return xp.broadcast_to(g * self.factor, self.shape).copy()


def sum(x: Tensor, axes: Axes = None, keepdims: bool = False) -> Tensor:
    """Sum over one axis, several, or all."""
    return Sum(axes, keepdims)(x)


def mean(x: Tensor, axes: Axes = None, keepdims: bool = False) -> Tensor:
    """Mean over one axis, several, or all."""
    picked = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    return Sum(axes, keepdims, 1.0 / math.prod(x.shape[a] for a in picked))(x)
