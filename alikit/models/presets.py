"""Every network by name."""

from __future__ import annotations

import numpy as np

from alikit.models.ali import ALI
from alikit.models.celeba import CELEBA, CELEBA_PAPER
from alikit.models.cifar10 import CIFAR10, CIFAR10_PAPER, CIFAR10_UNTIED
from alikit.models.mixture import MIXTURE, MIXTURE_DROPOUT
from alikit.models.small import SMALL
from alikit.models.svhn import SVHN
from alikit.models.table import ModelSpec
from alikit.models.tiny_imagenet import TINY_IMAGENET

SPECS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        SVHN,
        CIFAR10,
        CIFAR10_UNTIED,
        CIFAR10_PAPER,
        CELEBA,
        CELEBA_PAPER,
        TINY_IMAGENET,
        MIXTURE,
        MIXTURE_DROPOUT,
        SMALL,
    )
}


def build(name: str, *, seed: int = 0, width: float = 1.0, nz: int | None = None, dtype: type = np.float32) -> ALI:
    """The networks `name`, with fresh weights.

    seed    of the initial weights
    width   factor on the maps of every hidden layer;  nz: size of the code, the table's by default

    ValueError for an unknown name.
    """
    if name not in SPECS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(SPECS)}")
    spec = SPECS[name]
    return ALI(spec if width == 1.0 and nz is None else spec.resized(width, nz), seed=seed, dtype=dtype)
