"""What both twins share: the small records that kernels take and give, and output-size arithmetic."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = Any  # numpy.ndarray, cupy.ndarray or device.DeviceArray


def array_module(x: Array) -> Any:
    """The library that holds x: numpy, or cupy where x is one of its arrays; a DeviceArray brings its own."""
    own = getattr(x, "array_module", None)
    if own is not None:
        return own
    return np if isinstance(x, np.ndarray | np.generic) else sys.modules["cupy"]


class Counters(NamedTuple):
    """Names one stream of random numbers: (seed, step, stream); the element's position completes the counter.

    The generator is Philox4x64-10 (Salmon et al. 2011) with key (seed, 0) and counter (block, 0, step, stream).
    The same counters give the same numbers on every machine, after a resume and in a backward pass. `step` may be the
    clock, an int64 array [seed, step, updates] where the numbers are wanted, from which both are then read.
    """

    seed: int
    step: Any
    stream: int

    def read(self) -> Counters:
        """All three as integers; of a clock in NumPy's memory, as it stands now."""
        seed, step = self.step[:2] if isinstance(self.step, np.ndarray) else self[:2]
        return Counters(int(seed), int(step), int(self.stream))  # a NumPy integer would not grow


class Dropout(NamedTuple):
    """Bernoulli noise: an element is dropped with probability `rate`, others grow by 1 / (1 - rate).

    Applied by whoever makes a layer's input. An element's number is its place in C order in that array; where
    cotangents are stacked, each of them meets the same mask.
    """

    rate: float
    counters: Counters


class NormState(NamedTuple):
    """What a batch norm with leaky ReLU (and dropout) kept of its forward pass: enough to pass a gradient through it.

    x        (N, ..., C) its input;  gamma, beta, mean, inv_std: (C,)
    slope    of the leaky ReLU;  dropout: what followed it, or None

    Without a norm, the four None, x is what leaky ReLU and dropout gave: the sign of a kept number is that of a. Of the
    sums over a gradient passed through there is then but one, the gradient of the bias: (K, 1, C) for (K, 2, C).
    """

    x: Array
    gamma: Array | None = None
    beta: Array | None = None
    mean: Array | None = None
    inv_std: Array | None = None
    slope: float = 1.0
    dropout: Dropout | None = None


@dataclass(frozen=True)
class Normalised:
    """What a batch norm with leaky ReLU makes of x, to be computed by whoever reads it: a 1x1 layer on a GPU.

    x             (N, H, W, C) the norm's input;  gamma, beta, mean, var: (C,), the biased variance
    inv_std       (C,) 1 / sqrt(var + eps), which the first reader writes
    eps, slope    of the norm and of the leaky ReLU
    """

    x: Array
    gamma: Array
    beta: Array
    mean: Array
    var: Array
    inv_std: Array
    eps: float
    slope: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def ndim(self) -> int:
        return self.x.ndim

    @property
    def dtype(self) -> Any:
        return self.x.dtype

    def __len__(self) -> int:
        return len(self.x)

    @property
    def array_module(self) -> Any:
        """x's."""
        return array_module(self.x)


class AdversarialLosses(NamedTuple):
    """Both losses of a batch of logits, and both gradients.

    losses    (4,): L_D, L_G, and D's mean probability of "data" on data pairs and on sample pairs
    glogits   (2, *logits' shape): the gradient of L_D, then that of L_G
    """

    losses: Array
    glogits: Array

    @property
    def loss_d(self) -> Array:
        """L_D, a view without dimensions."""
        return self.losses[0, ...]

    @property
    def loss_g(self) -> Array:
        """L_G, a view without dimensions."""
        return self.losses[1, ...]

    @property
    def prob_data(self) -> Array:
        """D's mean probability of "data" on data pairs, a view without dimensions."""
        return self.losses[2, ...]

    @property
    def prob_sample(self) -> Array:
        """D's mean probability of "data" on sample pairs, a view without dimensions."""
        return self.losses[3, ...]

    @property
    def glogits_d(self) -> Array:
        """The gradient of L_D, like the logits."""
        return self.glogits[0]

    @property
    def glogits_g(self) -> Array:
        """The gradient of L_G, like the logits."""
        return self.glogits[1]


class ClassLosses(NamedTuple):
    """Losses of a batch of rows of K logits, some of them with a class, and both gradients (method 1.7).

    losses    (6,): L_D, L_G, the labelled pairs' cross-entropy, D's mean probability of "data" on data pairs and on
              sample pairs, and the share of labelled pairs whose class has the largest logit
    glogits   (2, *logits' shape): the gradient of L_D, then that of L_G; each is weights times units
    units     like the logits: the gradient of a row's own number, Z or the cross-entropy
    weights   (2, N, 1, ...): the gradients of L_D, then of L_G, for the rows' own numbers
    """

    losses: Array
    glogits: Array
    units: Array
    weights: Array

    @property
    def loss_d(self) -> Array:
        """L_D, a view without dimensions."""
        return self.losses[0, ...]

    @property
    def loss_g(self) -> Array:
        """L_G, a view without dimensions."""
        return self.losses[1, ...]


class Activation(NamedTuple):
    """The nonlinearity behind a convolution.

    name   "linear" | "leaky_relu" (value: slope in [0, 1]) | "sigmoid" | "maxout" (value: pieces, adjacent channels)
    """

    name: str
    value: float = 0.0

    @property
    def pieces(self) -> int:
        """Channels that make one output channel: `value` for maxout, else 1."""
        return int(self.value) if self.name == "maxout" else 1


LINEAR = Activation("linear")


def conv_output_size(size: int, kernel: int, stride: int) -> int:
    """Positions of a valid (unpadded) convolution: (size - kernel) // stride + 1; ValueError where none fits."""
    if kernel > size:
        raise ValueError(f"a kernel of {kernel} does not fit an input of {size}")
    return (size - kernel) // stride + 1


def conv_input_size(size: int, kernel: int, stride: int) -> int:
    """Size of a transposed convolution's output: stride * (size - 1) + kernel."""
    return stride * (size - 1) + kernel
