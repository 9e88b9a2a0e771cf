"""Adam over one flat buffer, and the moving average of weights.

An optimiser moves the arrays of its parameters into one buffer and leaves each Parameter a view of its part, so that a
step is one kernel call however many parameters there are, and `step_all` one however many optimisers. Where kernels
read weights of lower precision, the buffer holds the masters, and that call writes the rounded copies along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from alikit.backend import array_module
from alikit.nn import Parameter
from alikit.ops._dispatch import kernel

ALIGNMENT = 16  # bytes that the kernels read at once


class AdamSettings(NamedTuple):
    """Method 3.1. lr: alpha; beta1, beta2 in the usual notation; eps stands beside the uncorrected sqrt(v)."""

    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    eps: float = 1e-8


class FlatBuffer:
    """Parameters end to end in one array; each Parameter's master becomes a view of it.

    named   those that do not fill whole 16 bytes come last, whatever their order here: the others, the large weights of
            all presets among them, then begin at multiples of 16 bytes, as kernels like to read them
    low     a dtype: weights of four dimensions are computed with in rounded copies of it, whose pixels begin at
            multiples of 16 bytes; what lies between is zero
    """

    def __init__(self, named: Sequence[tuple[str, Parameter]], low: Any = None):
        named = sorted(named, key=lambda item: item[1].master.nbytes % ALIGNMENT != 0)
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        xp = array_module(self.parameters[0].master)
        self.data = xp.concatenate([p.master.reshape(-1) for p in self.parameters])
        for parameter, view in zip(self.parameters, self.views(self.data), strict=True):
            parameter.master = parameter.data = view
        self.low: Any = None
        if low is not None:
            self._add_copies(xp, np.dtype(low))

    def __deepcopy__(self, memo: dict[int, Any]) -> FlatBuffer:
        """One whose parameters are views of it, and not arrays by themselves."""
        named = list(zip(self.names, deepcopy(self.parameters, memo), strict=True))
        copied = memo[id(self)] = FlatBuffer(named, None if self.low is None else self.low.dtype)
        return copied

    def _add_copies(self, xp: Any, low: np.dtype) -> None:
        weights = [p for p in self.parameters if p.ndim == 4]
        unit = max(1, ALIGNMENT // low.itemsize)
        shapes = [(*p.shape[:-1], -(-p.shape[-1] // unit) * unit) for p in weights]
        self.low = xp.zeros(sum(map(math.prod, shapes)), low)
        start = 0
        for parameter, shape in zip(weights, shapes, strict=True):
            size = math.prod(shape)
            parameter.data = self.low[start : start + size].reshape(shape)[..., : parameter.shape[-1]]
            parameter.refresh()
            start += size

    @property
    def copies(self) -> list[Any] | None:
        """For each parameter its copy of lower precision, or None; None without any."""
        found = [None if p.data is p.master else p.data for p in self.parameters]
        return found if any(copy is not None for copy in found) else None

    def assign(self, values: Any) -> None:
        """Gives all masters other values, and their copies with them."""
        self.data[...] = values
        for parameter in self.parameters:
            parameter.refresh()

    def views(self, flat: Any) -> list[Any]:
        """The parts of a buffer laid out like this one, in the parameters' shapes."""
        parts, start = [], 0
        for p in self.parameters:
            size = math.prod(p.shape)
            parts.append(flat[start : start + size].reshape(p.shape))
            start += size
        return parts


class Adam:
    """Adam (Kingma & Ba 2015) as Blocks runs it: theta -= a_t m / (sqrt(v) + eps).

        adam = Adam(list(model.named_parameters()), AdamSettings())
        norms = adam.step(gradients)

    low   as in `FlatBuffer`
    """

    def __init__(self, named: Sequence[tuple[str, Parameter]], settings: AdamSettings, low: Any = None):
        self.flat = FlatBuffer(named, low)
        self.settings = settings
        xp = array_module(self.flat.data)
        self.m, self.v = xp.zeros_like(self.flat.data), xp.zeros_like(self.flat.data)
        self.steps = 0

    @property
    def parameters(self) -> list[Parameter]:
        return self.flat.parameters

    def step(self, grads: Sequence[Any], clock: Any = None) -> Any:
        """Moves all parameters.

        grads   one array for each parameter, in order; a weight's may be partial sums, (S, O, kH, kW, C)
        clock   a device's [seed, step, updates], from which t is read there; by default t is the count of steps

        Returns the squared norm of each gradient, (len(grads),) float64, not finite where the gradient is not.
        """
        return step_all([self], [grads], clock)[0]

    def state(self) -> dict[str, Any]:
        """Name -> array of both moments, by parameter; the arrays themselves."""
        parts = {"m": self.flat.views(self.m), "v": self.flat.views(self.v)}
        return {f"{k}/{n}": a for k, views in parts.items() for n, a in zip(self.flat.names, views, strict=True)}

    def load_state(self, state: dict[str, Any], steps: int) -> None:
        """Copies the moments and sets the number of steps taken."""
        for name, array in self.state().items():
            array[...] = array_module(array).asarray(state[name])
        self.steps = steps


def step_all(adams: Sequence[Adam], grads: Sequence[Sequence[Any]], clock: Any = None) -> list[Any]:
    """A step of several optimisers in one kernel call: what `Adam.step` returns, for each."""
    for adam in adams:
        adam.steps += 1
    lr, beta1, beta2, eps = zip(*(adam.settings for adam in adams), strict=True)
    return kernel("adam_steps", adams[0].flat.data)(
        grads,
        out=[adam.flat.data for adam in adams],
        out_m=[adam.m for adam in adams],
        out_v=[adam.v for adam in adams],
        step=[adam.steps for adam in adams] if clock is None else clock,
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        out_low=[adam.flat.copies for adam in adams],
    )


class EMA:
    """Exponential moving average of a flat buffer: average <- average + rate * (weights - average)."""

    def __init__(self, flat: FlatBuffer, rate: float):
        self.flat, self.rate = flat, rate
        self.average = flat.data.copy()

    def restart(self) -> None:
        """Begins again from the current weights, which were not trained but set."""
        self.average[...] = self.flat.data

    def update(self) -> None:
        """Takes in the current weights."""
        kernel("moving_average", self.average)(self.flat.data, out=self.average, rate=self.rate)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold their averages."""
        current = self.flat.data.copy()
        self.flat.assign(self.average)
        try:
            yield
        finally:
            self.flat.assign(current)

    def state(self) -> dict[str, Any]:
        """Name -> average, by parameter."""
        return dict(zip(self.flat.names, self.flat.views(self.average), strict=True))

    def load_state(self, state: dict[str, Any]) -> None:
        """Copies the averages."""
        for name, array in self.state().items():
            array[...] = array_module(array).asarray(state[name])
