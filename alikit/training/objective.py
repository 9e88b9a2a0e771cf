"""The game on one batch: which pairs D sees, in which order, and who minimises what. Signs are decided here alone.

    x ~ data, z^ ~ q(z | x):  data pairs (x, z^), the first half of the stack
    z ~ N(0, I), x~ = p(x | z):  sample pairs (x~, z), the second half
    L_D wants D to call the first half data and the second samples; L_G wants the opposite (paper eq. 4, Algorithm 1)

D runs once, on both halves stacked, so that its batch norm mixes them (method 1.3): two separate passes are another
algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor, grad, row_grad, stack_grad
from alikit.models import ALI, Discriminator
from alikit.nn import Pass
from alikit.ops._dispatch import kernel
from alikit.ops.loss import Losses


class Game(NamedTuple):
    """One forward pass: both losses on one graph, and the tensors on the way, for monitoring."""

    losses: Losses
    logits: Tensor
    z_hat: Tensor
    x_tilde: Tensor
    rebuilt: Tensor | None = None


def play(model: ALI, x: Any, how: Pass, *, rebuild: bool = False) -> Game:
    """One forward pass of the game (method 1.6, steps 1 to 4).

    x        (M, H, W, C) array of the model's dtype
    how      the pass; its counters give z, eps and the dropout masks
    rebuild  also decode z^: before z, since the running statistics are those of the decoder's last pass
    """
    data = Tensor(x)
    z = model.prior(len(x), how, like=x)
    z_hat = model.encode(data, how)
    rebuilt = model.decode(z_hat, how) if rebuild else None
    x_tilde = model.decode(z, how)
    logits = model.discriminator([data, x_tilde], [z_hat, z], how)
    return Game(ops.adversarial_losses(logits), logits, z_hat, x_tilde, rebuilt)


def gradients(
    game: Game, discriminator: Discriminator, theta_d: Sequence[Tensor], theta_g: Sequence[Tensor]
) -> tuple[list[Any], list[Any]]:
    """The gradients of L_D for D's parameters and of L_G for the generators', both at the old parameters (method 1.3).

    One walk through D serves both losses. A D without batch norm treats every pair by itself, so that each loss weighs
    the pairs by its own gradient at their logits (`autograd/rows.py`); through one with batch norm both gradients go
    stacked (`autograd/stack.py`). Two walks go on from x~ and z^ through the generators. The graph is released.
    """
    made = [game.x_tilde, game.z_hat]
    if discriminator.rows_independent:
        pairs = len(game.z_hat)  # data pairs, with z^, come first; sample pairs, with x~, behind them
        of_samples, of_data = slice(pairs, None), slice(pairs)
        grads_d, upstream = weighed_gradients(game.logits, game.losses, theta_d, made, [of_samples, of_data])
    else:
        grads_d, upstream = stack_grad(game.logits, game.losses.glogits, theta_d, made)
    through_x, through_z = grad(made, [theta_g, theta_g], gys=upstream)
    # a generators' parameter is the decoder's, behind x~, or the encoder's, behind z^
    return grads_d, [gx if gz is None else gz for gx, gz in zip(through_x, through_z, strict=True)]


def weighed_gradients(
    logits: Tensor, losses: Losses, theta_d: Sequence[Tensor], inputs: Sequence[Tensor], rows: Sequence[slice]
) -> tuple[list[Any], list[Any]]:
    """Of L_D for the parameters of a D that treats every row by itself, and of L_G for some of its inputs.

    rows   of the stack that each input has
    """
    of_d, of_g = losses.weights
    grads_d, units = row_grad(logits, theta_d, of_d, inputs, losses.units)
    return grads_d, [kernel("scale_rows", u)(u, of_g[part]) for u, part in zip(units, rows, strict=True)]
