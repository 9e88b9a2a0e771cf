"""A Trainer's updates on NumPy arrays, run as programs of their kernel calls (`ops/program.py`).

The first update on a batch of some shapes is computed as ever; those after it are traced meanwhile, until two in a row
have done the same to their batches by their clocks. As a rule the second and third do, and from the fourth on what they
have in common runs in their place, with the same bytes, until something about the trainer or its model is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from alikit.autograd import is_grad_enabled
from alikit.nn import Parameter
from alikit.ops.program import Program, trace
from alikit.training.games import Batch

if TYPE_CHECKING:
    from alikit.training.step import Computed, Trainer

#: Shapes of batches that are known at a time: an epoch has one or two.
SHAPES = 8

#: Updates of a shape that are traced before it is given up.
TRIES = 4

#: What a clock's integers end at.
INT64 = 2**63


class _Shape:
    """What is known of the updates on batches of some shapes and dtypes.

    tries    how many were traced
    before   what the last of them did, until two in a row have done the same
    program  that
    """

    def __init__(self) -> None:
        self.tries = 0
        self.before: Program | None = None
        self.program: Program | None = None

    def learn(self, program: Program) -> None:
        self.tries += 1
        if self.before is not None and program.same(self.before):
            self.program = program
        self.before = program if self.tries < TRIES else None  # it holds the arrays that it took for constants


class Replay:
    """The updates of one Trainer, whose it is: it holds no trainer, or neither would be freed in time."""

    def __init__(self) -> None:
        self.clock = np.zeros(3, np.int64)
        self._shapes: dict[Any, _Shape] = {}
        self._given = _Given()

    def __deepcopy__(self, _: Any) -> Replay:
        """Nothing is known of a copied trainer, whose arrays are others."""
        return Replay()

    @property
    def programs(self) -> dict[Any, Program]:
        """Shapes and dtypes of a batch -> what an update on it does, where that is known."""
        return {key: known.program for key, known in self._shapes.items() if known.program is not None}

    def fits(self, trainer: Trainer, batch: Batch, number: int) -> bool:
        """Whether an update may be a program: it consists of kernels for NumPy's arrays, and is at one step only."""
        arrays = list(_arrays(batch).values())
        return (
            vars(type(trainer.rules)).get("straight", False)  # not inherited: a subclass may compute otherwise
            and trainer.noise is None
            and trainer.model is trainer.rules.model
            and is_grad_enabled()  # or there is no gradient, and an error that says so
            and len({adam.steps for adam in trainer.adams.values()}) == 1
            and all(-INT64 <= n < INT64 for n in (trainer.seed, number, trainer.updates))
            and all(type(array) is np.ndarray and array.flags.c_contiguous for array in arrays)
            and not any(np.may_share_memory(one, other) for one, other in combinations(arrays, 2))
        )

    def compute(self, trainer: Trainer, batch: Batch, number: int) -> Computed:
        """What `trainer.compute` does in step `number`, counted from 0, with a batch that fits."""
        if self._given.changed(trainer):
            self._shapes = {}
        inputs = _arrays(batch)
        key = tuple([(array.shape, array.dtype) for array in inputs.values()])
        known = self._shapes.get(key)
        if known is None:
            self._shapes = self._shapes if len(self._shapes) < SHAPES else {}
            self._shapes[key] = _Shape()
        elif known.program is not None:
            return self._run(known.program, trainer, inputs, number)
        elif known.tries < TRIES and self._given.ours:
            return self._traced(known, trainer, inputs, number)
        return trainer.compute(batch, trainer.how(number))

    def _run(self, program: Program, trainer: Trainer, inputs: dict[str, np.ndarray], number: int) -> Computed:
        self.clock[:] = trainer.seed, number, trainer.updates
        found = program.run(*inputs.values())
        trainer.updates += 1
        return found

    def _traced(self, known: _Shape, trainer: Trainer, inputs: dict[str, np.ndarray], number: int) -> Computed:
        self.clock[:] = trainer.seed, number, trainer.updates
        # as arrays that nobody else has: what else lies in a batch's memory is not part of the batch
        inputs = {name: array.copy() for name, array in inputs.items()}
        batch, how = _batch(inputs), trainer.how(self.clock)
        found, program = trace(lambda: trainer.compute(batch, how), inputs, self._names(trainer))
        if program is not None:
            known.learn(program)
        return found

    def _names(self, trainer: Trainer) -> dict[str, np.ndarray]:
        """Of arrays that stay."""
        names = dict(trainer.model.named_buffers())
        names |= {name: parameter.data for name, parameter in trainer.model.named_parameters()}
        for player, adam in trainer.adams.items():
            names |= {f"flat_{player}": adam.flat.data, f"m_{player}": adam.m, f"v_{player}": adam.v}
        if trainer.ema is not None:
            names["average"] = trainer.ema.average
        return {**names, "clock": self.clock}


class _Given:
    """What a trainer's updates are made of, beside batches and clock, as it was when they were looked at.

    ours   whether all code of them is alikit's own, which changes arrays by kernels alone
    """

    def __init__(self) -> None:
        self.ours = False
        self._holders: list[Iterable[Any]] = []  # what rules and modules hold, as it changes
        self._parameters: list[Parameter] = []
        self._objects: list[Any] = []
        self._values: list[Any] = []

    def changed(self, trainer: Trainer) -> bool:
        """Whether something is another thing, or worth something else, than when this was asked before."""
        objects, values = self._found(trainer)
        if len(objects) == len(self._objects) and all(map(is_, objects, self._objects)) and values == self._values:
            return False
        modules = list(trainer.model.modules())
        attributes = [vars(owner) for owner in (trainer.rules, *modules)]
        self._holders = [holder.values() for holder in (*attributes, *(module.buffers for module in modules))]
        self._holders += [held for each in attributes for held in each.values() if type(held) is list]
        self._parameters = trainer.model.parameters()
        self._objects, self._values = self._found(trainer)
        owners = trainer, trainer.ema, *trainer.adams.values(), *modules
        self.ours = all(type(owner).__module__.startswith("alikit.") for owner in owners if owner is not None)
        return True

    def _found(self, trainer: Trainer) -> tuple[list[Any], list[Any]]:
        """Objects, known by themselves, and values."""
        objects: list[Any] = [trainer.rules, trainer.ema, *chain.from_iterable(self._holders)]
        objects += [parameter.data for parameter in self._parameters]
        values: list[Any] = [trainer.precision]
        for adam in trainer.adams.values():
            objects += adam, adam.flat.data, adam.m, adam.v
            values.append(adam.settings)
        if trainer.ema is not None:
            objects.append(trainer.ema.average)
            values.append(trainer.ema.rate)
        return objects, values


def _arrays(batch: Batch) -> dict[str, Any]:
    """Those of a batch, by name."""
    found = {"x": batch.x}
    if batch.y is not None:
        found["y"] = batch.y
    if batch.labelled is not None:
        found |= zip(("labelled_x", "labelled_y"), batch.labelled, strict=False)
    return found


def _batch(arrays: dict[str, Any]) -> Batch:
    """The inverse of `_arrays`."""
    labelled = (arrays["labelled_x"], arrays.get("labelled_y")) if "labelled_x" in arrays else None
    return Batch(arrays["x"], arrays.get("y"), labelled)
