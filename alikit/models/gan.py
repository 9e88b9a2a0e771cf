"""A GAN, and two ways to learn inference for it afterwards: the paper's comparison on the mixture (method 5.1, 5.2).

The GAN's decoder is ALI's. Its discriminator is ALI's without the code: the tower on x and the head, which reads that
tower's channels alone; on the mixture these are the authors' own (2 inputs, 405,201 parameters).

`InverseMapping` and `PostHoc` hold a GAN's decoder that stays as it is: it runs with its population statistics, so that
what they learn to encode is what the GAN run itself generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from alikit.autograd import Tensor, no_grad
from alikit.models.ali import ALI, run_stacked
from alikit.models.generative import Generative, pointwise
from alikit.models.table import ModelSpec, build_network
from alikit.nn import BatchNormLeakyReLU, Module, Parameter, Pass


class ImageDiscriminator(Module):
    """D(x): a logit for each image."""

    def __init__(self, spec: ModelSpec, seed: int, dtype: type):
        super().__init__()
        self.x, cx = build_network("discriminator.x", spec, spec.disc_x, spec.image, seed, dtype)
        self.xz, _ = build_network("discriminator.xz", spec, spec.disc_xz, (1, 1, cx), seed, dtype)
        #: whether every logit depends on its own image alone: no batch norm
        self.rows_independent = not any(isinstance(m, BatchNormLeakyReLU) for m in self.modules())

    def __call__(self, x: Tensor | Sequence[Tensor], how: Pass) -> Tensor:
        """x: (N, H, W, C), whole or in parts to be stacked -> logits (N, 1, 1, 1)."""
        return self.xz(run_stacked(self.x, x, how, noise=how.noise), how)


class GAN(Generative):
    """Decoder and D(x) of one data set; arguments as for `ALI`."""

    encodes = False
    trained = ("decoder",)

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__(spec, seed=seed, dtype=dtype)
        self.discriminator = ImageDiscriminator(spec, seed, dtype)

    def encode(self, x: Tensor, how: Pass) -> NoReturn:
        """ValueError: nothing here maps images to codes."""
        raise ValueError("encode: a GAN has no encoder")

    def code_parameters(self, x: Tensor, how: Pass) -> NoReturn:
        """ValueError: nothing here maps images to codes."""
        raise ValueError("code_parameters: a GAN has no encoder")

    def discriminator_parameters(self) -> list[tuple[str, Parameter]]:
        """Named parameters of D, which move against L_D."""
        return list(self.discriminator.named_parameters("discriminator."))


class Frozen(Generative):
    """A model whose decoder came from elsewhere and stays as it is."""

    trained = ("encoder",)

    def decode(self, z: Tensor, how: Pass) -> Tensor:
        """x~ as the GAN's run generates it: population statistics always, no gradients."""
        with no_grad():
            return super().decode(z, how._replace(training=False))


class InverseMapping(Frozen):
    """A frozen decoder and a deterministic encoder of x, to be its inverse; arguments as for `ALI`.

    ALI's encoder without what makes it stochastic: least squares (method 5.1) would only learn to ignore the noise.
    """

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__(pointwise(spec), seed=seed, dtype=dtype)

    def encode(self, x: Tensor, how: Pass) -> Tensor:
        """z^ = Gz(x): (N, H, W, C) -> (N, 1, 1, nz)."""
        return self.encoder(x, how)

    def code_parameters(self, x: Tensor, how: Pass) -> None:
        """None: the encoder is not Gaussian."""

    def see(self, x: Tensor, how: Pass) -> None:
        """As in training, the encoder sees samples, no data."""
        self.encode(self.decode(self.prior(len(x), how, like=x.data), how), how)


class PostHoc(Frozen, ALI):
    """A frozen decoder with ALI's encoder and a fresh D(x, z), the only ones to move; arguments as for `ALI`."""
