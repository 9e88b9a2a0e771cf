"""ALI's game with labels: D tells K classes of data and samples, class K + 1, apart (method 1.7).

    x ~ data, (x_l, y) ~ labelled data, z^ and z^_l: their codes, from one pass of the encoder over both
    z ~ N(0, I), x~ = p(x | z)
    the stack of D: [x; x_l; x~], [z^; z^_l; z], so that its batch norm mixes all of them (method 1.3)

Z(x, z), the log of the sum of exp of D's K logits, plays the binary game's logit; labelled pairs add the cross-entropy
of their class to L_D. It moves D alone: the generators' loss is the one of the game without labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor
from alikit.models import ALI
from alikit.nn import Pass
from alikit.training.adversarial import AliRules
from alikit.training.games import Batch
from alikit.training.objective import Game


class ClassResult(NamedTuple):
    """As `AdversarialResult`, with what the labelled pairs showed before the update.

    loss_label    their mean cross-entropy, a part of loss_d
    label_accuracy   the share of them whose class has D's largest logit
    """

    loss_d: float
    loss_g: float
    loss_label: float
    prob_data: float
    prob_sample: float
    label_accuracy: float
    grad_norm_d: float
    grad_norm_g: float


def play(model: ALI, batch: Batch, how: Pass) -> Game:
    """One forward pass of the game with labels.

    batch   x: (M, H, W, C) arrays of the model's dtype, and labelled: (L, H, W, C), one-hot classes (L, 1, 1, K)
    how     the pass; its counters give z, eps and the dropout masks

    ValueError for a batch without labelled images.
    """
    if batch.labelled is None:
        raise ValueError("play: a batch without labelled images; this game needs some")
    known, classes = batch.labelled
    data = ops.join([Tensor(batch.x), Tensor(known)])
    z = model.prior(len(batch.x), how, like=batch.x)
    z_hat = model.encode(data, how)
    x_tilde = model.decode(z, how)
    logits = model.discriminator([data, x_tilde], [z_hat, z], how)
    return Game(ops.class_losses(logits, classes), logits, z_hat, x_tilde)


class ClassRules(AliRules):
    """Adversarially learned inference with labels. The gradients are those of the game without: `objective.gradients`
    knows both players' losses by the gradient at D's logits alone."""

    straight = True

    result: Any = ClassResult

    def play(self, batch: Batch, how: Pass) -> Game:
        return play(self.model, batch, how)

    def show(self, result: ClassResult) -> str:
        return f"{super().show(result)}  labels {result.loss_label:.2f}, {result.label_accuracy:.0%} right"
