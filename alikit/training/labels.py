"""Few labels: which training images have theirs, and on how many held-out ones D is wrong (method 1.7).

D's class of an image is the largest of its K logits at (x, z^), z^ ~ q(z | x), in evaluation mode: the encoder as it is
looked at everywhere, averaged where the run averages, D as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from alikit.autograd import Tensor
from alikit.backend import to_numpy
from alikit.data import Dataset, EpochOrder, balanced_set, judging_split, open_dataset
from alikit.errors import DataError, UsageError
from alikit.nn import Pass
from alikit.training import images, plots
from alikit.training.average import place
from alikit.training.config import CLASSES, Config, data_seed
from alikit.training.feed import Feed, as_input
from alikit.training.runs import METRICS

#: held-out images looked at through training; at its end all of them, but of drawn ones no more
SUBSET = 2000
CHUNK = 100
PICTURE = "test-error.png"
#: the paper's errors in % by data set and number of labels (tables 1 and 2; method 1.7)
PAPER: dict[str, dict[int, tuple[float, float]]] = {
    "svhn": {1000: (7.42, 0.65)},
    "cifar10": {1000: (19.98, 0.89), 2000: (19.09, 0.44), 4000: (17.99, 1.62), 8000: (17.05, 1.49)},
}


def labelled_feed(config: Config, dataset: Dataset) -> Feed | None:
    """The labelled images of a run, as many of each class, chosen by its seed; None for a run without labels.

    UsageError where a class has too few images for that.
    """
    if config.labels is None:
        return None
    used = np.arange(min(config.images or len(dataset), len(dataset)))
    labels = dataset.labels_of(used)
    if labels is None or len(np.unique(labels)) != CLASSES[config.dataset]:
        raise UsageError(f"--labels: {dataset.source} has no images of some classes")
    try:
        rows = balanced_set(labels, config.labels, 0, config.seed)
    except DataError as error:
        raise UsageError(f"--labels {config.labels}: {error}") from None
    size = min(config.labelled_batch or config.batch_size, len(rows))
    return Feed(dataset, size, config.seed + 2, conditions=True, rows=rows)


def class_logits(model: Any, x: Tensor, how: Pass) -> np.ndarray:
    """D's logits at (x, z^): x: (N, H, W, C) where the model lies -> (N, K) in host memory."""
    logits = model.discriminator(x, model.encode(x, how), how).data
    return np.ascontiguousarray(to_numpy(logits)).reshape(len(x), -1)


class Exam:
    """Held-out images with their classes, for a run with labels.

    subset   indices of those that are looked at through training, chosen by the run's seed;  all: at its end
    """

    def __init__(self, dataset: Dataset, config: Config):
        self.dataset, self.config = dataset, config
        self.subset = EpochOrder(len(dataset), min(SUBSET, len(dataset)), config.seed).batch_indices(0)
        drawn = dataset.array is None and not isinstance(dataset.images, np.memmap)
        self.all = self.subset if drawn else np.arange(len(dataset))

    def error(self, model: Any, how: Pass, indices: np.ndarray) -> float:
        """The share of images whose class is not D's."""
        wrong = 0
        for start in range(0, len(indices), CHUNK):
            part = indices[start : start + CHUNK]
            here = how._replace(step=start)  # every chunk draws noise of its own
            found = class_logits(model, place(model, as_input(self.dataset, part)), here).argmax(axis=1)
            wrong += int((found != np.asarray(self.dataset.labels_of(part))).sum())
        return wrong / len(indices)

    def chance(self, indices: np.ndarray) -> float:
        """The error of always saying the commonest class."""
        return 1 - np.bincount(np.asarray(self.dataset.labels_of(indices))).max() / len(indices)

    def look(self, model: Any, how: Pass, run: Path, step: int, last: bool) -> dict[str, Any]:
        """Numbers of this step, and the curve of all so far as a picture in the run's folder."""
        found: dict[str, Any] = {"test_error": self.error(model, how, self.subset)}
        if last:
            found |= {"test_error_all": self.error(model, how, self.all), "test_images": len(self.all)}
        steps, errors = history(run, step)
        paper = PAPER[self.config.dataset].get(self.config.labels or 0, (None,))[0]
        curve = plots.error_curve([*steps, step], [*errors, found["test_error"]], self.chance(self.subset), paper)
        images.save_png(run / PICTURE, curve)
        return found


def open_exam(config: Config, quiet: bool) -> Exam | None:
    """The images that judge a run with labels; None for one without. DataError where they are not at hand."""
    if config.labels is None:
        return None
    split = judging_split(config.dataset, config.split)
    dataset = open_dataset(config.dataset, data=config.data, split=split, seed=data_seed(config), quiet=quiet)
    return Exam(dataset, config)


def history(run: Path, step: int) -> tuple[list[int], list[float]]:
    """Steps before `step` after which the test error was measured, and the errors, from the run's metrics."""
    path = run / METRICS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    found = [line for line in lines if line.get("test_error") is not None and line["step"] < step]
    return [line["step"] for line in found], [line["test_error"] for line in found]
