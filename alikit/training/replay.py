"""A Trainer's updates on NumPy arrays, run as programs of their kernel calls (`ops/program.py`).

The first two updates on a batch of some shapes are traced while they are computed as ever: batch and clock apart, they
are to do the same. From then on what they have in common runs in their place, with the same bytes.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from alikit.backend import settle
from alikit.ops.program import Program, trace
from alikit.training.games import Batch

if TYPE_CHECKING:
    from alikit.training.step import Computed, Trainer


class Replay:
    """The updates of a Trainer.

    programs   of shapes and dtypes of a batch: what its updates do; None where two of them did not do the same
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.clock = np.zeros(3, np.int64)
        self.programs: dict[Any, Program | None] = {}
        self._once: dict[Any, Program] = {}
        self._parameters = trainer.model.parameters()
        self._buffers = [(module.buffers, name) for module in trainer.model.modules() for name in module.buffers]
        self._bound: list[Any] = []

    def fits(self, batch: Batch) -> bool:
        """Whether an update may be a program: it consists of kernels for NumPy's arrays, and is at one step only."""
        trainer = self.trainer
        return (
            trainer.rules.straight
            and trainer.noise is None
            and len({adam.steps for adam in trainer.adams.values()}) == 1
            and trainer.seed.bit_length() < 64  # the clock's integers
            and all(type(array) is np.ndarray and array.flags.c_contiguous for array in _arrays(batch).values())
        )

    def compute(self, batch: Batch, number: int) -> Computed:
        """What `trainer.compute` does in step `number`, counted from 0, of a batch that fits."""
        bound = self._bindings()
        if len(bound) != len(self._bound) or not all(map(is_, bound, self._bound)):
            self.programs, self._once, self._bound = {}, {}, bound
        inputs = _arrays(batch)
        key = tuple([(array.shape, array.dtype) for array in inputs.values()])
        if key in self.programs:
            program = self.programs[key]
            return self._run(program, inputs, number) if program else self._eager(batch, number)
        return self._traced(key, batch, number)

    def _run(self, program: Program, inputs: dict[str, np.ndarray], number: int) -> Computed:
        trainer = self.trainer
        self.clock[:] = trainer.seed, number, trainer.updates
        try:
            found = program.run(*inputs.values())
        except BaseException:
            settle()  # what was left to other threads fails now or never
            raise
        trainer.updates += 1
        return found

    def _eager(self, batch: Batch, number: int) -> Computed:
        return self.trainer.compute(batch, self.trainer.how(number))

    def _traced(self, key: Any, batch: Batch, number: int) -> Computed:
        trainer = self.trainer
        self.clock[:] = trainer.seed, number, trainer.updates
        how = trainer.how(self.clock)
        found, program = trace(lambda: trainer.compute(batch, how), _arrays(batch), self._names())
        before = self._once.pop(key, None)
        if before is None:
            self._once[key] = program
        else:
            self.programs[key] = program if program.same(before) else None
        return found

    def _bindings(self) -> list[Any]:
        """What a program takes for given: arrays that it knows by themselves, not by their names."""
        trainer = self.trainer
        given = [parameter.data for parameter in self._parameters]
        given += [buffers[name] for buffers, name in self._buffers]
        for adam in trainer.adams.values():
            given += adam.settings, adam.flat.data, adam.m, adam.v
        return [*given, trainer.rules, trainer.ema]

    def _names(self) -> dict[str, np.ndarray]:
        """Of arrays that stay."""
        trainer, names = self.trainer, dict(self.trainer.model.named_buffers())
        names |= {name: parameter.data for name, parameter in trainer.model.named_parameters()}
        for player, adam in trainer.adams.items():
            names |= {f"flat_{player}": adam.flat.data, f"m_{player}": adam.m, f"v_{player}": adam.v}
        return {**names, "clock": self.clock}


def _arrays(batch: Batch) -> dict[str, Any]:
    """Those of a batch, by name."""
    found = {"x": batch.x}
    if batch.y is not None:
        found["y"] = batch.y
    if batch.labelled is not None:
        found["labelled_x"], found["labelled_y"] = batch.labelled
    return found
