"""The players of the game: encoder q(z | x), decoder p(x | z), discriminator D(x, z) (paper, sections 2 and 3).

D is a tower on x, a tower on z and a head on both, channels of x first; it emits one logit a pair. The Gaussian
encoder emits mu and log sigma; the mixture's encoder is a network of x and noise instead (method 1.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.models.table import ModelSpec, build_network
from alikit.nn import BatchNormLeakyReLU, Module, Parameter, Pass, Sequential, update_statistics
from alikit.ops._dispatch import kernel


class Discriminator(Module):
    """D(x, z): a logit for each pair."""

    def __init__(self, spec: ModelSpec, seed: int, dtype: type):
        super().__init__()
        self.x, cx = build_network("discriminator.x", spec, spec.disc_x, spec.image, seed, dtype)
        self.z, cz = build_network("discriminator.z", spec, spec.disc_z, (1, 1, spec.nz), seed, dtype)
        self.xz, _ = build_network("discriminator.xz", spec, spec.disc_xz, (1, 1, cx + cz), seed, dtype)
        #: whether every logit depends on its own pair alone: no batch norm
        self.rows_independent = not any(isinstance(m, BatchNormLeakyReLU) for m in self.modules())

    def __call__(self, x: Tensor | Sequence[Tensor], z: Tensor | Sequence[Tensor], how: Pass) -> Tensor:
        """x: (N, H, W, C), z: (N, 1, 1, nz), each whole or in parts to be stacked -> logits (N, 1, 1, 1)."""
        towers = [_run(tower, part, how) for tower, part in ((self.x, x), (self.z, z))]
        pairs = ops.join(towers, axis=-1, dropout=self.xz.input_dropout(how))
        return self.xz(pairs, how, dropped=True)


def _run(network: Sequential, x: Tensor | Sequence[Tensor], how: Pass) -> Tensor:
    """A tower on x; where x comes in parts, they are stacked and dropped from in one go."""
    if isinstance(x, Tensor):
        return network(x, how)
    return network(ops.join(x, axis=0, dropout=network.input_dropout(how)), how, dropped=True)


class ALI(Module):
    """Encoder, decoder and discriminator of one data set.

    spec   the tables;  seed: of the initial weights;  dtype: float32, or float64 for gradient checks
    """

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__()
        self.spec, self.dtype = spec, dtype
        h, w, c = spec.image
        self.encoder, _ = build_network("encoder", spec, spec.encoder, (h, w, c + spec.noise), seed, dtype)
        self.decoder, _ = build_network("decoder", spec, spec.decoder, (1, 1, spec.nz), seed, dtype)
        if (spec.decoder[-1].size, spec.decoder[-1].maps) != (h, c):
            raise ValueError(f"{spec.name}: the decoder ends with {spec.decoder[-1].size} pixels, images have {h}")
        self.discriminator = Discriminator(spec, seed, dtype)
        self._norms = tuple(m for m in self.modules() if isinstance(m, BatchNormLeakyReLU))

    def prior(self, count: int, how: Pass, like: Any = None) -> Tensor:
        """Codes from N(0, I): (count, 1, 1, nz), on the device of the array `like`."""
        draw = kernel("normal", np.empty(0) if like is None else like)
        return Tensor(draw((count, 1, 1, self.spec.nz), how.stream("prior"), self.dtype))

    def encode(self, x: Tensor, how: Pass) -> Tensor:
        """Sampled codes z^ ~ q(z | x): (N, 1, 1, nz), differentiable (paper, section 2)."""
        if self.spec.noise:
            shape = (*x.shape[:-1], self.spec.noise)
            eps = Tensor(kernel("normal", x.data)(shape, how.stream("eps"), self.dtype))
            return self.encoder(ops.join([x, eps], axis=-1), how)
        return ops.gaussian_sample(self.encoder(x, how), how.stream("eps"))

    def code_parameters(self, x: Tensor, how: Pass) -> tuple[Any, Any] | None:
        """mu and sigma of q(z | x), each (N, 1, 1, nz) arrays; None where the encoder is not Gaussian."""
        if self.spec.noise:
            return None
        params = self.encoder(x, how).data
        return params[..., : self.spec.nz], np.exp(params[..., self.spec.nz :])

    def decode(self, z: Tensor, how: Pass) -> Tensor:
        """x~ of p(x | z), deterministic: (N, 1, 1, nz) -> (N, H, W, C)."""
        return self.decoder(z, how)

    def generator_parameters(self) -> list[tuple[str, Parameter]]:
        """Named parameters of encoder and decoder, which move against L_G."""
        return [*self.encoder.named_parameters("encoder."), *self.decoder.named_parameters("decoder.")]

    def discriminator_parameters(self) -> list[tuple[str, Parameter]]:
        """Named parameters of D, which move against L_D."""
        return list(self.discriminator.named_parameters("discriminator."))

    def start_at_mean_image(self, images: Any) -> None:
        """Sets the decoder's untied output bias to the log-odds of the mean of images: (N, H, W, C) in [0, 1].

        So the first outputs are about the mean image (method 3.2). Nothing happens for a decoder without that bias.
        """
        bias = self.decoder.layers[-1].conv.bias
        if bias is None or bias.ndim != 3:
            return
        mean = np.clip(np.mean(images, axis=0, dtype=np.float64), 1e-7, 1 - 1e-7)
        bias.data[...] = np.log(mean / (1 - mean))

    def update_statistics(self) -> None:
        """Folds the batch statistics of the last training pass into the running ones (method 3.3)."""
        update_statistics(self._norms)
