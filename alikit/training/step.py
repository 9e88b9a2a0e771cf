"""One adversarial update (method 1.6): both gradients at the old parameters, both Adams, then the statistics."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alikit.errors import DivergedError
from alikit.models import ALI
from alikit.nn import Pass
from alikit.optim import EMA, Adam, AdamSettings
from alikit.training.objective import gradients, play


class StepResult(NamedTuple):
    """What one step showed.

    loss_d, loss_g             L_D and L_G before the update
    prob_data, prob_sample     D's mean probability of "data" on data pairs and on sample pairs
    grad_norm_d, grad_norm_g   Euclidean norms of both gradients
    """

    loss_d: float
    loss_g: float
    prob_data: float
    prob_sample: float
    grad_norm_d: float
    grad_norm_g: float


class Trainer:
    """A model with its two optimisers.

        trainer = Trainer(alikit.models.build("svhn"), AdamSettings(), seed=0)
        result = trainer.step(x, 0)          # x: (M, H, W, C) float32 in [0, 1]

    ema         rate of the moving average of encoder and decoder weights, None for none
    reference   training images for the statistics of averaged weights, (N, H, W, C): set before they are looked at
    """

    reference: Any = None

    def __init__(self, model: ALI, settings: AdamSettings, *, seed: int = 0, ema: float | None = None):
        self.model, self.seed = model, seed
        self.adam_d = Adam(model.discriminator_parameters(), settings)
        self.adam_g = Adam(model.generator_parameters(), settings)
        self.ema = EMA(self.adam_g.flat, ema) if ema else None

    def step(self, x: Any, number: int) -> StepResult:
        """One update on the batch x; `number` counts steps from 0 and selects the step's random numbers.

        DivergedError naming step (from 1, as in the logs) and tensor where a loss or a gradient is not finite; the
        model is then lost.
        """
        game = play(self.model, x, Pass(training=True, seed=self.seed, step=number))
        losses = game.losses
        for name in ("loss_d", "loss_g"):
            if not np.isfinite(getattr(losses, name).item()):
                raise DivergedError(f"step {number + 1}: {name} is not finite ({getattr(losses, name).item()})")
        players = self.adam_d.parameters, self.adam_g.parameters
        grads_d, grads_g = gradients(game, self.model.discriminator, *players)
        norm_d = self._update(self.adam_d, grads_d, number)
        norm_g = self._update(self.adam_g, grads_g, number)
        self.model.update_statistics()
        if self.ema is not None:
            self.ema.update()
        return StepResult(
            losses.loss_d.item(),
            losses.loss_g.item(),
            float(losses.prob_data),
            float(losses.prob_sample),
            norm_d,
            norm_g,
        )

    @staticmethod
    def _update(adam: Adam, grads: list[Any], number: int) -> float:
        squares = adam.step(grads)
        if not np.all(np.isfinite(squares)):
            name = adam.flat.names[int(np.argmin(np.isfinite(squares)))]
            raise DivergedError(f"step {number + 1}: the gradient of {name} is not finite")
        return float(np.sqrt(squares.sum()))
