"""Reparameterised Gaussian sampling: z = mu + exp(log_sigma) * eps (method 1.4). eps is drawn twice, never stored."""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor
from alikit.ops._dispatch import Counters, kernel


class GaussianSample(Function):
    """Input: mu and log sigma side by side along the last axis."""

    def __init__(self, counters: Counters, dtype: Any = None):
        self.counters, self.dtype = counters, dtype

    def forward(self, params: Any) -> Any:
        self.params = params
        return kernel("gaussian_sample", params)(params, self.counters, dtype=self.dtype)

    def backward(self, gz: Any) -> Any:
        return kernel("gaussian_sample_grad", gz)(gz, self.params, self.counters)


def gaussian_sample(params: Tensor, counters: Counters, dtype: Any = None) -> Tensor:
    """A sample of N(mu, sigma^2) for each row, differentiable in mu and log sigma.

    params    (..., 2 nz): mu, then log sigma;  counters: the stream of eps;  dtype: of z, where it differs

    Returns z: (..., nz).
    """
    return GaussianSample(counters, dtype)(params)
