"""The players of the game: encoder q(z | x), decoder p(x | z), discriminator D(x, z) (paper, sections 2 and 3).

D is a tower on x, a tower on z and a head on both, channels of x first; it emits one logit a pair. The head of a
conditional model reads the condition's embedding as well, last (`conditional.py`). The Gaussian encoder emits mu and
log sigma; the mixture's encoder is a network of x and noise instead (method 1.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alikit import ops
from alikit.autograd import Tensor
from alikit.models.generative import Generative
from alikit.models.table import ModelSpec, build_network
from alikit.nn import BatchNormLeakyReLU, Module, Parameter, Pass, Sequential


class Discriminator(Module):
    """D(x, z): a logit for each pair, or one for each class of data (`ModelSpec.telling`)."""

    def __init__(self, spec: ModelSpec, seed: int, dtype: type):
        super().__init__()
        self.x, cx = build_network("discriminator.x", spec, spec.disc_x, spec.image, seed, dtype)
        self.z, cz = build_network("discriminator.z", spec, spec.disc_z, (1, 1, spec.nz), seed, dtype)
        self.xz, _ = build_network(
            "discriminator.xz", spec, spec.disc_xz, (1, 1, cx + cz + spec.embedding), seed, dtype
        )
        #: whether every logit depends on its own pair alone: no batch norm
        self.rows_independent = not any(isinstance(m, BatchNormLeakyReLU) for m in self.modules())

    def __call__(
        self, x: Tensor | Sequence[Tensor], z: Tensor | Sequence[Tensor], how: Pass, e: Tensor | None = None
    ) -> Tensor:
        """x: (N, H, W, C), z: (N, 1, 1, nz), each whole or in parts to be stacked -> logits (N, 1, 1, K).

        e: (N, 1, 1, E), the embedded conditions of a conditional model
        """
        towers = [run_stacked(self.x, x, how, noise=how.noise), run_stacked(self.z, z, how)]
        pairs = ops.join(towers if e is None else [*towers, e], axis=-1, dropout=self.xz.input_dropout(how))
        return self.xz(pairs, how, dropped=True)


def run_stacked(network: Sequential, x: Tensor | Sequence[Tensor], how: Pass, noise: Any = None) -> Tensor:
    """A network on x; where x comes in parts, they are stacked and dropped from in one go.

    noise   standard deviation of what is added to x first, or None
    """
    if noise is not None:
        x = x if isinstance(x, Tensor) else ops.join(x, axis=0)
        x = ops.add_noise(x, noise, how.stream("instance noise"))
    if isinstance(x, Tensor):
        return network(x, how)
    return network(ops.join(x, axis=0, dropout=network.input_dropout(how)), how, dropped=True)


class ALI(Generative):
    """Encoder, decoder and discriminator of one data set.

    spec   the tables;  seed: of the initial weights;  dtype: float32, or float64 for gradient checks
    """

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__(spec, seed=seed, dtype=dtype)
        self.discriminator = Discriminator(spec, seed, dtype)

    def discriminator_parameters(self) -> list[tuple[str, Parameter]]:
        """Named parameters of D, which move against L_D."""
        return list(self.discriminator.named_parameters("discriminator."))
