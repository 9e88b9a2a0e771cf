"""The paper's layer: (dropout on the input) -> (transposed) convolution -> batch norm or bias -> nonlinearity.

A dense layer is a 1x1 convolution of 1x1 images, which the kernels run as one matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.nn.init import init_normal
from alikit.nn.module import Module, Parameter, Pass
from alikit.ops import LINEAR, Activation, Dropout

BN_EPS = 1e-4
BN_MOMENTUM = 0.05


class BatchNormLeakyReLU(Module):
    """Batch norm and leaky ReLU with running statistics (method 3.3).

    channels: C;  slope: of the leaky ReLU, 1 for none

    Buffers: running_mean (C,), from 0, and running_std (C,), the standard deviation sqrt(var + eps), from 1. A training
    pass only notes the batch's statistics; `update_statistics` folds them in, after the step's updates (method 1.6).
    """

    def __init__(self, channels: int, slope: float, dtype: type = np.float32):
        super().__init__()
        self.slope = slope
        self.gamma = Parameter(np.ones(channels, dtype))
        self.beta = Parameter(np.zeros(channels, dtype))
        self.buffers = {"running_mean": np.zeros(channels, dtype), "running_std": np.ones(channels, dtype)}
        self.seen: tuple[Any, Any] | None = None

    def __call__(self, x: Tensor, moments: Any, how: Pass) -> Tensor:
        """x: (N, H, W, C) -> (N, H, W, C); moments of x if the convolution took them."""
        if not how.training:
            population = self.buffers["running_mean"], self.buffers["running_std"] ** 2
            return ops.batch_norm_leaky_relu(
                x, self.gamma, self.beta, eps=0.0, slope=self.slope, moments=population, frozen=True
            )[0]
        y, mean, inv_std = ops.batch_norm_leaky_relu(
            x, self.gamma, self.beta, eps=BN_EPS, slope=self.slope, moments=moments
        )
        self.seen = mean, 1 / inv_std
        return y

    def update_statistics(self) -> None:
        """running <- 0.95 running + 0.05 batch, of the last training pass."""
        if self.seen is None:
            return
        for name, value in zip(("running_mean", "running_std"), self.seen, strict=True):
            running = self.buffers[name]
            running += BN_MOMENTUM * (value - running)
        self.seen = None


class Convolution(Module):
    """(Transposed) convolution with input dropout, bias and activation.

    name       full name in the model: seeds the weight and names the dropout's stream
    sizes      (input, output) images as (H, W, C); C of the output before maxout
    bias       None, "tied" (one for each map) or "untied" (one for each map and position)
    """

    def __init__(
        self,
        name: str,
        sizes: tuple[tuple[int, int, int], tuple[int, int, int]],
        kernel: tuple[int, int],
        stride: int,
        *,
        transposed: bool = False,
        bias: str | None = None,
        activation: Activation = LINEAR,
        dropout: float = 0.0,
        moments: bool = False,
        std: float = 0.01,
        seed: int = 0,
        dtype: type = np.float32,
    ):
        super().__init__()
        (_, _, c_in), (h, w, c_out) = sizes
        if transposed and dropout:
            raise ValueError(f"{name}: a transposed convolution takes no dropout on its input")
        self.name, self.stride, self.transposed = name, stride, transposed
        self.activation, self.rate, self.moments = activation, dropout, moments
        outer, inner = (c_in, c_out) if transposed else (c_out, c_in)
        self.weight = Parameter(init_normal(f"{name}.weight", (outer, *kernel, inner), std, seed, dtype))
        shape = {"tied": (c_out,), "untied": (h, w, c_out)}
        self.bias = Parameter(np.zeros(shape[bias], dtype)) if bias else None

    def __call__(self, x: Tensor, how: Pass) -> tuple[Tensor, Any]:
        """x: (N, H, W, C) -> y: (N, H', W', C' / pieces), and its moments where asked for, in training."""
        moments = self.moments and how.training
        if self.transposed:
            return ops.conv_transpose2d(
                x, self.weight, self.bias, stride=self.stride, activation=self.activation, moments=moments
            )
        dropout = Dropout(self.rate, how.stream(self.name)) if self.rate and how.training else None
        return ops.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            activation=self.activation,
            moments=moments,
            dropout=dropout,
        )


class Layer(Module):
    """One row of the paper's tables: a convolution and, where the row says so, batch norm."""

    def __init__(self, conv: Convolution, norm: BatchNormLeakyReLU | None = None):
        super().__init__()
        self.conv, self.norm = conv, norm

    def __call__(self, x: Tensor, how: Pass) -> Tensor:
        y, moments = self.conv(x, how)
        return y if self.norm is None else self.norm(y, moments, how)


class Sequential(Module):
    """Layers one after another; none at all is the identity."""

    def __init__(self, layers: list[Layer]):
        super().__init__()
        self.layers = layers

    def __call__(self, x: Tensor, how: Pass) -> Tensor:
        for layer in self.layers:
            x = layer(x, how)
        return x
