"""Arithmetic on Tensors of shapes that broadcast; a gradient is summed back to its input's shape.

    add, sub, mul, div, neg, exp, log, power

Plain numbers and arrays on either side are constants.
"""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor
from alikit.backend import array_module


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sums g over the axes along which an array of `shape` was repeated."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
    return g.sum(axis=axes, keepdims=True).reshape(shape)


class Add(Function):
    """x + y."""

    def forward(self, x: Any, y: Any) -> Any:
        self.shapes = (x.shape, y.shape)
        return x + y

    def backward(self, g: Any) -> Any:
        a, b = self.shapes
        return unbroadcast(g, a) if self.needs[0] else None, unbroadcast(g, b) if self.needs[1] else None


class AddConstant(Function):
    """x + c."""

    def __init__(self, c: Any):
        self.c = c

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return x + self.c

    def backward(self, g: Any) -> Any:
        return unbroadcast(g, self.shape)


class SubConstant(AddConstant):
    """x - c."""

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return x - self.c


class Sub(Function):
    """x - y."""

    def forward(self, x: Any, y: Any) -> Any:
        self.shapes = (x.shape, y.shape)
        return x - y

    def backward(self, g: Any) -> Any:
        a, b = self.shapes
        return unbroadcast(g, a) if self.needs[0] else None, -unbroadcast(g, b) if self.needs[1] else None


class Mul(Function):
    """x * y."""

    def forward(self, x: Any, y: Any) -> Any:
        # an operand is saved only if the other's gradient will want it
        self.x = x if self.needs and self.needs[1] else None
        self.y = y if self.needs and self.needs[0] else None
        self.shapes = (x.shape, y.shape)
        return x * y

    def backward(self, g: Any) -> Any:
        a, b = self.shapes
        gx = unbroadcast(g * self.y, a) if self.needs[0] else None
        return gx, unbroadcast(g * self.x, b) if self.needs[1] else None


class Scale(Function):
    """x * c."""

    def __init__(self, c: Any):
        self.c = c

    def forward(self, x: Any) -> Any:
        self.shape = x.shape
        return x * self.c

    def backward(self, g: Any) -> Any:
        return unbroadcast(g * self.c, self.shape)


class Div(Function):
    """x / y."""

    def forward(self, x: Any, y: Any) -> Any:
        q = x / y
        self.y, self.q = y, q
        self.shape = x.shape
        return q

    def backward(self, g: Any) -> Any:
        g = g / self.y
        gx = unbroadcast(g, self.shape) if self.needs[0] else None
        return gx, unbroadcast(-g * self.q, self.y.shape) if self.needs[1] else None


class Exp(Function):
    """e^x."""

    def forward(self, x: Any) -> Any:
        self.y = array_module(x).exp(x)
        return self.y

    def backward(self, g: Any) -> Any:
        return g * self.y


class Log(Function):
    """ln x."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return array_module(x).log(x)

    def backward(self, g: Any) -> Any:
        return g / self.x


class Power(Function):
    """x^p for a number p."""

    def __init__(self, p: float):
        self.p = p

    def forward(self, x: Any) -> Any:
        self.x = x
        return x**self.p

    def backward(self, g: Any) -> Any:
        # x^0 is constant: 0 * x^-1 would be no number at 0
        return g * (self.p * self.x ** (self.p - 1)) if self.p else array_module(g).zeros_like(g)


def add(x: Any, y: Any) -> Tensor:
    """x + y, broadcast; either may be a number or an array."""
    if not isinstance(y, Tensor):
        return AddConstant(y)(x)
    return Add()(x, y) if isinstance(x, Tensor) else AddConstant(x)(y)


def sub(x: Any, y: Any) -> Tensor:
    """x - y, broadcast; either may be a number or an array."""
    if not isinstance(y, Tensor):
        return SubConstant(y)(x)  # not x + (-y): the negative of unsigned bytes wraps around
    return Sub()(x, y) if isinstance(x, Tensor) else AddConstant(x)(neg(y))


def mul(x: Any, y: Any) -> Tensor:
    """x * y, broadcast; either may be a number or an array."""
    if not isinstance(y, Tensor):
        return Scale(y)(x)
    return Mul()(x, y) if isinstance(x, Tensor) else Scale(x)(y)


def div(x: Any, y: Any) -> Tensor:
    """x / y, broadcast; either may be a number or an array."""
    if not isinstance(y, Tensor):
        return Scale(1 / y)(x)
    return Div()(x, y) if isinstance(x, Tensor) else Scale(x)(power(y, -1.0))


def neg(x: Tensor) -> Tensor:
    """-x."""
    return Scale(-1.0)(x)


def exp(x: Tensor) -> Tensor:
    """e^x."""
    return Exp()(x)


def log(x: Tensor) -> Tensor:
    """ln x, for x > 0."""
    return Log()(x)


def power(x: Tensor, p: float) -> Tensor:
    """x^p for a number p."""
    return Power(p)(x)
