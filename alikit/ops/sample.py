"""Reparameterised Gaussian sampling: z = mu + exp(log_sigma) * eps (method 1.4). eps is drawn twice, never stored."""

from __future__ import annotations

from typing import Any

from alikit.autograd import Function, Tensor
from alikit.ops._dispatch import Counters, kernel


class GaussianSample(Function):
    """Input: mu and log sigma side by side along the last axis."""

    def __init__(self, counters: Counters):
        self.counters = counters

    def forward(self, params: Any) -> Any:
        self.params = params
        return kernel("gaussian_sample", params)(params, self.counters)

    def backward(self, gz: Any) -> Any:
        return kernel("gaussian_sample_grad", gz)(gz, self.params, self.counters)


def gaussian_sample(params: Tensor, counters: Counters) -> Tensor:
    """A sample of N(mu, sigma^2) for each row, differentiable in mu and log sigma.

    params    (..., 2 nz): mu, then log sigma;  counters: the stream of eps.  Returns z: (..., nz).
    """
    return GaussianSample(counters)(params)
