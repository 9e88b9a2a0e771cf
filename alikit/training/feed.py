"""Batches from a data set as the networks want them, and the held-out data that a run is looked at with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from alikit.data import Dataset, EpochOrder, held_out_split, open_dataset
from alikit.errors import DataError
from alikit.ops._dispatch import kernel
from alikit.training.conditions import condition_rows
from alikit.training.config import Config, data_seed
from alikit.training.games import Batch

#: images whose mean starts the decoder's output bias (method 3.2)
MEAN_IMAGES = 500


class Feed:
    """The training data of a run: the batch of any step, from the seed and the step alone.

    images      use only the first so many; all by default
    conditions  deliver the images' labels beside them, as conditions
    rows        (n,) use only these images, whatever `images` says
    labelled    a second feed, with conditions and a seed of its own, whose batch goes beside this one's
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        images: int | None = None,
        *,
        conditions: bool = False,
        rows: ArrayLike | None = None,
        labelled: Feed | None = None,
    ):
        self.dataset, self.conditions, self.labelled = dataset, conditions, labelled
        self.rows = None if rows is None else np.asarray(rows, np.int64)
        count = min(images or len(dataset), len(dataset)) if self.rows is None else len(self.rows)
        self.order = EpochOrder(count, batch_size, seed)

    def batch(self, step: int) -> Batch:
        """What step 0, 1, ... trains on: images (B, H, W, C) float32 in [0, 1], or points (B, 1, 1, 2)."""
        indices = self.indices(step)
        labelled = self.labelled.batch(step) if self.labelled else None
        y = conditions_of(self.dataset, indices) if self.conditions else None
        return Batch(as_input(self.dataset, indices), y, labelled and (labelled.x, labelled.y))

    def indices(self, step: int) -> np.ndarray:
        """Which images of the data set step 0, 1, ... trains on: (B,) int64."""
        return self._chosen(self.order.batch_indices(step))

    def permutation(self, epoch: int) -> np.ndarray:
        """All of them in the order of epoch 0, 1, ...: (n,) int64."""
        return self._chosen(self.order.permutation(epoch))

    def _chosen(self, places: np.ndarray) -> np.ndarray:
        return places if self.rows is None else self.rows[places]

    def mean_images(self) -> np.ndarray:
        """One shuffled batch of 500 training images (fewer where there are fewer), the same for a seed."""
        return as_input(self.dataset, self._chosen(self._mean_places()))

    def mean_conditions(self) -> np.ndarray | None:
        """The conditions of `mean_images`, where the feed delivers any."""
        return conditions_of(self.dataset, self._chosen(self._mean_places())) if self.conditions else None

    def _mean_places(self) -> np.ndarray:
        count = min(MEAN_IMAGES, self.order.n)
        return EpochOrder(self.order.n, count, self.order.seed + 1).batch_indices(0)


def as_input(dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Rows of a data set as a network's input: (B, H, W, C) float32, images scaled to [0, 1], points as 1x1 images."""
    if len(dataset.shape) == 1:
        return dataset.take(indices).reshape(len(indices), 1, 1, -1)
    if dataset.array is None:  # mapped from a file, or drawn on demand
        return kernel("gather_batch", indices)(dataset.take(indices), np.arange(len(indices)))
    return kernel("gather_batch", dataset.array)(dataset.array, indices)


def conditions_of(dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """The conditions of rows of a data set as a network's input: (B, 1, 1, A) float32, 0 or 1."""
    rows = condition_rows(dataset, indices)
    return kernel("gather_batch", rows)(rows, np.arange(len(rows)), scale=1.0)


def held_out(config: Config, train: Callable[[], Dataset], count: int, quiet: bool) -> tuple[np.ndarray, str]:
    """The images of `held_out_batch`, and its line."""
    batch, line = held_out_batch(config, train, count, quiet)
    return batch.x, line


def held_out_batch(config: Config, train: Callable[[], Dataset], count: int, quiet: bool) -> tuple[Batch, str]:
    """`count` held-out inputs, with their conditions in a conditional run, the same for a seed, and a line saying what
    they are.

    Where the held-out split is not at hand or too small, training data (opened by `train`) stand in; the line says so.
    """
    split = held_out_split(config.dataset, config.split)
    try:
        dataset = open_dataset(
            config.dataset, data=config.data, split=split, size=config.size, seed=data_seed(config), quiet=quiet
        )
        line = f"{split}, not trained on"
        missing = "holds fewer than two" if len(dataset) < 2 else None
    except DataError:
        missing = "is not at hand"
    if missing:
        dataset, line = train(), f"TRAINING data of {config.split}, as {split} {missing}"
    count = min(count, len(dataset))
    if count < 2:
        raise DataError(f"{dataset.source}: at least two images are needed to look at reconstructions")
    indices = EpochOrder(len(dataset), count, config.seed).batch_indices(0)
    return Batch(as_input(dataset, indices), conditions_of(dataset, indices) if config.conditional else None), line
