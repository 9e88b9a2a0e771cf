"""A run's batches on a device: gathered there from the whole data set, or copied there one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from alikit.backend import device_memory, from_host
from alikit.ops._dispatch import kernel
from alikit.training.feed import Feed

#: share of the device's free memory that a data set may take
SHARE = 0.6


class ResidentBatches:
    """The data set and its epoch's order lie on the device, and a kernel gathers the batch of the clock's step.

    `prepare` copies the order at the beginning of each epoch; nothing else comes from the host.
    """

    def __init__(self, feed: Feed, images: np.ndarray, dtype: Any):
        self.feed, self.dtype = feed, dtype
        self.images = from_host(images)
        self.order = from_host(feed.order.permutation(0))
        self._epoch = 0

    def prepare(self, step: int) -> int:
        """Makes ready for step `step`; returns its batch size."""
        epoch, batch = divmod(step, self.feed.order.steps_per_epoch)
        if epoch != self._epoch:
            self.order.set(self.feed.order.permutation(epoch))
            self._epoch = epoch
        size = self.feed.order.batch_size
        return min(size, self.feed.order.n - batch * size)

    def fetch(self, count: int, clock: Any) -> Any:
        """The batch of the clock's step: (count, H, W, C). Launches only."""
        size = self.feed.order.batch_size
        return kernel("gather_batch", self.images)(
            self.images, self.order, scale=_scale(self.images), dtype=self.dtype, count=size, rows=count, clock=clock
        )


class StreamedBatches:
    """Batches gathered on the host, each copied into one place on the device: for data that do not fit there."""

    def __init__(self, feed: Feed, shape: tuple[int, ...], dtype: Any):
        self.feed, self.shape, self.dtype = feed, shape, dtype
        self.images: dict[int, Any] = {}
        self.order: dict[int, Any] = {}

    def prepare(self, step: int) -> int:
        """Copies the batch of step `step`; returns its size."""
        rows = self.feed.dataset.take(self.feed.order.batch_indices(step))
        rows = rows.reshape(len(rows), *self.shape)
        if len(rows) not in self.images:
            self.images[len(rows)], self.order[len(rows)] = from_host(rows), from_host(np.arange(len(rows)))
        else:
            self.images[len(rows)].set(rows)
        return len(rows)

    def fetch(self, count: int, clock: Any) -> Any:
        """The batch that was copied: (count, H, W, C). Launches only."""
        images = self.images[count]
        return kernel("gather_batch", images)(images, self.order[count], scale=_scale(images), dtype=self.dtype)


def device_batches(feed: Feed, dtype: Any) -> ResidentBatches | StreamedBatches:
    """Resident where the data set lies in memory and fits the device, else streamed; dtype: of the batches."""
    dataset = feed.dataset
    shape = dataset.shape if len(dataset.shape) == 3 else (1, 1, *dataset.shape)
    if dataset.array is None or dataset.array.nbytes > SHARE * device_memory():
        return StreamedBatches(feed, shape, dtype)
    return ResidentBatches(feed, dataset.array.reshape(-1, *shape), dtype)


def _scale(images: Any) -> float:
    """Pixels are bytes and become numbers in [0, 1]; points are what they are."""
    return 1 / 255 if images.dtype == np.uint8 else 1.0
