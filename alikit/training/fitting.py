"""The games without a discriminator: one player fits one loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alikit import ops
from alikit.autograd import Tensor, grad
from alikit.backend import array_module
from alikit.models import VAE, InverseMapping
from alikit.nn import Pass
from alikit.training.games import Batch, Moves, Players

#: variance of rounding to 8 bits: the VAE's likelihood is never narrower
ROUNDING = 1 / (12 * 255**2)


class Regression(NamedTuple):
    """What one step of the inverse mapping showed: its loss and the Euclidean norm of the gradient."""

    loss: float
    grad_norm_g: float


class InverseRules:
    """E |z - Gz(Gx(z))|^2 for a frozen Gx (method 5.1). Of the data nothing but the batch's size is used."""

    result = Regression

    def __init__(self, model: InverseMapping):
        self.model = model

    def players(self) -> Players:
        return {"g": self.model.generator_parameters()}

    def play(self, batch: Batch, how: Pass) -> Tensor:
        x = batch.x
        z = self.model.prior(len(x), how, like=x)
        gap = ops.sub(z, self.model.encode(self.model.decode(z, how), how))
        return ops.mul(ops.sum(ops.mul(gap, gap)), 1 / len(x))

    def figures(self, played: Tensor) -> Any:
        return played.data.reshape(1)

    def gradients(self, played: Tensor, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        return {"g": grad([played], [parameters["g"]])[0]}

    def show(self, result: Regression) -> str:
        return f"|z - Gz(Gx(z))|^2 {result.loss:.4f}"


class Bound(NamedTuple):
    """What one step of a VAE showed, in nats an image.

    loss          nll + kl, the negative of the bound
    nll           -log p(x | z);  kl: from q(z | x) to the prior
    sigma         deviation of the likelihood
    grad_norm_g   Euclidean norm of the gradient
    """

    loss: float
    nll: float
    kl: float
    sigma: float
    grad_norm_g: float


class VaeGame(NamedTuple):
    """One forward pass of a VAE; objective: what is minimised; variance: of the likelihood."""

    objective: Tensor
    nll: Tensor
    kl: Tensor
    variance: Any


class VaeRules:
    """Minimises -log p(x | z) + KL(q(z | x) | N(0, I)) with p(x | z) = N(decode(z), sigma^2 I) (method 5.3).

    sigma^2 is the batch's mean squared error, which makes the batch likeliest (Rybkin et al. 2021): no weight of one
    term against the other is left to choose, and images, whose decoder ends in a sigmoid, and points are treated alike.

    warm_up   steps in which the KL term's weight rises from 0 to 1 (Bowman et al. 2016), so that the codes are worth
              their price before it is asked in full; 0: none
    """

    result = Bound

    def __init__(self, model: VAE, warm_up: int = 0):
        self.model, self.warm_up = model, warm_up

    def players(self) -> Players:
        return {"g": self.model.generator_parameters()}

    def play(self, batch: Batch, how: Pass) -> VaeGame:
        x = batch.x
        codes, nz = self.model.encoder(Tensor(x), how), self.model.spec.nz
        z = ops.gaussian_sample(codes, how.stream("eps"))
        mu, log_sigma = ops.getitem(codes, (..., slice(nz))), ops.getitem(codes, (..., slice(nz, None)))
        gap = ops.sub(self.model.decode(z, how), x)
        variance = ops.add(ops.mean(ops.mul(gap, gap)), ROUNDING)
        kl = kl_to_normal(mu, log_sigma)
        nll = ops.mul(ops.add(ops.log(variance), 1 + math.log(2 * math.pi)), x[0].size / 2)
        return VaeGame(ops.add(nll, ops.mul(kl, self._weight(how.step, kl.dtype))), nll, kl, variance.data)

    def _weight(self, step: Any, dtype: Any) -> Any:
        """The KL term's, at a step counted from 0, or read from a device's clock [seed, step, updates]."""
        if self.warm_up == 0:
            return 1.0
        if isinstance(step, int):
            return min(1.0, (step + 1) / self.warm_up)
        return array_module(step).minimum(1.0, (step[1] + 1) / self.warm_up).astype(dtype)

    def figures(self, played: VaeGame) -> Any:
        nll, kl = played.nll.data, played.kl.data
        return array_module(nll).stack([nll + kl, nll, kl, played.variance**0.5])

    def gradients(self, played: VaeGame, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        return {"g": grad([played.objective], [parameters["g"]])[0]}

    def show(self, result: Bound) -> str:
        return f"-bound {result.loss:.2f}  KL {result.kl:.2f}  sigma {result.sigma:.3f}"


def kl_to_normal(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) | N(0, I)) = sum of (mu^2 + sigma^2 - 1) / 2 - log sigma, mean over rows; both (N, ..., nz)."""
    squares = ops.add(ops.mul(mu, mu), ops.exp(ops.mul(log_sigma, 2.0)))
    each = ops.sub(ops.mul(ops.sub(squares, 1.0), 0.5), log_sigma)
    return ops.mul(ops.sum(each), 1 / len(mu))
