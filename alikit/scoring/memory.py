"""Which training image lies nearest to a given one, in pixels: has a sample been learnt by heart?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from alikit import console
from alikit.data import Dataset
from alikit.metrics.neighbours import nearest_in_blocks

BLOCK = 512


def nearest_training_images(
    groups: Sequence[np.ndarray], train: Dataset, count: int, quiet: bool = False
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each group of images (n, H, W, C) uint8, among the first `count` of a data set:

    the index of each image's nearest one, (n,), and the root mean square of the difference over pixels in [0, 1], (n,).
    """
    queries = np.concatenate(groups)
    index, squares = nearest_in_blocks(queries, _blocks(train, count, quiet))
    distance = np.sqrt(squares / queries[0].size) / 255
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return np.split(index, ends), np.split(distance, ends)


def _blocks(train: Dataset, count: int, quiet: bool) -> Iterator[np.ndarray]:
    starts = range(0, count, BLOCK)
    for start in console.follow(starts, len(starts), "nearest training images, in blocks", quiet):
        yield train.take(np.arange(start, min(start + BLOCK, count)))
