"""A run's batches on a device: gathered there from the whole data set, or copied there one by one.

Images and conditions are rows of two arrays, gathered in the same order. A second feed of labelled images, where there
is one, has an order of its own, which the same clock names.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alikit.backend import device_memory, from_host
from alikit.data import Dataset
from alikit.ops._dispatch import kernel
from alikit.training.conditions import condition_rows
from alikit.training.feed import Feed
from alikit.training.games import Batch

#: share of the device's free memory that a data set may take
SHARE = 0.6


class Counts(NamedTuple):
    """Sizes of a step's two batches; labelled: 0 where there is none."""

    images: int
    labelled: int = 0


class ResidentBatches:
    """The data set and its epoch's order lie on the device, and a kernel gathers the batch of the clock's step.

    `prepare` copies the order at the beginning of each epoch; nothing else comes from the host.

    beside   batches of the same data set, whose images are used instead of a second copy
    """

    def __init__(self, feed: Feed, images: np.ndarray, dtype: Any, beside: ResidentBatches | None = None):
        self.feed, self.dtype = feed, dtype
        self.images: Any = from_host(images) if beside is None else beside.images
        self.conditions = from_host(condition_rows(feed.dataset, np.arange(len(images)))) if feed.conditions else None
        self.order = from_host(feed.permutation(0))
        self._epoch = 0

    def prepare(self, step: int) -> int:
        """Makes ready for step `step`; returns its batch size."""
        epoch, batch = divmod(step, self.feed.order.steps_per_epoch)
        if epoch != self._epoch:
            self.order.set(self.feed.permutation(epoch))
            self._epoch = epoch
        size = self.feed.order.batch_size
        return min(size, self.feed.order.n - batch * size)

    def fetch(self, count: int, clock: Any) -> tuple[Any, Any]:
        """The batch of the clock's step: (count, H, W, C), and its conditions or None. Launches only."""
        size = self.feed.order.batch_size

        def gather(rows: Any, scale: float) -> Any:
            return kernel("gather_batch", rows)(
                rows, self.order, scale=scale, dtype=self.dtype, count=size, rows=count, clock=clock
            )

        x = gather(self.images, _scale(self.images))
        return x, None if self.conditions is None else gather(self.conditions, 1.0)


class StreamedBatches:
    """Batches gathered on the host, each copied into one place on the device: for data that do not fit there."""

    def __init__(self, feed: Feed, shape: tuple[int, ...], dtype: Any):
        self.feed, self.shape, self.dtype = feed, shape, dtype
        self.places: dict[int, list[Any]] = {}  # batch size -> images, and conditions if there are any
        self.order: dict[int, Any] = {}

    def prepare(self, step: int) -> int:
        """Copies the batch of step `step`; returns its size."""
        indices = self.feed.indices(step)
        count = len(indices)
        rows = [self.feed.dataset.take(indices).reshape(count, *self.shape)]
        if self.feed.conditions:
            rows.append(condition_rows(self.feed.dataset, indices))
        if count not in self.places:
            self.places[count] = [from_host(part) for part in rows]
            self.order[count] = from_host(np.arange(count))
        else:
            for place, part in zip(self.places[count], rows, strict=True):
                place.set(part)
        return count

    def fetch(self, count: int, clock: Any) -> tuple[Any, Any]:
        """The batch that was copied: (count, H, W, C), and its conditions or None. Launches only."""
        images, *conditions = self.places[count]

        def gather(rows: Any, scale: float) -> Any:
            return kernel("gather_batch", rows)(rows, self.order[count], scale=scale, dtype=self.dtype)

        x = gather(images, _scale(images))
        return x, gather(conditions[0], 1.0) if conditions else None


class DeviceBatches:
    """The batches of a feed, and of the labelled feed beside it.

    dtype   of the batches
    """

    def __init__(self, feed: Feed, dtype: Any):
        self.main = device_batches(feed, dtype)
        self.labelled = device_batches(feed.labelled, dtype, self.main) if feed.labelled else None

    def prepare(self, step: int) -> Counts:
        """Makes ready for step `step`; returns its batches' sizes."""
        return Counts(self.main.prepare(step), self.labelled.prepare(step) if self.labelled else 0)

    def fetch(self, counts: Counts, clock: Any) -> Batch:
        """What the clock's step trains on. Launches only."""
        labelled = self.labelled.fetch(counts.labelled, clock) if self.labelled else None
        return Batch(*self.main.fetch(counts.images, clock), labelled)


def device_batches(
    feed: Feed, dtype: Any, beside: ResidentBatches | StreamedBatches | None = None
) -> ResidentBatches | StreamedBatches:
    """Resident where the data set lies in memory and fits the device, else streamed.

    dtype   of the batches;  beside: batches that may have the same data set on the device already
    """
    if isinstance(beside, ResidentBatches) and beside.feed.dataset is feed.dataset:
        return ResidentBatches(feed, beside.images, dtype, beside)
    dataset, shape = feed.dataset, _shape(feed.dataset)
    if dataset.array is None or dataset.array.nbytes > SHARE * device_memory():
        return StreamedBatches(feed, shape, dtype)
    return ResidentBatches(feed, dataset.array.reshape(-1, *shape), dtype)


def _shape(dataset: Dataset) -> tuple[int, ...]:
    """Of an input; points are images of one pixel."""
    return dataset.shape if len(dataset.shape) == 3 else (1, 1, *dataset.shape)


def _scale(images: Any) -> float:
    """Pixels are bytes and become numbers in [0, 1]; points are what they are."""
    return 1 / 255 if images.dtype == np.uint8 else 1.0
