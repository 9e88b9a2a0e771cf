"""The classifier's fixed recipe: the same data, seed and recipe give the same network, and a hash that says so.

Adam (step size 1e-3, falling linearly to 0; beta1 0.9), batches of 100 in shuffled epochs, a fixed number of steps; no
augmentation, no choice by held-out data. Classes by softmax cross-entropy, attributes by one logistic loss each. A set
without labels gets a network with random weights, whose batch norms have seen its images: weaker features, but fair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alikit import console, ops
from alikit.autograd import Tensor, grad, no_grad
from alikit.data import Dataset, EpochOrder
from alikit.errors import AlikitError, DataError, DivergedError
from alikit.models.classifier import FEATURES, Classifier
from alikit.nn import BatchNormLeakyReLU, Module, Pass, update_statistics
from alikit.optim import Adam, AdamSettings
from alikit.training import checkpoint, conditions
from alikit.training.feed import as_input

CHUNK = 200
SAVE_EVERY = 500
SETTLE = 60  # passes after which running statistics, from 0 and 1, hold 5 % of that beginning


@dataclass(frozen=True)
class Recipe:
    """All that decides a classifier besides its data. `version` changes with the network or the loss."""

    version: int = 1
    steps: int = 2000
    batch: int = 100
    lr: float = 1e-3
    beta1: float = 0.9
    seed: int = 0


RECIPE = Recipe()


class Origin(NamedTuple):
    """What a classifier was trained on and how: its `key` and recipe as a JSON object; None where its file, of an older
    version, does not tell."""

    key: str | None
    recipe: dict[str, Any] | None


def weights_hash(network: Module) -> str:
    """SHA-256 (hex) over names, shapes and bytes of all parameters and buffers."""
    return checkpoint.digest(network.state())


def key(dataset: Dataset, images: int, recipe: Recipe = RECIPE) -> str:
    """A name for the classifier of the first `images` of a data set by a recipe: 16 hex digits."""
    text = f"{dataset.checksum} {images} {sorted(asdict(recipe).items())}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def class_count(dataset: Dataset) -> int:
    """Classes, or attributes, of a data set; 0 where it has no labels."""
    return conditions.width(dataset)


def loss(logits: Tensor, targets: np.ndarray, exclusive: bool) -> Tensor:
    """Mean loss of logits: (N, K) against targets: (N, K), 0 or 1.

    exclusive   one class a row: softmax cross-entropy, -sum_k t_k log softmax(l)_k; else independent attributes:
                mean_k [softplus(l_k) - t_k l_k], with softplus(l) = max(l, 0) + log(1 + exp(-|l|))
    """
    if exclusive:
        shifted = ops.sub(logits, logits.data.max(axis=1, keepdims=True))  # a constant: the softmax stays as it is
        log_normaliser = ops.log(ops.sum(ops.exp(shifted), 1, keepdims=True))
        return ops.mul(ops.sum(ops.mul(ops.sub(log_normaliser, shifted), targets)), 1 / len(targets))
    positive, negative = ops.leaky_relu(logits, 0.0), ops.leaky_relu(ops.neg(logits), 0.0)
    decay = ops.exp(ops.neg(ops.add(positive, negative)))  # exp(-|l|)
    softplus = ops.add(positive, ops.log(ops.add(decay, 1.0)))
    return ops.mean(ops.sub(softplus, ops.mul(logits, targets)))


def train(
    dataset: Dataset, images: int, path: Path, follow: Callable[[Iterator[int], int], Iterator[int]], recipe: Recipe
) -> tuple[Classifier, Origin]:
    """The classifier of the first `images` of a data set: read from `path`, or trained and left there.

    follow   passes an iterator over the steps through, with their total, and shows it to whoever watches

    A training that was stopped goes on from its last SAVE_EVERY steps. One of other data is taken as it is, with a
    warning: one classifier may judge several runs. DataError for a file at `path` that is damaged, of other networks,
    or of other data and not finished; DivergedError where a loss is not finite.
    """
    classes = class_count(dataset)
    network = Classifier(dataset.shape, max(classes, 1), seed=recipe.seed)  # type: ignore[arg-type]
    adam = Adam(list(network.named_parameters()), AdamSettings(recipe.lr, recipe.beta1))
    order = EpochOrder(images, min(recipe.batch, images), recipe.seed)
    steps, origin = recipe.steps if classes else SETTLE, Origin(key(dataset, images, recipe), asdict(recipe))
    begun, origin = _load(path, network, adam, steps, origin) if path.exists() else (0, origin)
    for step in follow(iter(range(begun, steps)), steps - begun):
        rows = order.batch_indices(step)
        if classes:
            fraction = 1 - step / steps
            adam.settings = adam.settings._replace(lr=recipe.lr * fraction)
            _step(network, adam, as_input(dataset, rows), dataset.labels_of(rows), classes, step, recipe)
        else:
            network(Tensor(as_input(dataset, rows)), Pass(training=True, step=step))
        update_statistics([m for m in network.modules() if isinstance(m, BatchNormLeakyReLU)])
        if step + 1 == steps or (step + 1) % SAVE_EVERY == 0:
            _save(path, network, adam, step + 1, origin)
    return network, origin


def _step(network: Classifier, adam: Adam, x: np.ndarray, labels: Any, classes: int, step: int, recipe: Recipe) -> None:
    exclusive = labels.ndim == 1
    targets = (labels[:, None] == np.arange(classes) if exclusive else labels).astype(np.float32)
    _, logits = network(Tensor(x), Pass(training=True, seed=recipe.seed, step=step))
    value = loss(ops.reshape(logits, (len(x), classes)), targets, exclusive)
    if not np.isfinite(value.item()):
        raise DivergedError(f"the classifier diverged at step {step + 1} (loss {value.item()})")
    (gradients,) = grad([value], [adam.parameters])
    adam.step(gradients)


def predict(network: Classifier, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x: (N, H, W, C), uint8 or floats in [0, 1] -> features (N, FEATURES) and logits (N, K), in evaluation mode."""
    parts = []
    with no_grad():
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            part = part.astype(np.float32) / 255 if part.dtype == np.uint8 else part
            parts.append([y.data.reshape(len(part), -1) for y in network(Tensor(part), Pass())])
    if not parts:
        return np.empty((0, FEATURES), np.float32), np.empty((0, 0), np.float32)
    features, logits = (np.concatenate(column) for column in zip(*parts, strict=True))
    return features, logits


def _save(path: Path, network: Classifier, adam: Adam, step: int, origin: Origin) -> None:
    sections = {"model": network.state(), "adam": adam.state()}
    arrays = {f"{section}/{name}": array for section, named in sections.items() for name, array in named.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AlikitError(f"cannot write {path}: {error.strerror}") from None
    checkpoint.save(path, arrays, {"classifier_step": step, **origin._asdict()})


def _load(path: Path, network: Classifier, adam: Adam, steps: int, wanted: Origin) -> tuple[int, Origin]:
    """Copies what `_save` wrote; returns how many of the `steps` are behind it, and where it comes from."""
    arrays, meta = checkpoint.load(path)
    try:
        step = int(meta["classifier_step"])
        network.load_state({k[6:]: v for k, v in arrays.items() if k.startswith("model/")})
        adam.load_state({k[5:]: v for k, v in arrays.items() if k.startswith("adam/")}, step)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not this classifier ({error}); delete it to have it trained again") from None
    if meta.get("key") == wanted.key:  # which a recipe is part of
        return step, wanted
    if meta.get("key") is not None:
        if step < steps:
            raise DataError(f"{path}: a classifier of other data or recipe, not trained to its end; name another file")
        console.warn(f"{path}: this classifier was trained on other data, or by another recipe")
    return step, Origin(meta.get("key"), meta.get("recipe"))
