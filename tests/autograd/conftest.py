"""Functions of no mathematical interest whose gradients are known at once, and which tell what was asked of them."""

from typing import Any

import numpy as np
import pytest

from alikit.autograd import Function, Tensor


class Weighted(Function):
    """y = sum_i c_i x_i. Logs (name, needs) whenever its backward runs."""

    def __init__(self, name: str, log: list, coefficients: tuple[float, ...]):
        self.name, self.log, self.coefficients = name, log, coefficients

    def forward(self, *xs: Any) -> Any:
        return sum((c * x for c, x in zip(self.coefficients, xs, strict=True)), np.zeros_like(xs[0]))

    def backward(self, gy: Any) -> Any:
        self.log.append((self.name, self.needs))
        return tuple(c * gy if need else None for c, need in zip(self.coefficients, self.needs, strict=True))


class Graph:
    """graph("name", (x, 2.0), (y, 3.0)) is 2 x + 3 y; graph.log tells which backwards ran, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple[bool, ...]]] = []

    def __call__(self, name: str, *terms: tuple[Tensor, float]) -> Tensor:
        return Weighted(name, self.log, tuple(c for _, c in terms))(*(x for x, _ in terms))

    def ran(self) -> list[str]:
        return [name for name, _ in self.log]


@pytest.fixture
def graph() -> Graph:
    return Graph()
