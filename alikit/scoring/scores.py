"""Scores of a model on the features of alikit's own classifier, each beside its floor (method 6.3).

Samples are judged against two sets of real images: those trained on (has it copied?) and held-out ones (is it like the
world?). The floor of such a score is what other training images get in the samples' place, as many of them: no score
reads as "good" or "bad" without it. Samples are rounded to bytes first, as real images are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alikit import console
from alikit.data import Dataset, EpochOrder
from alikit.errors import DataError
from alikit.inference import Model
from alikit.metrics.agreement import agreement, chance_agreement
from alikit.metrics.frechet import frechet_distance
from alikit.metrics.kernel import kernel_distance
from alikit.metrics.latent import latent_health
from alikit.metrics.neighbours import K, precision_recall, two_sample
from alikit.metrics.reconstruction import mean_pair_error, reconstruction_error, reconstruction_ratio
from alikit.models.classifier import Classifier
from alikit.training.classifier import predict
from alikit.training.images import to_uint8

CHUNK = 500
COUNT = 10_000
CODES = 2000  # held-out images for what is measured in pixels: more would move little and take gigabytes


class Score(NamedTuple):
    """One number.

    name, against   what, and against which real images
    value, std      mean and population standard deviation over draws (std None for a single one)
    floor           the same of real images in the model's place
    images          on each side
    best            what would be perfect, in words
    """

    name: str
    against: str
    images: int
    value: float
    std: float | None
    floor: float | None
    best: str


class Images(NamedTuple):
    """Real images to judge against, n each: (n, H, W, C) uint8, and the labels of the held-out ones or None.

    train, other   two halves of training images that share none;  held_out
    """

    train: np.ndarray
    other: np.ndarray
    held_out: np.ndarray
    labels: np.ndarray | None


def choose(train: Dataset, used: int, held_out: Dataset, count: int, seed: int) -> Images:
    """`count` images each, fewer where there are fewer; the same for a seed. DataError where too few are left.

    used   of the training images the run saw the first so many
    """
    count = min(count, used // 2, len(held_out))
    if count <= K:
        raise DataError(f"{held_out.source}: scores need more than {K} images to judge against, found {count}")
    both = EpochOrder(used, 2 * count, seed).batch_indices(0)
    rows = EpochOrder(len(held_out), count, seed).batch_indices(0)
    return Images(train.take(both[:count]), train.take(both[count:]), held_out.take(rows), held_out.labels_of(rows))


def of_samples(
    model: Model, network: Classifier, real: Images, names: tuple[str, str], draws: int, seed: int, quiet: bool
) -> list[Score]:
    """Scores of `draws` sets of samples. names: of the training images and of the held-out ones."""
    count = len(real.train)
    train, other, fresh = (_features(network, x, quiet) for x in (real.train, real.other, real.held_out))
    centre, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    train, other, fresh = ((x - centre) / scale for x in (train, other, fresh))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for draw in range(draws):
        samples = (_features(network, _samples(model, count, seed + draw, quiet), True) - centre) / scale
        for name, reference in zip(names, (train, fresh), strict=True):
            found[name].append(compare(reference, samples))
    scores = []
    for name, reference in zip(names, (train, fresh), strict=True):
        floor = compare(reference, other)
        for key, best in _BEST.items():
            values = [result[key] for result in found[name]]
            std = float(np.std(values)) if draws > 1 else None
            scores.append(Score(key, name, count, float(np.mean(values)), std, floor[key], best))
    return scores


#: the scores of samples, in order, and what is best
_BEST = {
    "frechet": "the floor",
    "kernel": "0",
    "precision": "the floor",
    "recall": "the floor",
    "density": "the floor",
    "coverage": "the floor",
    "two_sample": "0.5",
    "two_sample_real": "0.5",
    "two_sample_fake": "0.5; against train clearly less: copies",
}


def compare(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """All scores of fake against real features, (n, d) each."""
    test = two_sample(real, fake)
    return {
        "frechet": frechet_distance(real, fake),
        "kernel": kernel_distance(real, fake),
        **precision_recall(real, fake),
        "two_sample": test["accuracy"],
        "two_sample_real": test["accuracy_real"],
        "two_sample_fake": test["accuracy_fake"],
    }


def of_codes(model: Model, network: Classifier, real: Images, name: str, seed: int, quiet: bool) -> list[Score]:
    """Scores of encoder and decoder on the held-out images: reconstructions, and codes against the prior.

    The floor of a reconstruction is another of these images in its place; that of the codes is draws from the prior.
    """
    x = real.held_out[:CODES]
    labels = None if real.labels is None else real.labels[:CODES]
    mu = sigma = None  # of an encoder that is no Gaussian, as that of the inverse mapping
    if model.gaussian:
        mu, sigma, z = (np.concatenate(column) for column in zip(*_codes(model, x, seed, quiet), strict=True))
    else:
        z = model.encode(x, seed)
    rebuilt = to_uint8(np.concatenate([model.decode(z[a : a + CHUNK]) for a in range(0, len(z), CHUNK)]))
    scores = [
        Score("reconstruction_error", name, len(x), reconstruction_error(x, rebuilt), None, mean_pair_error(x), "0"),
        Score("reconstruction_ratio", name, len(x), reconstruction_ratio(x, rebuilt), None, 1.0, "0"),
    ]
    if labels is not None:
        scores += _label_scores(network, x, rebuilt, labels, name)
    prior = np.random.default_rng(seed).standard_normal(z.shape, np.float32)
    health, floor = latent_health(mu, sigma, z), latent_health(None, None, prior)
    best = {"mean_abs": "0", "ks_mean": "0", "ks_max": "0", "dead": "0", "sigma_mean": "small"}
    return scores + [
        Score(f"latent_{key}", name, len(x), value, None, floor.get(key), best.get(key, "1"))
        for key, value in health.items()
    ]


def accuracy(network: Classifier, x: np.ndarray, labels: np.ndarray) -> float:
    """The classifier's on images with labels (n,) or (n, K)."""
    return agreement(_answers(network, x, labels), labels.astype(np.int64))


def _label_scores(
    network: Classifier, x: np.ndarray, rebuilt: np.ndarray, labels: np.ndarray, name: str
) -> list[Score]:
    of_images, of_rebuilt = (_answers(network, images, labels) for images in (x, rebuilt))
    true = labels.astype(np.int64)
    agree, chance = agreement(of_images, of_rebuilt), chance_agreement(of_images, of_images)
    right, guess = agreement(true, of_rebuilt), chance_agreement(true, true)
    ceiling = f"1; the images themselves {agreement(true, of_images):.3f}"
    return [
        Score("label_agreement", name, len(x), agree, None, chance, "1"),
        Score("reconstruction_accuracy", name, len(x), right, None, guess, ceiling),
    ]


def _answers(network: Classifier, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = predict(network, x)[1]
    return logits.argmax(axis=1) if labels.ndim == 1 else (logits > 0).astype(np.int64)


def _features(network: Classifier, x: np.ndarray, quiet: bool) -> np.ndarray:
    """(n, FEATURES) float64."""
    starts = range(0, len(x), CHUNK)
    follow = console.follow(starts, len(starts), f"classifier features, {CHUNK} images at a time", quiet)
    return np.concatenate([predict(network, x[a : a + CHUNK])[0] for a in follow]).astype(np.float64)


def _samples(model: Model, count: int, seed: int, quiet: bool) -> np.ndarray:
    z = model.prior(count, seed)
    starts = range(0, count, CHUNK)
    follow = console.follow(starts, len(starts), f"samples of seed {seed}, {CHUNK} at a time", quiet)
    return np.concatenate([to_uint8(model.decode(z[a : a + CHUNK])) for a in follow])


def _codes(model: Model, x: np.ndarray, seed: int, quiet: bool) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    starts = range(0, len(x), CHUNK)
    for start in console.follow(starts, len(starts), f"codes, {CHUNK} images at a time", quiet):
        found = model.examine(x[start : start + CHUNK], seed, start)
        yield found.mu, found.sigma, found.z
