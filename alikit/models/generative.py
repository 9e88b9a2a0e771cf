"""What all models share: a decoder p(x | z), codes from the prior N(0, I), and, but for a GAN, an encoder q(z | x).

The encoder comes in three kinds (method 1.4, 5.1): Gaussian, emitting mu and log sigma; for ALI's mixture a network of
[x, eps]; and a plain function, for the learned inverse mapping. `gaussian` and `pointwise` turn the tables of one kind
into those of another: the hidden layers stay, the input and the output change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.models.table import ModelSpec, build_network
from alikit.nn import BatchNormLeakyReLU, Module, Parameter, Pass, update_statistics
from alikit.ops._dispatch import array_module, kernel


def gaussian(spec: ModelSpec) -> ModelSpec:
    """The tables with an encoder of x alone that emits mu and log sigma."""
    return replace(spec, noise=0, encoder=_ending_in(spec, 2 * spec.nz))


def pointwise(spec: ModelSpec) -> ModelSpec:
    """The tables with an encoder of x alone that emits z itself."""
    return replace(spec, noise=0, encoder=_ending_in(spec, spec.nz))


def _ending_in(spec: ModelSpec, maps: int) -> tuple:
    return (*spec.encoder[:-1], spec.encoder[-1]._replace(maps=maps))


class Generative(Module):
    """Encoder and decoder made from the tables of one data set.

    spec     the tables;  seed: of the initial weights;  dtype: float32, or float64 for gradient checks
    encodes  whether there is an encoder
    trained  the networks that move to please the generators' loss; any other is frozen
    """

    encodes = True
    trained: tuple[str, ...] = ("encoder", "decoder")

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__()
        self.spec, self.dtype = spec, dtype
        h, w, c = spec.image
        if self.encodes:
            image = (h, w, c + spec.noise)
            self.encoder, _ = build_network("encoder", spec, spec.encoder, image, seed, dtype, joined=spec.embedding)
        self.decoder, _ = build_network("decoder", spec, spec.decoder, (1, 1, spec.nz + spec.embedding), seed, dtype)
        if (spec.decoder[-1].size, spec.decoder[-1].maps) != (h, c):
            raise ValueError(f"{spec.name}: the decoder ends with {spec.decoder[-1].size} pixels, images have {h}")

    def prior(self, count: int, how: Pass, like: Any = None) -> Tensor:
        """Codes from N(0, I): (count, 1, 1, nz), on the device and of the dtype of the array `like`, by default of the
        model's weights."""
        like = self.decoder.layers[0].conv.weight.data if like is None else like
        return Tensor(kernel("normal", like)((count, 1, 1, self.spec.nz), how.stream("prior"), like.dtype))

    def encode(self, x: Tensor, how: Pass) -> Tensor:
        """Sampled codes z^ ~ q(z | x): (N, 1, 1, nz), differentiable (paper, section 2)."""
        if self.spec.noise:
            shape = (*x.shape[:-1], self.spec.noise)
            eps = Tensor(kernel("normal", x.data)(shape, how.stream("eps"), x.dtype))
            return self.encoder(ops.join([x, eps], axis=-1), how)
        return ops.gaussian_sample(self.encoder(x, how), how.stream("eps"), x.dtype)

    def code_parameters(self, x: Tensor, how: Pass) -> tuple[Any, Any] | None:
        """mu and sigma of q(z | x), each (N, 1, 1, nz) arrays; None where the encoder is not Gaussian."""
        if self.spec.noise:
            return None
        params = self.encoder(x, how).data
        return params[..., : self.spec.nz], np.exp(params[..., self.spec.nz :])

    def decode(self, z: Tensor, how: Pass) -> Tensor:
        """x~ of p(x | z), deterministic: (N, 1, 1, nz) -> (N, H, W, C)."""
        return self.decoder(z, how)

    def see(self, x: Tensor, how: Pass) -> None:
        """Runs each trained network once, as a training step does, for the sake of its batch statistics."""
        if "encoder" in self.trained:
            self.encode(x, how)
        if "decoder" in self.trained:
            self.decode(self.prior(len(x), how, like=x.data), how)

    def generator_parameters(self) -> list[tuple[str, Parameter]]:
        """Named parameters of the trained networks among encoder and decoder."""
        return [pair for name in self.trained for pair in getattr(self, name).named_parameters(f"{name}.")]

    def start_at_mean_image(self, images: Any) -> None:
        """Sets the decoder's untied output bias to the log-odds of the mean of images: (N, H, W, C) in [0, 1].

        So the first outputs are about the mean image (method 3.2). Nothing happens for a decoder without that bias.
        """
        bias = self.decoder.layers[-1].conv.bias
        if bias is None or bias.ndim != 3:
            return
        mean = np.clip(np.mean(images, axis=0, dtype=np.float64), 1e-7, 1 - 1e-7)
        odds = np.log(mean / (1 - mean)).astype(bias.master.dtype)
        bias.master[...] = array_module(bias.master).asarray(odds)
        bias.refresh()

    def update_statistics(self) -> None:
        """Folds the batch statistics of the last training pass into the running ones (method 3.3)."""
        update_statistics([m for m in self.modules() if isinstance(m, BatchNormLeakyReLU)])
