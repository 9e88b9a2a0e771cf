"""Module: a tree of parameters and buffers with names; Pass: how a forward pass is to be run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from alikit.autograd import Tensor
from alikit.ops._dispatch import Counters, array_module


class Pass(NamedTuple):
    """One forward pass. Modules keep no mode: what varies from pass to pass is an argument.

    training   batch statistics and dropout if true, population statistics and no dropout if false
    seed       of the run;  step: number of the training step, or a device's clock [seed, step, updates]. With a
               stream's name they determine all random numbers
    precision  of matrix products: "fp32"; on a GPU also "tf32", or "bf16" on activations and weights of that dtype
    partials   weight gradients are left as partial sums for the optimiser to add; on the CPU, small ones to another
               thread while the walk goes on
    noise      standard deviation of what is added to every image that a discriminator sees, a number or an array () on
               the model's device; None: nothing is
    """

    training: bool = False
    seed: int = 0
    step: Any = 0
    precision: str = "fp32"
    partials: bool = False
    noise: Any = None

    def stream(self, name: str) -> Counters:
        """Counters of the random numbers that belong to `name`, a layer's full name or a purpose."""
        return Counters(self.seed, self.step, zlib.crc32(name.encode()))


class Parameter(Tensor):
    """A leaf Tensor that an optimiser moves.

    data     what the graph computes with; master: (same shape) float32 or float64, what is moved, saved and averaged.
             One array, but where `data` is a copy of lower precision. Both may be views of the optimiser's buffers
    """

    __slots__ = ("master",)

    def __init__(self, data: Any):
        super().__init__(data, requires_grad=True)
        self.master = data

    def refresh(self) -> None:
        """After a change of the master: rounds it into the copy, if there is one."""
        if self.data is not self.master:
            self.data[...] = self.master


class Module:
    """Parameters, buffers (arrays beside them, in `self.buffers`) and child modules, found through attributes."""

    def __init__(self) -> None:
        self.buffers: dict[str, Any] = {}

    def children(self) -> Iterator[tuple[str, Module]]:
        """(attribute, module); members of a list are named by their place."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", v) for i, v in enumerate(value) if isinstance(v, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, Module) of everything below this module."""
        for name, child in self.children():
            yield prefix + name, child
            yield from child.named_modules(f"{prefix}{name}.")

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(dotted name, Parameter) of the whole tree, in order of definition."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def move(self, put: Callable[[Any], Any]) -> None:
        """Replaces the array of every parameter and buffer of the tree by put(array), say its copy on a device."""
        for module in self.modules():
            module.buffers = {name: put(array) for name, array in module.buffers.items()}
            for value in vars(module).values():
                if isinstance(value, Parameter):
                    value.master = value.data = put(value.master)

    def parameters(self) -> list[Parameter]:
        """Every Parameter of the tree."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """(dotted name, array) of the whole tree."""
        for name, value in self.buffers.items():
            yield prefix + name, value
        for name, child in self.children():
            yield from child.named_buffers(f"{prefix}{name}.")

    def state(self) -> dict[str, Any]:
        """Name -> array of every parameter (its master) and buffer; the arrays themselves, not copies."""
        return {**{k: p.master for k, p in self.named_parameters()}, **dict(self.named_buffers())}

    def load_state(self, state: dict[str, Any]) -> None:
        """Copies arrays by name into parameters and buffers.

        ValueError naming what is missing, what is unknown, and where a shape differs; then nothing has been changed.
        """
        own = self.state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [
            f"{k}: {state[k].shape}, wanted {own[k].shape}"
            for k in own
            if k in state and state[k].shape != own[k].shape
        ]
        if missing or unknown or shapes:
            found = [("missing", missing), ("unknown", unknown), ("shape of", shapes)]
            raise ValueError(
                "load_state: " + "; ".join(f"{what} {', '.join(names[:5])}" for what, names in found if names)
            )
        for name, array in own.items():
            array[...] = array_module(array).asarray(state[name])
        for parameter in self.parameters():
            parameter.refresh()
