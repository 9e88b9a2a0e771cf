"""Rearrangements: what moves numbers without changing them, and the adjoint that moves them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alikit.autograd import Function, Tensor
from alikit.backend import array_module


class Reshape(Function):
    """The same numbers under another shape."""

    def __init__(self, shape: tuple):
        self.to = shape

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return x.reshape(self.to)

    def backward(self, g: Any) -> Any:
        return g.reshape(self.shape)


class Transpose(Function):
    """Axes in another order, as a contiguous array."""

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes

    def forward(self, x: Any) -> Any:
        return array_module(x).ascontiguousarray(x.transpose(self.axes))

    def backward(self, g: Any) -> Any:
        back = tuple(int(i) for i in np.argsort([axis % g.ndim for axis in self.axes]))
        return array_module(g).ascontiguousarray(g.transpose(back))


class Concat(Function):
    """Arrays end to end along one axis."""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, *xs: Any) -> Any:
        self.sizes = [x.shape[self.axis] for x in xs]
        return array_module(xs[0]).concatenate(xs, axis=self.axis)

    def backward(self, g: Any) -> Any:
        parts, start = [], 0
        for size, need in zip(self.sizes, self.needs, strict=True):
            where = [slice(None)] * g.ndim
            where[self.axis] = slice(start, start + size)
            parts.append(array_module(g).ascontiguousarray(g[tuple(where)]) if need else None)
            start += size
        return tuple(parts)


class GetItem(Function):
    """x[key] for slices, integers and index arrays."""

    def __init__(self, key: Any):
        self.key = key

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        y = x[self.key]
        return array_module(x).ascontiguousarray(y).reshape(y.shape)

    def backward(self, g: Any) -> Any:
        xp = array_module(g)
        gx = xp.zeros(self.shape, g.dtype)
        keys = self.key if isinstance(self.key, tuple) else (self.key,)
        if all(k is None or k is Ellipsis or isinstance(k, int | slice) for k in keys):
            gx[self.key] = g
        else:
            xp.add.at(gx, self.key, g)  # an index array may name an element twice
        return gx


def reshape(x: Tensor, *shape: int | tuple[int, ...]) -> Tensor:
    """x under another shape of as many elements, given as sizes or as one tuple; one size may be -1."""
    return Reshape(shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape)(x)


def transpose(x: Tensor, *axes: int) -> Tensor:
    """Axes in the order given; reversed without any."""
    return Transpose(axes or tuple(reversed(range(x.ndim))))(x)


def concat(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of equal shape, but for `axis`, end to end."""
    return Concat(axis)(*xs)


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key]."""
    return GetItem(key)(x)
