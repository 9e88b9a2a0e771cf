"""One update (method 1.6): every player's gradient at the old parameters, every Adam, then the statistics."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alikit.backend import compute_dtype, to_numpy
from alikit.errors import DivergedError
from alikit.nn import Pass
from alikit.optim import EMA, Adam, AdamSettings, step_all
from alikit.training.games import Batch, Rules
from alikit.training.noise import InstanceNoise
from alikit.training.replay import Replay


class Computed(NamedTuple):
    """What an update leaves behind, where the model's arrays lie.

    figures   (F,) the game's figures
    squares   for each player, (P,): the squared norms of its parameters' gradients
    """

    figures: Any
    squares: list[Any]


class Trainer:
    """A game with an optimiser for each of its players.

        trainer = Trainer(AliRules(alikit.models.build("svhn")), AdamSettings(), seed=0)
        result = trainer.step(x, 0)          # x: (M, H, W, C) float32 in [0, 1]

    precision   of matrix products and of what is stored, as in `Pass`
    noise       on the images that D sees, None for none
    ema         rate of the moving average of the generators' weights, None for none
    reference   training images for the statistics of averaged weights, (N, H, W, C): set before they are looked at;
                reference_y: their conditions, (N, 1, 1, A), of a conditional model
    """

    reference: Any = None
    reference_y: Any = None

    def __init__(
        self,
        rules: Rules,
        settings: AdamSettings,
        *,
        seed: int = 0,
        noise: InstanceNoise | None = None,
        ema: float | None = None,
        precision: str = "fp32",
    ):
        self.rules, self.model, self.seed, self.precision = rules, rules.model, int(seed), precision
        self.noise = noise
        low = compute_dtype(precision) if precision == "bf16" else None
        self.adams = {player: Adam(named, settings, low) for player, named in rules.players().items()}
        self.ema = EMA(self.adams["g"].flat, ema) if ema else None
        self.replay = Replay()

    def how(self, step: Any) -> Pass:
        """The pass of a step: its number, counted from 0, or a clock."""
        return Pass(training=True, seed=self.seed, step=step, precision=self.precision, partials=True)

    def compute(self, batch: Any, how: Pass) -> Computed:
        """One update on a Batch, or on images alone; `how` selects the step's random numbers. Nothing is waited for or
        checked."""
        if self.noise is not None:
            how = how._replace(noise=self.noise.at(how.step))
        played = self.rules.play(batch if isinstance(batch, Batch) else Batch(batch), how)
        moves = self.rules.gradients(played, {player: adam.parameters for player, adam in self.adams.items()})
        # a device's clock [seed, step, updates] stands for both the step and Adam's t
        clock = None if isinstance(how.step, int) else how.step
        squares = step_all(list(self.adams.values()), [moves[player] for player in self.adams], clock)
        self.model.update_statistics()
        if self.ema is not None:
            self.ema.update()
        return Computed(self.rules.figures(played), squares)

    def step(self, batch: Any, number: int) -> Any:
        """One update on a Batch, or on images alone; `number` counts steps from 0, its random numbers follow from it.

        Returns the record that the game makes of a step. DivergedError naming step (from 1, as in the logs) and tensor
        where a loss or a gradient is not finite; the model is then lost, as it is where a step is interrupted halfway.
        """
        number = int(number)  # a NumPy integer would be taken for a device's clock
        batch = batch if isinstance(batch, Batch) else Batch(batch)
        if self.replay.fits(self, batch, number):
            figures, squares = self.replay.compute(self, batch, number)
        else:
            figures, squares = self.compute(batch, self.how(number))
        found = np.concatenate([to_numpy(figures), *(to_numpy(s) for s in squares)])
        if not np.isfinite(found).all():
            raise self.diverged(number, int(np.argmin(np.isfinite(found))))
        return self.rules.result(*(float(f) for f in figures), *(float(np.sqrt(s.sum())) for s in squares))

    def diverged(self, number: int, place: int) -> DivergedError:
        """The error about step `number` (from 0) whose figures and squared norms, end to end, are not finite at
        `place`."""
        names = list(self.rules.result._fields[: -len(self.adams)])
        names += [f"the gradient of {name}" for adam in self.adams.values() for name in adam.flat.names]
        return DivergedError(f"step {number + 1}: {names[place]} is not finite")

    @property
    def updates(self) -> int:
        """Steps that the optimisers have taken."""
        return next(iter(self.adams.values())).steps

    @updates.setter
    def updates(self, count: int) -> None:
        for adam in self.adams.values():
            adam.steps = count

    @property
    def adam_d(self) -> Adam:
        """The discriminator's."""
        return self.adams["d"]

    @property
    def adam_g(self) -> Adam:
        """The generators'."""
        return self.adams["g"]
