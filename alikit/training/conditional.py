"""ALI's game given conditions (method 7): all pairs of a row have its condition, and all three players are told it.

The embedding of the conditions moves with encoder and decoder, by the part of L_G's gradient that reaches it through
them. D is told the embedding as a number that it takes as it comes: through D, L_G would reward an embedding that hides
the condition from D.

It is computed once for both halves of the stack, [y; y]: D's head reads it whole, the encoder its first half, the
decoder its second one. Their gradients, stacked again, are the upstream of one walk to W and b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor, grad
from alikit.models import ConditionalALI
from alikit.nn import Pass
from alikit.ops._dispatch import kernel
from alikit.training import objective
from alikit.training.adversarial import Adversarial
from alikit.training.games import Batch, Moves


class ConditionalGame(NamedTuple):
    """One forward pass.

    game       losses, logits and what was made
    embedded   (2 M, 1, 1, E): W [y; y] + b;  halves: of it, as leaves, what the encoder read and what the decoder read
    """

    game: objective.Game
    embedded: Tensor
    halves: tuple[Tensor, Tensor]


def play(model: ConditionalALI, batch: Batch, how: Pass, told: Any = None) -> ConditionalGame:
    """One forward pass of the game, as `objective.play` has it, on images and their conditions.

    told   (2 M, 1, 1, E): what D's head is told instead of the embedding, for checks of gradients

    ValueError for a batch without conditions.
    """
    if batch.y is None:
        raise ValueError("play: a conditional game needs a batch with conditions y")
    data, count = Tensor(batch.x), len(batch.x)
    embedded = model.embed(ops.join([Tensor(batch.y), Tensor(batch.y)], axis=0), how)
    for_encoder, for_decoder = (Tensor(part, requires_grad=True) for part in halves(embedded.data, count))
    z = model.prior(count, how, like=batch.x)
    z_hat = model.encode_given(data, for_encoder, how)
    x_tilde = model.decode_given(z, for_decoder, how)
    condition = Tensor(embedded.data if told is None else told)
    logits = model.discriminator([data, x_tilde], [z_hat, z], how, condition)
    game = objective.Game(ops.adversarial_losses(logits), logits, z_hat, x_tilde)
    return ConditionalGame(game, embedded, (for_encoder, for_decoder))


def halves(stack: Any, count: int) -> tuple[Any, Any]:
    """The rows of data pairs and those of sample pairs."""
    return stack[:count], stack[count:]


class ConditionalRules(Adversarial):
    """Adversarially learned inference given conditions."""

    model: ConditionalALI
    straight = True

    def play(self, batch: Batch, how: Pass) -> ConditionalGame:
        return play(self.model, batch, how)

    def figures(self, played: ConditionalGame) -> Any:
        return played.game.losses.figures

    def gradients(self, played: ConditionalGame, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        own = set(map(id, self.model.embedding.parameters()))
        networks = [p for p in parameters["g"] if id(p) not in own]
        embedding = [p for p in parameters["g"] if id(p) in own]
        d, made = objective.gradients(
            played.game, self.model.discriminator, parameters["d"], [*networks, *played.halves]
        )
        upstream = kernel("join", made[-1])(made[-2:], axis=0)
        (through,) = grad([played.embedded], [embedding], gys=[upstream])
        found = dict(zip(map(id, [*networks, *embedding]), [*made[:-2], *through], strict=True))
        return {"d": d, "g": [found[id(p)] for p in parameters["g"]]}
