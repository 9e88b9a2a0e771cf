"""The paper's layer: (dropout on the input) -> (transposed) convolution -> batch norm or bias -> nonlinearity.

A dense layer is a 1x1 convolution of 1x1 images, which the kernels run as one matrix product. A layer's input dropout
is applied by whoever makes that input, while it is still in cache: the layer before, or, for a network's first layer,
its caller. It is named after the layer that wants it all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.nn.init import init_normal
from alikit.nn.module import Module, Parameter, Pass
from alikit.ops import LINEAR, Activation, Dropout
from alikit.ops._dispatch import kernel

BN_EPS = 1e-4
BN_MOMENTUM = 0.05


class BatchNormLeakyReLU(Module):
    """Batch norm and leaky ReLU with running statistics (method 3.3).

    channels: C;  slope: of the leaky ReLU, 1 for none

    Buffers: running_mean (C,), from 0, and running_std (C,), the standard deviation sqrt(var + eps), from 1. A training
    pass only notes the batch's statistics, mean and 1 / deviation; `update_statistics` folds them in, after the step's
    updates (method 1.6).
    """

    def __init__(self, channels: int, slope: float, dtype: type = np.float32):
        super().__init__()
        self.slope = slope
        self.gamma = Parameter(np.ones(channels, dtype))
        self.beta = Parameter(np.zeros(channels, dtype))
        self.buffers = {"running_mean": np.zeros(channels, dtype), "running_std": np.ones(channels, dtype)}
        self.seen: Sequence[Any] | None = None

    def __call__(
        self, x: Tensor, moments: Any, how: Pass, dropout: Dropout | None = None, *, pointwise: bool = False
    ) -> Tensor:
        """x: (N, H, W, C) -> (N, H, W, C); moments of x if the convolution took them; dropout of the result;
        pointwise: whether it is for a 1x1 layer alone."""
        if not how.training:
            population = self.buffers["running_mean"], self.buffers["running_std"] ** 2
            return ops.batch_norm_leaky_relu(
                x, self.gamma, self.beta, eps=0.0, slope=self.slope, moments=population, frozen=True, dropout=dropout
            )[0]
        y, *self.seen = ops.batch_norm_leaky_relu(
            x,
            self.gamma,
            self.beta,
            eps=BN_EPS,
            slope=self.slope,
            moments=moments,
            dropout=dropout,
            deferred=pointwise and dropout is None,
        )
        return y


def update_statistics(norms: Sequence[BatchNormLeakyReLU]) -> None:
    """running <- 0.95 running + 0.05 batch, of the last training pass of each norm that has had one since."""
    norms = [norm for norm in norms if norm.seen]
    if not norms:
        return
    running = [(norm.buffers["running_mean"], norm.buffers["running_std"]) for norm in norms]
    kernel("update_statistics", running[0][0])([norm.seen for norm in norms], out_running=running, momentum=BN_MOMENTUM)
    for norm in norms:
        norm.seen = None


class Convolution(Module):
    """(Transposed) convolution with bias and activation.

    name       full name in the model: seeds the weight and names the stream of its input's dropout
    dropout    rate on its input, for `input_dropout`
    exact      whether the output stays float32 where activations are of lower precision: logits, codes' parameters
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
        exact: bool = False,
        std: float = 0.01,
        seed: int = 0,
        dtype: type = np.float32,
    ):
        super().__init__()
        (_, _, c_in), (h, w, c_out) = sizes
        self.name, self.stride, self.transposed = name, stride, transposed
        self.pointwise = tuple(kernel) == (1, 1) and stride == 1
        self.activation, self.rate, self.moments, self.exact = activation, dropout, moments, exact
        outer, inner = (c_in, c_out) if transposed else (c_out, c_in)
        self.weight = Parameter(init_normal(f"{name}.weight", (outer, *kernel, inner), std, seed, dtype))
        shape = {"tied": (c_out,), "untied": (h, w, c_out)}
        self.bias = Parameter(np.zeros(shape[bias], dtype)) if bias else None

    def input_dropout(self, how: Pass) -> Dropout | None:
        """What whoever makes this layer's input has to apply to it."""
        return Dropout(self.rate, how.stream(self.name)) if self.rate and how.training else None

    def __call__(
        self, x: Tensor, how: Pass, dropout: Dropout | None = None, *, deferred: bool = False
    ) -> tuple[Tensor, Any]:
        """x: (N, H, W, C) -> y: (N, H', W', C' / pieces), and its moments where asked for, in training.

        dropout   of y;  deferred: whether y and moments are for a batch norm alone (`ops.conv2d`)
        """
        convolve = ops.conv_transpose2d if self.transposed else ops.conv2d
        moments = self.moments and how.training
        return convolve(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            activation=self.activation,
            moments=moments,
            dropout=dropout,
            precision=how.precision,
            dtype=np.float32 if self.exact and how.precision == "bf16" else None,
            partials=how.partials,
            deferred=deferred and moments,
        )


class Layer(Module):
    """One row of the paper's tables: a convolution and, where the row says so, batch norm."""

    def __init__(self, conv: Convolution, norm: BatchNormLeakyReLU | None = None):
        super().__init__()
        self.conv, self.norm = conv, norm

    def __call__(self, x: Tensor, how: Pass, dropout: Dropout | None = None, *, pointwise: bool = False) -> Tensor:
        """x, with its dropout applied -> the layer's output; dropout: of that; pointwise: whether nobody reads it but a
        1x1 layer."""
        if self.norm is None:
            return self.conv(x, how, dropout)[0]
        y, moments = self.conv(x, how, deferred=True)
        return self.norm(y, moments, how, dropout, pointwise=pointwise)


class Sequential(Module):
    """Layers one after another; none at all is the identity."""

    def __init__(self, layers: list[Layer]):
        super().__init__()
        self.layers = layers

    def input_dropout(self, how: Pass) -> Dropout | None:
        """Of the first layer's input."""
        return self.layers[0].conv.input_dropout(how) if self.layers else None

    def __call__(self, x: Tensor, how: Pass, *, dropped: bool = False) -> Tensor:
        """dropped: whether whoever made x has applied `input_dropout` to it."""
        before = None if dropped else self.input_dropout(how)
        if before is not None:
            x = ops.dropout(x, before.rate, before.counters)
        for i, layer in enumerate(self.layers):
            following = self.layers[i + 1].conv if i + 1 < len(self.layers) else None
            if following is None:
                x = layer(x, how)
            else:
                x = layer(x, how, following.input_dropout(how), pointwise=following.pointwise)
        return x
