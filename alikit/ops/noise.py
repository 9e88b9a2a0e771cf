"""Normal noise added to a Tensor: a constant to every gradient."""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor, Walk
from alikit.ops._dispatch import Counters, kernel


class AddNoise(Function):
    """Input: x. Its gradient is the output's, whichever rows of it and however many cotangents are wanted."""

    stacks = True

    def __init__(self, deviation: Any, counters: Counters):
        self.deviation, self.counters = deviation, counters

    def forward(self, x: Any) -> Any:
        y = kernel("normal", x)(x.shape, self.counters, x.dtype)
        y *= self.deviation if isinstance(self.deviation, (int, float)) else self.deviation.astype(y.dtype)
        y += x  # in place: on a device y's pixels lie as kernels like to read them
        return y

    def rows_read(self, walk: Walk) -> bool | slice:
        edge = self.edges[0]
        return edge in walk.wanted or edge[0].rows_read(walk)

    def backward(self, gy: Any) -> Any:
        return gy


def add_noise(x: Tensor, deviation: Any, counters: Counters) -> Tensor:
    """x + deviation * eps, eps ~ N(0, 1) by counters.

    x          any shape, float32, float64 or, on a device, bfloat16
    deviation  a number, or an array () on x's device
    """
    return AddNoise(deviation, counters)(x)
