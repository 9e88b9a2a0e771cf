"""One update (method 1.6): every player's gradient at the old parameters, every Adam, then the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np

from alikit.errors import DivergedError
from alikit.nn import Pass
from alikit.optim import EMA, Adam, AdamSettings
from alikit.training.games import Rules


class Trainer:
    """A game with an optimiser for each of its players.

        trainer = Trainer(AliRules(alikit.models.build("svhn")), AdamSettings(), seed=0)
        result = trainer.step(x, 0)          # x: (M, H, W, C) float32 in [0, 1]

    ema         rate of the moving average of the generators' weights, None for none
    reference   training images for the statistics of averaged weights, (N, H, W, C): set before they are looked at
    """

    reference: Any = None

    def __init__(self, rules: Rules, settings: AdamSettings, *, seed: int = 0, ema: float | None = None):
        self.rules, self.model, self.seed = rules, rules.model, seed
        self.adams = {player: Adam(named, settings) for player, named in rules.players().items()}
        self.ema = EMA(self.adams["g"].flat, ema) if ema else None

    def step(self, x: Any, number: int) -> Any:
        """One update on the batch x; `number` counts steps from 0 and selects the step's random numbers.

        Returns the record that the game makes of a step. DivergedError naming step (from 1, as in the logs) and tensor
        where a loss or a gradient is not finite; the model is then lost.
        """
        played = self.rules.play(x, Pass(training=True, seed=self.seed, step=number))
        figures = self.rules.figures(played)
        for name, value in figures.items():
            if name.startswith("loss") and not np.isfinite(value):
                raise DivergedError(f"step {number + 1}: {name} is not finite ({value})")
        moves = self.rules.gradients(played, {player: adam.parameters for player, adam in self.adams.items()})
        norms = {f"grad_norm_{p}": self._update(adam, moves[p], number) for p, adam in self.adams.items()}
        self.model.update_statistics()
        if self.ema is not None:
            self.ema.update()
        return self.rules.result(**figures, **norms)

    @property
    def adam_d(self) -> Adam:
        """The discriminator's."""
        return self.adams["d"]

    @property
    def adam_g(self) -> Adam:
        """The generators'."""
        return self.adams["g"]

    @staticmethod
    def _update(adam: Adam, grads: list[Any], number: int) -> float:
        squares = adam.step(grads)
        if not np.all(np.isfinite(squares)):
            name = adam.flat.names[int(np.argmin(np.isfinite(squares)))]
            raise DivergedError(f"step {number + 1}: the gradient of {name} is not finite")
        return float(np.sqrt(squares.sum()))
