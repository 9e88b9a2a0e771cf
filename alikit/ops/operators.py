"""Operators of Tensor, all in one list; attached here so that the engine needs to know no mathematics."""

from __future__ import annotations

from alikit.autograd import Tensor
from alikit.ops import elementwise, matmul, reduce, shape

OPERATORS = {
    "__add__": elementwise.add,
    "__radd__": elementwise.add,
    "__sub__": elementwise.sub,
    "__rsub__": lambda x, y: elementwise.sub(y, x),
    "__mul__": elementwise.mul,
    "__rmul__": elementwise.mul,
    "__truediv__": elementwise.div,
    "__rtruediv__": lambda x, y: elementwise.div(y, x),
    "__neg__": elementwise.neg,
    "__pow__": elementwise.power,
    "__matmul__": matmul.matmul,
    "__getitem__": shape.getitem,
    "reshape": shape.reshape,
    "transpose": shape.transpose,
    "sum": reduce.sum,
    "mean": reduce.mean,
}

for _name, _operator in OPERATORS.items():
    setattr(Tensor, _name, _operator)
# an array on the left must not loop over its elements, but leave the operation to us
Tensor.__array_ufunc__ = None  # type: ignore[attr-defined]
