"""A Trainer's updates on NumPy arrays, run as programs of their kernel calls (`ops/program.py`).

The second and the third update on a batch of some shapes are traced while they are computed as ever: batch and clock
apart, they are to do the same. From then on what they have in common runs in their place, with the same bytes, until
something about the trainer or its model is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from alikit.nn import Parameter
from alikit.ops.program import Program, trace
from alikit.training.games import Batch

if TYPE_CHECKING:
    from alikit.training.step import Computed, Trainer

#: Shapes of batches that have programs at a time: an epoch has one or two.
SHAPES = 8


class Replay:
    """The updates of one Trainer, which is not held.

    programs   shapes and dtypes of a batch -> what its updates do, once that is known; None where two of them did not
               do the same
    """

    def __init__(self) -> None:
        self.clock = np.zeros(3, np.int64)
        self.programs: dict[Any, Program | None] = {}
        self._seen: dict[Any, Program | None] = {}  # and what has been traced of it once
        self._holders: list[Iterable[Any]] = []  # what modules hold
        self._parameters: list[Parameter] = []
        self._given: tuple[list[Any], list[Any]] = [], []

    def __deepcopy__(self, _: Any) -> Replay:
        """Nothing: a copied trainer's arrays are others."""
        return Replay()

    def fits(self, trainer: Trainer, batch: Batch) -> bool:
        """Whether an update may be a program: it consists of kernels for NumPy's arrays, and is at one step only."""
        arrays = list(_arrays(batch).values())
        return (
            vars(type(trainer.rules)).get("straight", False)  # not inherited: a subclass may compute otherwise
            and trainer.noise is None
            and len({adam.steps for adam in trainer.adams.values()}) == 1
            and trainer.seed.bit_length() < 64  # the clock's integers
            and all(type(array) is np.ndarray and array.flags.c_contiguous for array in arrays)
            and not any(np.may_share_memory(one, other) for one, other in combinations(arrays, 2))
        )

    def compute(self, trainer: Trainer, batch: Batch, number: int) -> Computed:
        """What `trainer.compute` does in step `number`, counted from 0, with a batch that fits."""
        self._heed_changes(trainer)
        inputs = _arrays(batch)
        key = tuple([(array.shape, array.dtype) for array in inputs.values()])
        program = self.programs.get(key)
        if program is not None:
            self.clock[:] = trainer.seed, number, trainer.updates
            found = program.run(*inputs.values())
            trainer.updates += 1
            return found
        if key in self._seen and key not in self.programs:
            return self._traced(trainer, inputs, number, key)
        if key not in self._seen:
            if len(self._seen) == SHAPES:
                self._forget()
            self._seen[key] = None
        return trainer.compute(batch, trainer.how(number))

    def _traced(self, trainer: Trainer, inputs: dict[str, np.ndarray], number: int, key: Any) -> Computed:
        self.clock[:] = trainer.seed, number, trainer.updates
        # in memory of their own: what lies beside a batch in the same memory is not part of the batch
        inputs = {name: array if array.base is None else array.copy() for name, array in inputs.items()}
        batch, how = _batch(inputs), trainer.how(self.clock)
        found, program = trace(lambda: trainer.compute(batch, how), inputs, self._names(trainer))
        before = self._seen[key]
        if before is None:
            self._seen[key] = program
        elif program is not None:
            self.programs[key] = program if program.same(before) else None
        return found

    def _forget(self) -> None:
        self.programs, self._seen = {}, {}

    def _heed_changes(self, trainer: Trainer) -> None:
        """Forgets all programs where something was replaced that they take for given."""
        objects, values = self._given_by(trainer)
        known_objects, known_values = self._given
        same = len(objects) == len(known_objects) and all(map(is_, objects, known_objects))
        if not same or values != known_values:
            self._forget()
            modules = list(trainer.model.modules())
            attributes = [vars(module) for module in modules]
            self._holders = [holder.values() for holder in (*attributes, *(module.buffers for module in modules))]
            self._holders += [held for each in attributes for held in each.values() if type(held) is list]
            self._parameters = trainer.model.parameters()
            self._given = self._given_by(trainer)

    def _given_by(self, trainer: Trainer) -> tuple[list[Any], list[Any]]:
        """What an update is made of: objects, known by themselves, and values."""
        objects: list[Any] = [trainer.rules, trainer.model, *chain.from_iterable(self._holders)]
        objects += [parameter.data for parameter in self._parameters]
        values: list[Any] = [trainer.precision]
        for adam in trainer.adams.values():
            objects += adam, adam.flat.data, adam.m, adam.v
            values.append(adam.settings)
        if trainer.ema is not None:
            objects.append(trainer.ema.average)
            values.append(trainer.ema.rate)
        return objects, values

    def _names(self, trainer: Trainer) -> dict[str, np.ndarray]:
        """Of arrays that stay."""
        names = dict(trainer.model.named_buffers())
        names |= {name: parameter.data for name, parameter in trainer.model.named_parameters()}
        for player, adam in trainer.adams.items():
            names |= {f"flat_{player}": adam.flat.data, f"m_{player}": adam.m, f"v_{player}": adam.v}
        if trainer.ema is not None:
            names["average"] = trainer.ema.average
        return {**names, "clock": self.clock}


def _arrays(batch: Batch) -> dict[str, Any]:
    """Those of a batch, by name."""
    found = {"x": batch.x}
    if batch.y is not None:
        found["y"] = batch.y
    if batch.labelled is not None:
        found["labelled_x"], found["labelled_y"] = batch.labelled
    return found


def _batch(arrays: dict[str, Any]) -> Batch:
    """The inverse of `_arrays`."""
    labelled = (arrays["labelled_x"], arrays["labelled_y"]) if "labelled_x" in arrays else None
    return Batch(arrays["x"], arrays.get("y"), labelled)
