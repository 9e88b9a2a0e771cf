"""Batches from a data set as the networks want them, and the held-out data that a run is looked at with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from alikit.data import Dataset, EpochOrder, held_out_split, open_dataset
from alikit.errors import DataError
from alikit.ops._dispatch import kernel
from alikit.training.config import Config, data_seed

#: images whose mean starts the decoder's output bias (method 3.2)
MEAN_IMAGES = 500


class Feed:
    """The training data of a run: the batch of any step, from the seed and the step alone.

    images   use only the first so many; all by default
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, images: int | None = None):
        self.dataset = dataset
        self.order = EpochOrder(min(images or len(dataset), len(dataset)), batch_size, seed)

    def batch(self, step: int) -> np.ndarray:
        """The images of step 0, 1, ...: (B, H, W, C) float32 in [0, 1]; points (B, 1, 1, 2)."""
        return as_input(self.dataset, self.order.batch_indices(step))

    def mean_images(self) -> np.ndarray:
        """One shuffled batch of 500 training images (fewer where there are fewer), the same for a seed."""
        count = min(MEAN_IMAGES, self.order.n)
        return as_input(self.dataset, EpochOrder(self.order.n, count, self.order.seed + 1).batch_indices(0))


def as_input(dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """Rows of a data set as a network's input: (B, H, W, C) float32, images scaled to [0, 1], points as 1x1 images."""
    if len(dataset.shape) == 1:
        return dataset.take(indices).reshape(len(indices), 1, 1, -1)
    if dataset.array is None:  # mapped from a file, or drawn on demand
        return kernel("gather_batch", indices)(dataset.take(indices), np.arange(len(indices)))
    return kernel("gather_batch", dataset.array)(dataset.array, indices)


def held_out(config: Config, train: Callable[[], Dataset], count: int, quiet: bool) -> tuple[np.ndarray, str]:
    """`count` held-out inputs, the same for a seed, and a line saying what they are.

    Where the held-out split is not at hand or too small, training data (opened by `train`) stand in; the line says so.
    """
    split = held_out_split(config.dataset, config.split)
    try:
        dataset = open_dataset(
            config.dataset, data=config.data, split=split, size=config.size, seed=data_seed(config), quiet=quiet
        )
        line = f"{split}, not trained on"
        missing = "it holds fewer than two" if len(dataset) < 2 else None
    except DataError:
        missing = "it is not at hand"
    if missing:
        dataset, line = train(), f"{config.split}: TRAINING data instead of the split {split}: {missing}"
    count = min(count, len(dataset))
    if count < 2:
        raise DataError(f"{dataset.source}: at least two images are needed to look at reconstructions")
    return as_input(dataset, EpochOrder(len(dataset), count, config.seed).batch_indices(0)), line
