"""ALI given a condition y, classes or attributes (paper, section 4.4; method 7).

One linear embedding e = W y + b serves all three players. It joins the channels that the encoder's last layer reads,
the code at the decoder's input, and the channels that D's head reads. A condition belongs to a row of the batch: its
data pair and its sample pair have the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.models.ali import ALI
from alikit.models.table import ModelSpec
from alikit.nn import Convolution, Layer, Pass

#: size of the embedding: the authors' code
EMBEDDING = 256


class ConditionalALI(ALI):
    """Encoder, decoder, discriminator and embedding of one data set; arguments as for `ALI`.

    spec   the tables, `conditioned`

    ValueError for tables without conditions, or whose encoder has nowhere to join them.
    """

    trained = ("encoder", "decoder", "embedding")

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        if (
            not (spec.conditions and spec.embedding)
            or spec.noise
            or len(spec.encoder) < 2
            or spec.encoder[-2].size != 1
        ):
            raise ValueError(f"{spec.name}: no conditional model: conditions join a Gaussian encoder's last 1x1 layer")
        super().__init__(spec, seed=seed, dtype=dtype)
        sizes = ((1, 1, spec.conditions), (1, 1, spec.embedding))
        self.embedding = Layer(
            Convolution("embedding", sizes, (1, 1), 1, bias="tied", std=spec.std, seed=seed, dtype=dtype)
        )

    def embed(self, y: Tensor, how: Pass) -> Tensor:
        """e = W y + b: (N, 1, 1, A) -> (N, 1, 1, E)."""
        return self.embedding(y, how)

    def encode_given(self, x: Tensor, e: Tensor, how: Pass) -> Tensor:
        """z^ ~ q(z | x, y), with y embedded: (N, H, W, C), (N, 1, 1, E) -> (N, 1, 1, nz)."""
        return ops.gaussian_sample(self._parameters(x, e, how), how.stream("eps"), x.dtype)

    def decode_given(self, z: Tensor, e: Tensor, how: Pass) -> Tensor:
        """x~ of p(x | z, y), with y embedded: (N, 1, 1, nz), (N, 1, 1, E) -> (N, H, W, C)."""
        return self.decoder(ops.join([z, e], axis=-1), how)

    def encode(self, x: Tensor, how: Pass, y: Tensor | None = None) -> Tensor:
        """z^ ~ q(z | x, y): (N, H, W, C), (N, 1, 1, A) -> (N, 1, 1, nz)."""
        return self.encode_given(x, self.embed(_needed(y), how), how)

    def code_parameters(self, x: Tensor, how: Pass, y: Tensor | None = None) -> tuple[Any, Any]:
        """mu and sigma of q(z | x, y), each (N, 1, 1, nz) arrays."""
        params = self._parameters(x, self.embed(_needed(y), how), how).data
        return params[..., : self.spec.nz], np.exp(params[..., self.spec.nz :])

    def decode(self, z: Tensor, how: Pass, y: Tensor | None = None) -> Tensor:
        """x~ of p(x | z, y): (N, 1, 1, nz), (N, 1, 1, A) -> (N, H, W, C)."""
        return self.decode_given(z, self.embed(_needed(y), how), how)

    def see(self, x: Tensor, how: Pass, y: Tensor | None = None) -> None:
        """As in training, encoder and decoder are given the same conditions."""
        self.encode(x, how, y)
        self.decode(self.prior(len(x), how, like=x.data), how, y)

    def _parameters(self, x: Tensor, e: Tensor, how: Pass) -> Tensor:
        """mu and log sigma, (N, 1, 1, 2 nz)."""
        *hidden, last = self.encoder.layers
        for layer in hidden:
            x = layer(x, how)
        return last(ops.join([x, e], axis=-1), how)


def _needed(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("a conditional model was given no condition y")
    return y
