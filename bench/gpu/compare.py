"""The same call on both twins: arguments for each of them, results side by side, and how far they are apart.

The CPU twin computes in float64 on numbers already rounded to what the device stores, so that what remains is the
device's own arithmetic. Two measures, since either alone can be fooled: the distance in Euclidean norm, and the largest
single difference, in units of |wanted| + the root mean square; one wrong pixel among a million escapes the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: precision -> allowed distance, allowed largest difference, allowed share of integers that differ (near-ties)
ALLOWED = {"fp32": (5e-6, 1e-4, 1e-4), "tf32": (1e-3, 1e-2, 5e-3), "bf16": (4e-3, 3e-2, 1e-2)}


@dataclass
class Act:
    """An activation: padded pixels on the device, stored as the precision says or as `stored` does."""

    array: np.ndarray
    stored: str = ""


@dataclass
class Low:
    """A convolution's weight of the precision's type: dense, or as a step's rounded copies are, in padded pixels."""

    array: np.ndarray
    padded: bool = False


@dataclass
class Deferred:
    """What a batch norm makes of an activation: on the device left to the layer that reads it, `arrays.Normalised`."""

    norm: Any  # `arrays.NormState` of an `Act` and vectors
    made: np.ndarray
    eps: float = 1e-4


@dataclass
class Step:
    """A step that the device reads from its clock, and the CPU twin takes as a number."""

    seed: int
    step: int


def storage(precision: str) -> Any:
    """The type of activations and weights."""
    if precision != "bf16":
        return np.dtype(np.float32)
    from ml_dtypes import bfloat16

    return np.dtype(bfloat16)


def walk(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same structure of tuples, records and lists with other leaves."""
    if isinstance(value, list):
        return [walk(item, leaf) for item in value]
    if isinstance(value, tuple):
        items = [walk(item, leaf) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return leaf(value)


def for_host(value: Any, precision: str, exact: Any = np.float64) -> Any:
    """Arguments for the CPU twin: fresh arrays in float64 (or float32, which large ones are checked in)."""

    def leaf(item: Any) -> Any:
        if isinstance(item, Step):
            return item.step
        if isinstance(item, type | np.dtype):
            return exact  # what the device rounds results to is its own affair
        kind = storage((isinstance(item, Act) and item.stored) or precision)
        if isinstance(item, Deferred):
            return item.made.astype(kind).astype(exact)
        if isinstance(item, Act | Low):
            return item.array.astype(kind).astype(exact)
        if isinstance(item, np.ndarray):
            return item.astype(np.float32).astype(exact) if item.dtype.kind == "f" else item.copy()
        return item

    return walk(value, leaf)


def for_device(value: Any, precision: str) -> Any:
    """Arguments for the device twin: fresh arrays there."""
    from alikit.kernels import device
    from alikit.kernels.arrays import Normalised

    def leaf(item: Any) -> Any:
        if isinstance(item, Step):
            return device.from_host(np.array([item.seed, item.step, item.step], np.int64))
        if isinstance(item, Deferred):
            x, gamma, beta, mean, inv_std, slope, _ = for_device(item.norm, precision)
            var = for_device(1 / np.square(item.norm.inv_std) - item.eps, precision)
            return Normalised(x, gamma, beta, mean, var, inv_std, item.eps, slope)
        if isinstance(item, Act):
            kind = storage(item.stored or precision)
            return device.from_host(item.array.astype(kind), kind, activation=True)
        if isinstance(item, Low):
            kind = storage(precision)
            return device.from_host(item.array.astype(kind), kind, activation=item.padded)
        if isinstance(item, np.ndarray):
            return device.from_host(item.astype(np.float32) if item.dtype.kind == "f" else item)
        return item

    return walk(value, leaf)


def arrays(result: Any, name: str = "") -> dict[str, np.ndarray]:
    """Every array of a result by its place, on the host."""
    from alikit.kernels import device

    if isinstance(result, dict):
        places = result.items()
    elif isinstance(result, tuple | list):
        fields: Any = getattr(result, "_fields", range(len(result)))
        places = zip(fields, result, strict=True)
    else:
        return {} if result is None else {name: device.to_host(result)}
    found: dict[str, np.ndarray] = {}
    for key, item in places:
        found |= arrays(item, f"{name}.{key}" if name else str(key))
    return found


def used(found: np.ndarray, wanted: np.ndarray, precision: str) -> float:
    """The larger share of what is allowed; infinite for another shape or for what is not finite."""
    if found.shape != wanted.shape:
        return float("inf")
    distance, largest, differing = ALLOWED["bf16" if found.dtype.name == "bfloat16" else precision]
    if wanted.dtype.kind in "iub":
        return float(np.mean(found != wanted)) / differing if wanted.size else 0.0
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    size = float(np.sqrt(np.mean(np.square(b)))) if b.size else 0.0
    if size == 0.0:
        return float("inf") if np.any(a) else 0.0
    difference = np.abs(a - b)
    norm = float(np.sqrt(np.mean(np.square(difference)))) / size
    return max(norm / distance, float(np.max(difference / (np.abs(b) + size))) / largest)
