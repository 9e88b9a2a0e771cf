"""A trained model in five lines: arrays in, arrays out, in evaluation mode.

model = alikit.load("runs/00000-svhn")
z = model.encode(x)            # (N, H, W, C) in [0, 1]  ->  (N, nz)
x = model.decode(z)            # (N, nz)  ->  (N, H, W, C)
x = model.reconstruct(x)       # decode(encode(x)), as in the paper
x = model.sample(64, seed=1)   # decodings of codes from the prior N(0, I)
x = model.interpolate(a, b)    # decodings along the path from a's codes to b's
f = model.features(x)          # (N, 5376) for SVHN: what the paper's SVM is given

A conditional run's methods also want y, labels as its data set gives them: `model.decode(z, y=[3, 3, 8])`, or y=3 for
all; of CelebA rows of 40 attributes, of which a single one serves all too.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from alikit.autograd import Tensor, no_grad
from alikit.data import LABELS, Dataset
from alikit.errors import DataError, UsageError
from alikit.models import Generative, hidden
from alikit.models.hidden import Examined
from alikit.nn import Pass
from alikit.training import conditions, labels, runs, state
from alikit.training.config import Config

CHUNK = 100
HIDDEN_LAYERS = 3  # of the encoder, counted from its end, whose outputs are features (method 6.1)
TOWER_LAYERS = 2  # of D's tower on x
PATHS = ("linear", "spherical")


class Model:
    """Encoder and decoder of a run.

    config   of the run;  step: training steps behind it;  averaged: whether the weights are the run's moving average
    shape    (H, W, C) of an input, (1, 1, 2) for a point of the mixture, of which (N, 2) are taken too;  nz: size of a
             code
    labels   names of the classes or attributes that a conditional run is given, else none
    data_checksum   of what it was trained on, "" where that is unknown
    """

    def __init__(self, networks: Generative, config: Config, step: int, averaged: bool, data_checksum: str = ""):
        self.networks, self.config, self.step, self.averaged = networks, config, step, averaged
        self.data_checksum = data_checksum
        self.shape, self.nz = networks.spec.image, networks.spec.nz
        self.labels = LABELS[config.dataset] if config.conditional else ()

    def encode(self, x: np.ndarray, seed: int = 0, y: ArrayLike | None = None) -> np.ndarray:
        """Codes z ~ q(z | x), sampled as in the paper (method 1.4); of a conditional run q(z | x, y).

        x   (N, H, W, C), uint8 or floats in [0, 1];  seed: of the noise.  Returns z: (N, nz) float32.

        ValueError for a GAN, which has no encoder.
        """
        x = self._input(x)
        how, given = Pass(seed=seed), self._given(y, len(x))
        with no_grad():
            parts = [
                self.networks.encode(Tensor(x[a : a + CHUNK]), how._replace(step=a), *given(a)).data
                for a in range(0, len(x), CHUNK)
            ]
        return _joined(parts, (0, self.nz)).reshape(len(x), self.nz)

    def posterior(self, x: np.ndarray, y: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
        """mu and sigma of q(z | x): (N, nz) each. ValueError for an encoder that is not Gaussian (ALI's of points)."""
        x = self._input(x)
        given, networks = self._given(y, len(x)), self.networks
        with no_grad():
            pairs = [
                networks.code_parameters(Tensor(x[a : a + CHUNK]), Pass(), *given(a)) for a in range(0, len(x), CHUNK)
            ]
        if None in pairs:
            raise ValueError("posterior: this run's encoder is not Gaussian; it has no mu and sigma")
        mu, sigma = (_joined([p[k] for p in pairs if p], (0, self.nz)).reshape(len(x), self.nz) for k in (0, 1))
        return mu, sigma

    @property
    def gaussian(self) -> bool:
        """Whether there is an encoder, and it gives mu and sigma."""
        spec = self.networks.spec
        return self.networks.encodes and not spec.noise and spec.encoder[-1].maps == 2 * self.nz

    def examine(self, x: np.ndarray, seed: int = 0, first: int = 0) -> Examined:
        """Everything that one pass through a Gaussian encoder gives. ValueError without one, or without images.

        seed    of the noise;  first: the place of x[0] in a longer list that comes in pieces, a multiple of CHUNK, so
                that z is what `encode` would make of the whole list
        """
        if not self.gaussian:
            raise ValueError("examine: this run has no Gaussian encoder, no mu and sigma")
        if self.labels:
            raise ValueError("examine: this run is conditional; encode and posterior take its conditions")
        x, how = self._input(x), Pass(seed=seed)
        if not len(x):
            raise ValueError("examine: there are no images")
        rows = []
        with no_grad():
            for a in range(0, len(x), CHUNK):
                part = Tensor(x[a : a + CHUNK])
                rows.append(hidden.examine(self.networks, part, how._replace(step=first + a), HIDDEN_LAYERS))
        return Examined(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def features(self, x: np.ndarray, seed: int = 0, code: str = "sample") -> np.ndarray:
        """The paper's features for few labels (method 6.1): (N, nz + F), 5376 numbers an image for SVHN.

        The encoder's output, then its last three hidden layers before the leaky ReLU, with population statistics.

        code   the output: "sample", z ~ q(z | x), as the authors' code has it, or "mu"; else ValueError
        """
        if code not in ("sample", "mu"):
            raise ValueError(f"features: code is {code!r}; wanted 'sample' or 'mu'")
        found = self.examine(x, seed)
        return np.concatenate([found.mu if code == "mu" else found.z, found.hidden], axis=1)

    def discriminator_features(self, x: np.ndarray) -> np.ndarray:
        """The last two layers of D's tower on x, before the leaky ReLU (after maxout): (N, F), 4608 for SVHN.

        ValueError for a run without D or with points, which D sees without a tower, or without images.
        """
        discriminator = getattr(self.networks, "discriminator", None)
        if discriminator is None:
            raise ValueError("discriminator_features: this run has no discriminator")
        x, layers, parts = self._input(x), discriminator.x.layers, []
        if not layers:
            raise ValueError("discriminator_features: this run's discriminator has no tower on x, but sees it as it is")
        if not len(x):
            raise ValueError("discriminator_features: there are no images")
        with no_grad():
            for a in range(0, len(x), CHUNK):
                kept, _ = hidden.walk(layers, Tensor(x[a : a + CHUNK]), Pass(), TOWER_LAYERS)
                parts.append(np.concatenate(kept, axis=1))
        return np.concatenate(parts)

    def classify(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """D's logits for the K classes of a run with labels (method 1.7): (N, H, W, C) -> (N, K) float32.

        ValueError for a run without labels.
        """
        if self.config.labels is None:
            raise ValueError("classify: this run was trained without --labels; its D knows no classes")
        x, how = self._input(x), Pass(seed=seed)
        with no_grad():
            parts = [
                labels.class_logits(self.networks, Tensor(x[a : a + CHUNK]), how._replace(step=a))
                for a in range(0, len(x), CHUNK)
            ]
        return _joined(parts, (0, self.networks.spec.disc_xz[-1].maps))

    def decode(self, z: np.ndarray, y: ArrayLike | None = None) -> np.ndarray:
        """x~ of codes: (N, nz) -> (N, H, W, C) float32, images in [0, 1]."""
        z = np.asarray(z, np.float32)
        if z.ndim < 2 or math.prod(z.shape[1:]) != self.nz:
            raise ValueError(f"decode: z is {z.shape}, wanted (N, {self.nz})")
        z = z.reshape(-1, 1, 1, self.nz)
        given, networks = self._given(y, len(z)), self.networks
        with no_grad():
            parts = [networks.decode(Tensor(z[a : a + CHUNK]), Pass(), *given(a)).data for a in range(0, len(z), CHUNK)]
        return _joined(parts, (0, *self.shape))

    def reconstruct(self, x: np.ndarray, seed: int = 0, y: ArrayLike | None = None) -> np.ndarray:
        """decode(encode(x)): (N, H, W, C) -> (N, H, W, C)."""
        return self.decode(self.encode(x, seed, y), y)

    def sample(self, count: int, seed: int = 0, y: ArrayLike | None = None) -> np.ndarray:
        """Decodings of `count` codes from N(0, I): (count, H, W, C)."""
        return self.decode(self.prior(count, seed), y)

    def prior(self, count: int, seed: int = 0) -> np.ndarray:
        """`count` codes from N(0, I): (count, nz)."""
        return self.networks.prior(count, Pass(seed=seed)).data.reshape(count, self.nz)

    def interpolate(
        self, a: np.ndarray, b: np.ndarray, steps: int = 12, path: str = "linear", seed: int = 0
    ) -> np.ndarray:
        """Decodings of `steps` codes from those of images a to those of b, both ends included (method 6.2).

        a, b   (N, H, W, C), uint8 or floats in [0, 1];  path: see `between`;  seed: of both codes' noise

        Returns (N, steps, H, W, C). ValueError for a conditional run.
        """
        if self.labels:
            raise ValueError("interpolate: this run is conditional; decode codes `between` two with a y of your choice")
        z = self.encode(np.concatenate([a, b]), seed)
        codes = between(z[: len(a)], z[len(a) :], steps, path)
        return self.decode(codes.reshape(-1, self.nz)).reshape(len(a), steps, *self.shape)

    def _given(self, y: ArrayLike | None, count: int) -> Callable[[int], tuple[Tensor, ...]]:
        """The conditions of the rows from a place on, a chunk of them, as the networks' further argument."""
        if not self.labels:
            if y is not None:
                raise ValueError("y: this run is not conditional")
            return lambda start: ()
        if y is None:
            raise ValueError(f"y is missing: this run is conditional, on {', '.join(self.labels[:3])}, ...")
        rows = conditions.as_input(self.config.dataset, y, count)
        return lambda start: (Tensor(rows[start : start + CHUNK]),)

    def _input(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[1:] == self.shape[2:] and self.shape[:2] == (1, 1):  # points as their data set gives them
            x = x[:, None, None]
        if x.shape[1:] != self.shape:
            raise ValueError(f"x: is {x.shape}, wanted (N, {', '.join(map(str, self.shape))})")
        if x.dtype == np.uint8:
            return x.astype(np.float32) / 255
        if self.shape[2] == 3 and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"x: lies in [{x.min():g}, {x.max():g}], wanted uint8, or floats in [0, 1]")
        return np.ascontiguousarray(x, np.float32)


def between(a: np.ndarray, b: np.ndarray, steps: int, path: str = "linear") -> np.ndarray:
    """Codes from a to b, (N, d) each -> (N, steps, d), both ends included.

    path   "linear", as in the paper; "spherical": along the great circle between their directions (White 2016), which
           keeps the length that codes from N(0, I) have: a straight line's middle is shorter by up to a root of 2.
           Where the directions are one or opposite there is no such circle, and the line is taken.
    """
    if path not in PATHS or a.shape != b.shape or a.ndim != 2 or steps < 2:
        raise ValueError(f"between: {steps} steps on a {path!r} path from {a.shape} to {b.shape}")
    t = np.linspace(0, 1, steps)[:, None]
    a, b = a[:, None].astype(np.float64), b[:, None].astype(np.float64)
    weights = np.broadcast_to(1 - t, (len(a), steps, 1)), np.broadcast_to(t, (len(a), steps, 1))
    if path == "spherical":
        lengths = np.linalg.norm(a, axis=2, keepdims=True) * np.linalg.norm(b, axis=2, keepdims=True)
        cosine = (a * b).sum(axis=2, keepdims=True) / np.maximum(lengths, 1e-300)
        angle = np.arccos(np.clip(cosine, -1, 1))
        circle = np.sin(angle) > 1e-6
        sine = np.where(circle, np.sin(angle), 1.0)
        arcs = np.sin((1 - t) * angle) / sine, np.sin(t * angle) / sine
        weights = np.where(circle, arcs[0], weights[0]), np.where(circle, arcs[1], weights[1])
    return (weights[0] * a + weights[1] * b).astype(np.float32)


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
    return Model(networks, saved.config, saved.step, averaged, saved.meta.get("data_checksum", ""))


def warn_of_other_data(model: Model, dataset: Dataset, warn: Callable[[str], object]) -> None:
    """Says so where a data set that stands for what the model was trained on is another one."""
    if model.data_checksum not in ("", dataset.checksum):
        warn(f"{dataset.source}: not the data that this run was trained on (another SHA-256); name those by --data")


def training_data(model: Model, config: Config, warn: Callable[[str], object], quiet: bool = False) -> Dataset:
    """The split that the model was trained on, opened as `config` has it (the run's own, or with its data elsewhere);
    `warn` is told where it is another one."""
    from alikit.training.session import open_training_data

    dataset = open_training_data(config, quiet)
    warn_of_other_data(model, dataset, warn)
    return dataset


def refuse_conditional(model: Model, run: Path, verb: str) -> None:
    """UsageError for a run whose networks want conditions that a command has no way to name."""
    if model.labels:
        raise UsageError(
            f"{run}: is conditional; {verb} works with unconditional runs, sample and reconstruct with both"
        )
