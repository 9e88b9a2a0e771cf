"""Calls of the convolutions to check: a layer's forward pass with all that rides on it, and its backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.gpu.case import Call, numbers, positive, twin
from bench.gpu.compare import Act, Deferred, Low, Step, storage
from bench.gpu.layers import Layer
from bench.kernels import Shape

SEED, STEP = 7, 3
#: what no model has: odd sizes, prime channels, kernels wider than high images, stride 2 with a remainder of channels
ODD = (
    Shape("conv", 3, 7, 5, 3, 1, 7, 5),
    Shape("conv", 2, 11, 13, 5, 2, 17, 4),
    Shape("conv", 5, 4, 19, 4, 1, 23, 1),
    Shape("conv", 7, 1, 37, 1, 1, 41, 1),
    Shape("tconv", 3, 4, 11, 4, 2, 5, 10),
    Shape("tconv", 2, 1, 29, 4, 1, 3, 4),
    Shape("tconv", 2, 5, 3, 2, 1, 67, 6),
    Shape("conv", 1, 33, 3, 7, 2, 65, 14),
)


def dropout(rate: float, stream: int, clock: bool) -> Any:
    """Dropout from a clock on the device, or from counters."""
    from alikit.kernels.arrays import Counters, Dropout

    step: Any = Step(SEED, STEP) if clock else STEP
    return Dropout(rate, Counters(SEED, step, stream)) if rate else None


def plain(shape: Shape) -> Layer:
    """A layer of that shape with a leaky ReLU, or with a norm where it has many channels."""
    from alikit.kernels.arrays import Activation

    norm = shape.maps > 16
    return Layer(shape, Activation("leaky_relu", 0.1), None if norm else "tied", norm, 0.0, 0.1, 0.2, False, 2)


def calls(layer: Layer, precision: str, alone: bool) -> Iterator[Call]:
    """Forward, both gradients in one launch, and (`alone`) each gradient by itself."""
    yield forward(layer, precision)
    yield backward(layer, precision)
    if not alone:
        return
    if layer.shape.op == "conv":
        yield input_grad(layer, precision)
    yield weight_grad(layer, precision)


def _given(layer: Layer) -> dict[str, np.ndarray]:
    s = layer.shape
    x, w = numbers(f"{layer.title} x w", (s.n, s.size, s.size, s.channels), s.weight)
    (gy,) = numbers(f"{layer.title} gy", (layer.cotangents * s.n, s.out, s.out, s.maps))
    fan = s.channels * (s.kernel**2 if s.op == "conv" else max(1.0, s.kernel**2 / s.stride**2))
    return {"x": x, "w": w / np.sqrt(fan).astype(np.float32), "gy": gy}


def weight(w: np.ndarray, precision: str) -> Low:
    """In bf16 a step multiplies by rounded copies in padded pixels, else by the optimiser's own dense array."""
    return Low(w, padded=precision == "bf16")


def forward(layer: Layer, precision: str) -> Call:
    """With bias, activation, dropout or moments."""
    s, given = layer.shape, _given(layer)
    w = weight(given["w"], precision)
    bias = {"tied": (s.maps,), "untied": (s.out, s.out, s.maps), None: None}[layer.bias]
    more: dict[str, Any] = {"stride": s.stride, "precision": precision, "moments": layer.norm}
    if bias is not None:
        more["bias"] = numbers(f"{layer.title} bias", bias)[0]
    if not layer.norm:
        more |= {"activation": layer.activation, "dropout": dropout(layer.dropout, 5, True)}
    if layer.last:
        more["dtype"] = np.float32
    through, made = before(layer, precision)
    x = Deferred(through, made) if layer.deferred and made is not None else Act(given["x"])
    if s.op == "tconv":
        more["size"] = (s.out, s.out)
        return Call("conv2d_input_grad", layer.title, {"gy": x, "w": w, **more}, precision)
    return Call("conv2d", layer.title, {"x": x, "w": w, **more}, precision)


def before(layer: Layer, precision: str) -> tuple[Any, np.ndarray | None]:
    """The batch norm or activation that made the layer's input, and that input; (None, None) where none did.

    The input is computed from what the norm's input is when it is stored, so that signs agree with it.
    """
    from alikit.kernels.arrays import NormState

    if layer.before is None:
        return None, None
    s, c = layer.shape, layer.shape.channels
    (x,) = numbers(f"{layer.title} before", (s.n, s.size, s.size, c))
    drop = dropout(layer.rate, 6, False)
    if not layer.normed:
        y = x if drop is None else twin("dropout", "cpu")(x, drop)
        return NormState(Act(y), slope=layer.before, dropout=drop), y
    gamma, (beta, mean) = positive(f"{layer.title} gamma", c), numbers(f"{layer.title} beta", (c,), (c,))
    inv_std = np.abs(positive(f"{layer.title} inv_std", c))
    stored = x.astype(storage(precision)).astype(np.float64)
    y = gamma * (stored - mean) * inv_std.astype(np.float64) + beta
    y = np.where(y > 0, y, layer.before * y)
    if drop is not None:
        y = twin("dropout", "cpu")(y, drop)
    return NormState(Act(x), gamma, beta, mean, inv_std, layer.before, drop), y.astype(np.float32)


def backward(layer: Layer, precision: str) -> Call:
    """As the step does it: through norm and activation before, weight gradients in parts."""
    s, given = layer.shape, _given(layer)
    more: dict[str, Any] = {"stride": s.stride, "precision": precision, "partials": True}
    through, x = before(layer, precision)
    if through is None and layer.cotangents > 1 and s.n > 1:
        more["rows"] = slice(s.n + s.n // 2, 2 * s.n)
    gy = Act(given["gy"], stored="fp32" if layer.last else "")
    given_x = Deferred(through, x) if layer.deferred and x is not None else Act(given["x"] if x is None else x)
    arguments = {"x": given_x, "gy": gy, "w": weight(given["w"], precision)}
    return Call(
        "conv2d_backward",
        layer.title,
        {**arguments, "transposed": s.op == "tconv", "through": through, **more},
        precision,
        settle=lambda results: results | {"2": results["2"].sum(axis=0)},  # how many parts there are is the twin's
    )


def input_grad(layer: Layer, precision: str) -> Call:
    """Of a convolution, through the norm before."""
    s, given = layer.shape, _given(layer)
    more = {
        "size": (s.size, s.size),
        "stride": s.stride,
        "precision": precision,
        "through": before(layer, precision)[0],
    }
    return Call(
        "conv2d_input_grad",
        layer.title,
        {"gy": Act(given["gy"]), "w": weight(given["w"], precision), **more},
        precision,
    )


def weight_grad(layer: Layer, precision: str) -> Call:
    """Complete, and of the first cotangent."""
    s, given = layer.shape, _given(layer)
    pair = (given["x"], given["gy"][: s.n])
    x, gy = reversed(pair) if s.op == "tconv" else pair
    more = {"kernel": (s.kernel, s.kernel), "stride": s.stride, "precision": precision}
    return Call("conv2d_weight_grad", layer.title, {"x": Act(x), "gy": Act(gy), **more}, precision)
