"""The features that an SVM is given: the encoder's, and three baselines.

encoder         z ~ q(z | x), or mu, and the last three hidden layers before the leaky ReLU (method 6.1)
untrained       the same of the run's initial weights: what the architecture knows by itself
discriminator   the last two layers of D's tower on x: what an ordinary GAN would have learnt
pixels          the images themselves
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from alikit.data import Dataset, EpochOrder
from alikit.inference import Model
from alikit.nn import Module
from alikit.scoring.rows import RowCache
from alikit.training import average, state
from alikit.training.classifier import weights_hash
from alikit.training.feed import MEAN_IMAGES, as_input

KINDS = ("encoder", "pixels", "untrained", "discriminator")
VERSION = 1


@dataclass(eq=False)
class Features:
    """One kind of features.

    name, title   for programs and for people
    compute       images (n, H, W, C) uint8 -> raw rows (n, W) float32
    key           tells apart whatever decides the features; "" for pixels
    rows_key      ... that decides the raw rows; "" where they are cheap and not kept
    finish        raw rows, data set, indices -> features (n, F)
    """

    name: str
    title: str
    compute: Callable[[np.ndarray], np.ndarray]
    key: str = ""
    rows_key: str = ""
    finish: Callable[[np.ndarray, Dataset, np.ndarray], np.ndarray] = field(default=lambda rows, *_: rows)
    _caches: dict[str, RowCache] = field(default_factory=dict)

    def of(self, dataset: Dataset, indices: np.ndarray, folder: Path, quiet: bool = False) -> np.ndarray:
        """Features of images of a data set, (n, F) float32; raw rows are kept in `folder`."""
        if not self.rows_key:
            return self.compute(dataset.take(indices))
        self.prepare(dataset, indices, folder, quiet)
        return self.finish(self._cache(dataset, folder).rows(indices), dataset, indices)

    def prepare(self, dataset: Dataset, indices: np.ndarray, folder: Path, quiet: bool = False) -> None:
        """Has the raw rows of images made that are not kept in `folder` yet."""
        if self.rows_key:
            what = f"features ({self.title}) of {dataset.name} {dataset.split}"
            self._cache(dataset, folder).fill(indices, lambda i: self.compute(dataset.take(i)), what, quiet)

    def _cache(self, dataset: Dataset, folder: Path) -> RowCache:
        stem = f"features-{self.name}-{dataset.split}-{self.rows_key}-{dataset.checksum[:8]}"
        if stem not in self._caches:
            width = self.compute(dataset.take([0])).shape[1]
            self._caches[stem] = RowCache(folder / stem, len(dataset), width)
        return self._caches[stem]


def available(model: Model) -> tuple[str, ...]:
    """The kinds that a model has: a GAN has no encoder, a VAE no D, and D of points no tower."""
    has = {"encoder": model.gaussian, "untrained": model.gaussian, "discriminator": _tower(model) is not None}
    return tuple(kind for kind in KINDS if has.get(kind, True))


def _tower(model: Model) -> Module | None:
    tower = getattr(getattr(model.networks, "discriminator", None), "x", None)
    return tower if tower is not None and tower.layers else None


def build(kind: str, model: Model, train: Dataset, used: int, code: str, seed: int) -> Features:
    """Features of a kind for a model.

    train, used   the run's training data, of which it saw the first so many
    code          the encoder's output: "sample" as in the authors' code, or "mu";  seed: of those samples
    """
    if kind == "pixels":
        return Features(kind, "raw pixels", lambda x: x.reshape(len(x), -1).astype(np.float32) / 255)
    if kind == "discriminator" and (tower := _tower(model)) is not None:
        key = _key(tower)
        return Features(kind, "D's image tower", model.discriminator_features, key, key)
    title = "encoder"
    if kind == "untrained":
        model, title = _untrained(model, train, used), "untrained encoder"
    nz = model.nz

    def compute(x: np.ndarray) -> np.ndarray:
        found = model.examine(x)
        return np.concatenate([found.mu, found.sigma, found.hidden], axis=1)

    def finish(rows: np.ndarray, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
        z = rows[:, :nz]
        if code == "sample":  # an image's noise must not depend on which others are asked for
            z = z + rows[:, nz : 2 * nz] * _noise(dataset.split, len(dataset), nz, seed)[indices]
        return np.concatenate([z, rows[:, 2 * nz :]], axis=1)

    key = _key(model.networks.encoder)
    return Features(kind, title, compute, f"{key}-{code}", key, finish)


def _key(network: Module) -> str:
    return f"v{VERSION}-{weights_hash(network)[:12]}"


@lru_cache(4)
def _noise(split: str, count: int, nz: int, seed: int) -> np.ndarray:
    """(count, nz) of N(0, 1) for a split."""
    number = int.from_bytes(split.encode(), "big")
    return np.random.default_rng([seed, number]).standard_normal((count, nz), np.float32)


def _untrained(model: Model, train: Dataset, used: int) -> Model:
    """The run's networks before their first step, with statistics of 500 training images."""
    networks = state.build_model(model.config)
    rows = EpochOrder(used, min(MEAN_IMAGES, used), model.config.seed + 1).batch_indices(0)
    average.settle(networks, as_input(train, rows))
    return Model(networks, model.config, 0, False)
