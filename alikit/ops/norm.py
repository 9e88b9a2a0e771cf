"""Batch norm fused with leaky ReLU and dropout, over all axes but the last.

    y = dropout(leaky_relu(gamma * (x - mean) * inv_std + beta))

In training the statistics are those of the batch, and the gradient runs through them; in evaluation they are constants
(method 3.3). Saved: x, y, gamma, beta, mean, inv_std.
"""

from __future__ import annotations

from typing import Any

from alikit.autograd import Folded, Function, Tensor
from alikit.ops._dispatch import Activation, Dropout, NormState, kernel


class BatchNormLeakyReLU(Function):
    """Inputs x, gamma, beta; leaves mean and inv_std of the batch on itself."""

    def __init__(
        self,
        eps: float,
        slope: float,
        moments: Any,
        frozen: bool,
        dropout: Dropout | None = None,
        deferred: bool = False,
    ):
        self.eps, self.slope, self.moments, self.frozen, self.dropout = eps, slope, moments, frozen, dropout
        self.deferred = deferred
        self.stacks = not frozen

    def forward(self, x: Any, gamma: Any, beta: Any) -> Any:
        y, self.mean, self.inv_std = kernel("batch_norm_leaky_relu", x)(
            x,
            gamma,
            beta,
            self.moments,
            eps=self.eps,
            slope=self.slope,
            dropout=self.dropout,
            deferred=self.deferred,
        )
        self.x, self.gamma, self.beta = x, gamma, beta
        self.y = y  # the next layer saves it as its input anyway
        return y

    def fold(self) -> NormState | None:
        """Dropout and leaky ReLU, and the sums over g that the statistics' gradient needs."""
        if self.frozen:
            return None
        return NormState(self.x, self.gamma, self.beta, self.mean, self.inv_std, self.slope, self.dropout)

    def backward(self, gy: Any) -> Any:
        if self.frozen:
            return self._frozen_backward(gy)
        g, sums = gy if isinstance(gy, Folded) else (gy, None)
        saved = self.x, self.gamma, self.beta, self.mean, self.inv_std, self.y
        return kernel("batch_norm_leaky_relu_grad", g)(g, *saved, slope=self.slope, dropout=self.dropout, sums=sums)

    def _frozen_backward(self, gy: Any) -> Any:
        activation = Activation("leaky_relu", self.slope)
        g, gbeta = kernel("bias_activation_grad", gy)(
            gy, self.y, activation, bias_shape=self.beta.shape, dropout=self.dropout
        )
        xhat = (self.x - self.mean) * self.inv_std
        return g * (self.gamma * self.inv_std), (g * xhat).sum(axis=tuple(range(g.ndim - 1))), gbeta


def batch_norm_leaky_relu(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    eps: float,
    slope: float,
    moments: Any = None,
    frozen: bool = False,
    dropout: Dropout | None = None,
    deferred: bool = False,
) -> tuple[Tensor, Any, Any]:
    """Normalises each channel, scales and shifts it, and applies leaky ReLU and dropout.

    x        (N, ..., C);  gamma, beta: (C,)
    slope    in [0, 1]; 1 leaves the normalised value; at exactly 0 the derivative is `slope`
    moments  (mean, biased variance) of x, where known; with `frozen` they are constants (population statistics)
    deferred  y is for a 1x1 convolution alone, which may compute it itself as it reads x; not with dropout or `frozen`

    Returns y: (N, ..., C), mean: (C,) and inv_std: (C,), the latter two as arrays for the running statistics.
    """
    if frozen and not isinstance(moments, tuple):
        raise ValueError("batch_norm_leaky_relu: frozen statistics must be given as moments, a mean and a variance")
    fn = BatchNormLeakyReLU(eps, slope, moments, frozen, dropout, deferred)
    y = fn(x, gamma, beta)
    return y, fn.mean, fn.inv_std
