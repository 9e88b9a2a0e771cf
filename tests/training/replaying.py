"""Two trainers side by side: one that runs its updates as programs where it can, and one that computes all of them."""

from dataclasses import replace
from typing import Any

import numpy as np

from alikit.nn import Pass
from alikit.ops._dispatch import kernel
from alikit.ops.program import Program
from alikit.training import state
from alikit.training.adversarial import AliRules
from alikit.training.config import PRESETS, Config
from alikit.training.games import Batch
from alikit.training.step import Trainer

MIXTURE = replace(PRESETS["mixture"], width=0.03, lr=0.01, ema=0.1)
IMAGES = replace(PRESETS["svhn"], model="small", width=0.15, nz=3, lr=0.01, ema=0.1)


class Anchored(AliRules):
    """Beside every batch D sees some rows that stay."""

    straight = True

    def __init__(self, model: Any, rows: np.ndarray):
        super().__init__(model)
        self.rows = rows

    def play(self, batch: Batch, how: Pass) -> Any:
        return super().play(Batch(kernel("join", batch.x)([batch.x, self.rows], axis=0)), how)


def both(config: Config) -> tuple[Trainer, Trainer]:
    """The one, and the other."""
    return state.build_trainer(config), eager(state.build_trainer(config))


def eager(run: Trainer) -> Trainer:
    run.replay.fits = lambda *_: False  # type: ignore[method-assign]
    return run


def batch_for(run: Trainer, rng: np.random.Generator, size: int = 6) -> Batch:
    """As its game wants it, of random numbers."""

    def images(rows: int) -> np.ndarray:
        return rng.random((rows, *run.model.spec.image), np.float32)

    def classes(rows: int) -> np.ndarray:
        return np.eye(10, dtype=np.float32)[rng.integers(0, 10, rows)].reshape(-1, 1, 1, 10)

    kind = type(run.rules).__name__
    if kind == "ConditionalRules":
        return Batch(images(size), classes(size))
    return Batch(images(size), None, (images(4), classes(4)) if kind == "ClassRules" else None)


def step_alike(one: Trainer, other: Trainer, batch: Any, number: int) -> None:
    """A step of both on a batch, which show the same."""
    assert outcome(one, batch, number) == outcome(other, batch, number)


def outcome(run: Trainer, batch: Any, number: int) -> Any:
    try:
        return run.step(batch, number)
    except ValueError as error:
        return str(error)


def assert_same(one: Trainer, other: Trainer) -> None:
    """Every byte that the next step depends on."""
    assert one.updates == other.updates
    states = [{"model": run.model.state(), **{k: a.state() for k, a in run.adams.items()}} for run in (one, other)]
    for section, named in states[0].items():
        for name, array in named.items():
            assert array.tobytes() == states[1][section][name].tobytes(), (section, name)
    if one.ema is not None and other.ema is not None:
        assert one.ema.average.tobytes() == other.ema.average.tobytes()


def program(run: Trainer) -> Program:
    """The only one."""
    (found,) = run.replay.programs.values()
    assert found is not None
    return found
