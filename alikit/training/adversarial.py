"""The games against a discriminator. Losses, signs and halves are `objective.py`'s: D sees data first, then samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor, added, grad, stack_grad
from alikit.backend import array_module
from alikit.models import ALI, GAN, PostHoc
from alikit.nn import Pass
from alikit.ops.loss import Losses
from alikit.training import objective
from alikit.training.games import Batch, Moves, Players


class AdversarialResult(NamedTuple):
    """What one step of a game against D showed.

    loss_d, loss_g             L_D and L_G before the update
    prob_data, prob_sample     D's mean probability of "data" on data (pairs) and on samples (sample pairs)
    grad_norm_d, grad_norm_g   Euclidean norms of both gradients
    """

    loss_d: float
    loss_g: float
    prob_data: float
    prob_sample: float
    grad_norm_d: float
    grad_norm_g: float


class Adversarial:
    """What the games against a discriminator share. Both halves go through D at once, data first (method 1.3)."""

    result: Any = AdversarialResult
    data, sample = "D(x,z^)", "D(x~,z)"

    def __init__(self, model: ALI | GAN):
        self.model = model

    def players(self) -> Players:
        return {"d": self.model.discriminator_parameters(), "g": self.model.generator_parameters()}

    def figures(self, played: Any) -> Any:
        return played.losses.figures

    def show(self, result: Any) -> str:
        return (
            f"L_D {result.loss_d:.2f}  L_G {result.loss_g:.2f}  "
            f"{self.data} {result.prob_data:.2f}  {self.sample} {result.prob_sample:.2f}"
        )


class AliRules(Adversarial):
    """Adversarially learned inference."""

    model: ALI
    straight = True

    def play(self, batch: Batch, how: Pass) -> Any:
        return objective.play(self.model, batch.x, how)

    def gradients(self, played: Any, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        d, g = objective.gradients(played, self.model.discriminator, parameters["d"], parameters["g"])
        return {"d": d, "g": g}


class AliceResult(NamedTuple):
    """As `AdversarialResult`, and loss_r: the mean squared error of decode(encode(x)) before the update."""

    loss_d: float
    loss_g: float
    prob_data: float
    prob_sample: float
    loss_r: float
    grad_norm_d: float
    grad_norm_g: float


class AliceGame(NamedTuple):
    """One forward pass of ALI with its reconstruction error."""

    game: objective.Game
    loss_r: Tensor


class AliceRules(AliRules):
    """ALI whose generators also minimise weight * mean |x - decode(z^)|^2: a remedy for an encoder that D lets drift
    (ALICE, Li et al. 2017, with a squared error; method 5.4)."""

    result = AliceResult

    def __init__(self, model: ALI, weight: float):
        super().__init__(model)
        self.weight = weight

    def play(self, batch: Batch, how: Pass) -> AliceGame:
        game = objective.play(self.model, batch.x, how, rebuild=True)
        gap = ops.sub(game.rebuilt, batch.x)
        return AliceGame(game, ops.mean(ops.mul(gap, gap)))

    def figures(self, played: AliceGame) -> Any:
        figures = played.game.losses.figures
        error = played.loss_r.data.reshape(1).astype(figures.dtype)
        return array_module(figures).concatenate([figures, error])

    def gradients(self, played: AliceGame, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        # the graph of both losses is one: the adversarial walk, which comes last, releases it
        weighed = ops.mul(played.loss_r, self.weight)
        (errors,) = grad([weighed], [parameters["g"]], retain=True)
        moves = super().gradients(played.game, parameters)
        moves["g"] = [
            g if e is None else e if g is None else added(g, e) for g, e in zip(moves["g"], errors, strict=True)
        ]
        return moves

    def show(self, result: AliceResult) -> str:
        return f"{super().show(result)}  |x - x^|^2 {result.loss_r:.4f}"


class PostHocRules(AliRules):
    """ALI's game around a frozen decoder (method 5.2): sample pairs move D alone, data pairs D and the encoder."""

    model: PostHoc

    def gradients(self, played: objective.Game, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        d, g = grad([played.losses.loss_d, played.losses.loss_g], [parameters["d"], parameters["g"]])
        return {"d": d, "g": g}


class GanGame(NamedTuple):
    """One forward pass of a GAN."""

    losses: Losses
    logits: Tensor
    x_tilde: Tensor


class GanRules(Adversarial):
    """The GAN's game as the authors' code plays it: ALI's losses and D's single pass, without codes."""

    model: GAN
    straight = True
    data, sample = "D(x)", "D(x~)"

    def play(self, batch: Batch, how: Pass) -> GanGame:
        x = batch.x
        x_tilde = self.model.decode(self.model.prior(len(x), how, like=x), how)
        logits = self.model.discriminator([Tensor(x), x_tilde], how)
        return GanGame(ops.adversarial_losses(logits), logits, x_tilde)

    def gradients(self, played: GanGame, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        logits, losses, made = played.logits, played.losses, [played.x_tilde]
        if self.model.discriminator.rows_independent:
            samples = slice(len(logits) // 2, None)
            d, upstream = objective.weighed_gradients(logits, losses, parameters["d"], made, [samples])
        else:
            d, upstream = stack_grad(logits, losses.glogits, parameters["d"], made)
        return {"d": d, "g": grad([played.x_tilde], [parameters["g"]], gys=upstream)[0]}
