"""The two losses of the adversarial game on one batch of logits (paper eq. 4, method 1.2), both gradients ready."""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit.autograd import Function, Tensor
from alikit.ops._dispatch import kernel


class AdversarialLosses(Function):
    """Outputs L_D and L_G; backward scales the gradients that the forward kernel computed along."""

    def forward(self, logits: Any) -> Any:
        result = kernel("adversarial_losses", logits)(logits)
        self.figures, self.glogits = result.losses, result.glogits
        return result.loss_d, result.loss_g

    def backward(self, gd: Any, gg: Any) -> Any:
        of_d, of_g = self.glogits
        if gg is None:
            return gd * of_d
        return gg * of_g if gd is None else gd * of_d + gg * of_g


class Losses(NamedTuple):
    """Both losses of a batch.

    loss_d, loss_g  scalar Tensors
    figures         (4,) array: L_D, L_G, D's mean probability of "data" on the data half and on the sample half
    glogits         (2, *logits' shape) array: the gradient of L_D there, then that of L_G
    """

    loss_d: Tensor
    loss_g: Tensor
    figures: Any
    glogits: Any


def adversarial_losses(logits: Tensor) -> Losses:
    """L_D and L_G from logits: (2M, 1, ...), the data pairs' rows first, then the sample pairs'."""
    fn = AdversarialLosses()
    loss_d, loss_g = fn(logits)
    return Losses(loss_d, loss_g, fn.figures, fn.glogits)
