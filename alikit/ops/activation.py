"""Nonlinearities, bias and dropout on their own. Inside a layer they ride on the convolution: see `ops.conv`."""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor
from alikit.ops._dispatch import LINEAR, Activation, Counters, Dropout, kernel


class Activate(Function):
    """y = activation(x); backward from y, or from the winners of maxout."""

    stacks = True

    def __init__(self, activation: Activation):
        self.activation = activation

    def forward(self, x: Any) -> Any:
        self.y, self.winner = kernel("apply_activation", x)(x, None, self.activation)
        return self.y

    def backward(self, gy: Any) -> Any:
        gx, _ = kernel("bias_activation_grad", gy)(gy, self.y, self.activation, winner=self.winner)
        return gx


class DropoutFunction(Function):
    """The same mask forward and backward: it follows from its counters."""

    stacks = True

    def __init__(self, dropout: Dropout):
        self.dropout = dropout

    def forward(self, x: Any) -> Any:
        self.y = kernel("dropout", x)(x, self.dropout)
        return self.y

    def backward(self, gy: Any) -> Any:
        if len(gy) == len(self.y):
            return kernel("dropout", gy)(gy, self.dropout)
        return kernel("bias_activation_grad", gy)(gy, self.y, LINEAR, dropout=self.dropout)[0]


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """x where x > 0, slope * x elsewhere (at exactly 0 the derivative is `slope`).

    x      (N, ..., C);  slope: in [0, 1]
    """
    return Activate(Activation("leaky_relu", slope))(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), x: (N, ..., C)."""
    return Activate(Activation("sigmoid"))(x)


def maxout(x: Tensor, pieces: int) -> Tensor:
    """The maximum over `pieces` adjacent channels: (N, ..., C) -> (N, ..., C / pieces); the first wins a tie."""
    return Activate(Activation("maxout", pieces))(x)


def dropout(x: Tensor, rate: float, counters: Counters) -> Tensor:
    """Drops elements with probability `rate` and scales the others by 1 / (1 - rate); x of any shape."""
    return DropoutFunction(Dropout(rate, counters))(x)
