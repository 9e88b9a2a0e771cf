"""The game on one batch: which pairs D sees, in which order, and who minimises what. Signs are decided here alone.

    x ~ data, z^ ~ q(z | x):  data pairs (x, z^), the first half of the stack
    z ~ N(0, I), x~ = p(x | z):  sample pairs (x~, z), the second half
    L_D wants D to call the first half data and the second samples; L_G wants the opposite (paper eq. 4, Algorithm 1)

D runs once, on both halves stacked, so that its batch norm mixes them (method 1.3): two separate passes are another
algorithm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor
from alikit.models import ALI
from alikit.nn import Pass
from alikit.ops.loss import Losses


class Game(NamedTuple):
    """One forward pass: both losses on one graph, and the tensors on the way, for monitoring."""

    losses: Losses
    z_hat: Tensor
    x_tilde: Tensor


def play(model: ALI, x: Any, how: Pass) -> Game:
    """One forward pass of the game (method 1.6, steps 1 to 4).

    x   (M, H, W, C) array of the model's dtype;  how: the pass; its counters give z, eps and the dropout masks
    """
    data = Tensor(x)
    z = model.prior(len(x), how, like=x)
    z_hat = model.encode(data, how)
    x_tilde = model.decode(z, how)
    logits = model.discriminator(ops.concat([data, x_tilde]), ops.concat([z_hat, z]), how)
    return Game(ops.adversarial_losses(logits), z_hat, x_tilde)
