"""A trained model in five lines: arrays in, arrays out, in evaluation mode.

model = alikit.load("runs/00000-svhn")
z = model.encode(x)            # (N, H, W, C) in [0, 1]  ->  (N, nz)
x = model.decode(z)            # (N, nz)  ->  (N, H, W, C)
x = model.reconstruct(x)       # decode(encode(x)), as in the paper
x = model.sample(64, seed=1)   # decodings of codes from the prior N(0, I)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alikit.autograd import Tensor, no_grad
from alikit.errors import DataError
from alikit.models import Generative
from alikit.nn import Pass
from alikit.training import runs, state
from alikit.training.config import Config

CHUNK = 100


class Model:
    """Encoder and decoder of a run.

    config   of the run;  step: training steps behind it;  averaged: whether the weights are the run's moving average
    shape    (H, W, C) of an input;  nz: size of a code
    """

    def __init__(self, networks: Generative, config: Config, step: int, averaged: bool):
        self.networks, self.config, self.step, self.averaged = networks, config, step, averaged
        self.shape, self.nz = networks.spec.image, networks.spec.nz

    def encode(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """Codes z ~ q(z | x), sampled as in the paper (method 1.4).

        x   (N, H, W, C), uint8 or floats in [0, 1];  seed: of the noise.  Returns z: (N, nz) float32.

        ValueError for a GAN, which has no encoder.
        """
        x = self._input(x)
        how = Pass(seed=seed)
        with no_grad():
            parts = [
                self.networks.encode(Tensor(x[a : a + CHUNK]), how._replace(step=a)).data
                for a in range(0, len(x), CHUNK)
            ]
        return _joined(parts, (0, self.nz)).reshape(len(x), self.nz)

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """mu and sigma of q(z | x): (N, nz) each. ValueError for an encoder that is not Gaussian (ALI's of points)."""
        x = self._input(x)
        with no_grad():
            pairs = [self.networks.code_parameters(Tensor(x[a : a + CHUNK]), Pass()) for a in range(0, len(x), CHUNK)]
        if None in pairs:
            raise ValueError("posterior: this run's encoder is not Gaussian; it has no mu and sigma")
        mu, sigma = (_joined([p[k] for p in pairs if p], (0, self.nz)).reshape(len(x), self.nz) for k in (0, 1))
        return mu, sigma

    def decode(self, z: np.ndarray) -> np.ndarray:
        """x~ of codes: (N, nz) -> (N, H, W, C) float32, images in [0, 1]."""
        z = np.asarray(z, np.float32)
        if z.ndim < 2 or math.prod(z.shape[1:]) != self.nz:
            raise ValueError(f"decode: z is {z.shape}, wanted (N, {self.nz})")
        z = z.reshape(-1, 1, 1, self.nz)
        with no_grad():
            parts = [self.networks.decode(Tensor(z[a : a + CHUNK]), Pass()).data for a in range(0, len(z), CHUNK)]
        return _joined(parts, (0, *self.shape))

    def reconstruct(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """decode(encode(x)): (N, H, W, C) -> (N, H, W, C)."""
        return self.decode(self.encode(x, seed))

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Decodings of `count` codes from N(0, I): (count, H, W, C)."""
        return self.decode(self.networks.prior(count, Pass(seed=seed)).data.reshape(count, self.nz))

    def _input(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"encode: x is {x.shape}, wanted (N, {', '.join(map(str, self.shape))})")
        if x.dtype == np.uint8:
            return x.astype(np.float32) / 255
        if self.shape[2] == 3 and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"encode: x lies in [{x.min():g}, {x.max():g}], wanted uint8, or floats in [0, 1]")
        return np.ascontiguousarray(x, np.float32)


def _joined(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(empty, np.float32)


def load(run: str | Path, warn: Callable[[str], object] = warnings.warn) -> Model:
    """The model of a run folder (its newest checkpoint that can be read) or of a checkpoint file.

    warn   is told of damaged checkpoints that were passed over

    DataError where there is none or it cannot be read.
    """
    path = runs.find_checkpoint(run, warn)
    saved = state.read(path)
    networks = state.build_model(saved.config)
    arrays, averaged = state.weights(saved)
    try:
        networks.load_state(arrays)
    except ValueError as error:
        raise DataError(f"{path}: does not hold the state of its model ({error})") from None
    return Model(networks, saved.config, saved.step, averaged)
