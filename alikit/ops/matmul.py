"""Matrix product of two-dimensional Tensors:  y = a @ b,  ga = gy b^T,  gb = a^T gy."""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor


class MatMul(Function):
    """a: (M, K) @ b: (K, N)."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a: Any = a if self.needs and self.needs[1] else None
        self.b: Any = b if self.needs and self.needs[0] else None
        return a @ b

    def backward(self, gy: Any) -> Any:
        return gy @ self.b.T if self.needs[0] else None, self.a.T @ gy if self.needs[1] else None


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a: (M, K) @ b: (K, N) -> (M, N); ValueError for other shapes."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul: wanted (M, K) @ (K, N), found {a.shape} @ {b.shape}")
    return MatMul()(a, b)
