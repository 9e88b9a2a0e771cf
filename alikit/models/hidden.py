"""What hidden layers say, as features for other methods (method 6.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.models.generative import Generative
from alikit.nn import Layer, Pass


class Examined(NamedTuple):
    """What an encoder makes of N images, float32.

    mu, sigma, z   (N, nz): of q(z | x) = N(mu, sigma^2), and a sample of it
    hidden         (N, F): its last hidden layers before their leaky ReLU, end to end
    """

    mu: np.ndarray
    sigma: np.ndarray
    z: np.ndarray
    hidden: np.ndarray


def examine(model: Generative, x: Tensor, how: Pass, last: int) -> Examined:
    """All that one pass through a Gaussian encoder gives, with `last` hidden layers; z is that of `model.encode`."""
    layers, nz = model.encoder.layers, model.spec.nz
    kept, y = walk(layers[:-1], x, how, last)
    codes = layers[-1](y, how)
    z = ops.gaussian_sample(codes, how.stream("eps"))
    rows = codes.data.reshape(len(x), 2 * nz)
    return Examined(rows[:, :nz], np.exp(rows[:, nz:]), z.data.reshape(len(x), nz), np.concatenate(kept, axis=1))


def walk(layers: list[Layer], x: Tensor, how: Pass, last: int) -> tuple[list[np.ndarray], Tensor]:
    """Runs layers: what the `last` ones give before their leaky ReLU, (N, features) each, and the output.

    The leaky ReLU is inverted, y / slope where y is negative: exact to float32's rounding, and the layers stay whole.
    """
    kept = []
    for place, layer in enumerate(layers):
        x = layer(x, how)
        if place >= len(layers) - last:
            slope = _leak(layer)
            y = x.data if slope == 1.0 else np.where(x.data < 0, x.data / np.float32(slope), x.data)
            kept.append(y.reshape(len(y), -1))
    return kept, x


def _leak(layer: Layer) -> float:
    """The slope of a layer's leaky ReLU; 1 where it has none, or one that cannot be inverted."""
    if layer.norm is not None:
        return layer.norm.slope or 1.0
    activation = layer.conv.activation
    return activation.value or 1.0 if activation.name == "leaky_relu" else 1.0
