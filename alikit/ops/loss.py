"""The two losses of the adversarial games on one batch of logits (paper eq. 4, method 1.2, 1.7), gradients ready."""

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
    figures         (F,) array: L_D, L_G, with classes the labelled pairs' cross-entropy, D's mean probability of
                    "data" on data pairs and on sample pairs, with classes the share of labelled pairs that D classifies
                    rightly
    glogits         (2, *logits' shape) array: the gradient of L_D there, then that of L_G
    weights         (2, N, 1, ...) array: each loss's gradient for a number of each row's own, here its logit
    units           that number's gradient at the row's logits, None for ones
    """

    loss_d: Tensor
    loss_g: Tensor
    figures: Any
    glogits: Any
    weights: Any
    units: Any = None


def adversarial_losses(logits: Tensor) -> Losses:
    """L_D and L_G from logits: (2M, 1, ...), the data pairs' rows first, then the sample pairs'."""
    fn = AdversarialLosses()
    loss_d, loss_g = fn(logits)
    return Losses(loss_d, loss_g, fn.figures, fn.glogits, fn.glogits)


class ClassLosses(AdversarialLosses):
    """As `AdversarialLosses`, of K logits a row."""

    def __init__(self, labels: Any):
        self.labels = labels

    def forward(self, logits: Any) -> Any:
        result = kernel("class_losses", logits)(logits, self.labels)
        self.figures, self.glogits, self.units, self.weights = result
        return result.loss_d, result.loss_g


def class_losses(logits: Tensor, labels: Any) -> Losses:
    """L_D and L_G of a D that tells K classes of data and samples apart (method 1.7).

    logits   (2M + L, 1, ..., K): M data pairs, L labelled data pairs, M sample pairs
    labels   (L, 1, ..., K) array, where the logits' array lies: the classes of the labelled pairs, one-hot

    A row's own number is Z = log sum_k exp(l_k), for a labelled pair its cross-entropy Z - l_y.
    """
    fn = ClassLosses(labels)
    loss_d, loss_g = fn(logits)
    return Losses(loss_d, loss_g, fn.figures, fn.glogits, fn.weights, fn.units)
