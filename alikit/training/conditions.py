"""Labels as numbers that a network reads: one-hot classes, or attributes that are there (1) or not (0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alikit.data import Dataset
from alikit.errors import UsageError


def width(dataset: Dataset) -> int:
    """A: classes, or attributes, of a data set; 0 where it has no labels."""
    first = dataset.labels_of([0])
    if first is None:
        return 0
    if first.ndim == 2:
        return first.shape[1]
    if dataset.label_names:
        return len(dataset.label_names)
    seen = dataset.labels_of(np.arange(min(len(dataset), 1000)))
    return 0 if seen is None else int(seen.max()) + 1


def condition_rows(dataset: Dataset, indices: ArrayLike) -> np.ndarray:
    """The conditions of images, (B, 1, 1, A) uint8, 0 or 1. UsageError for a set without labels."""
    labels = dataset.labels_of(indices)
    if labels is None:
        raise UsageError(f"{dataset.name} has no labels to condition on")
    found = labels if labels.ndim == 2 else one_hot(labels, width(dataset))
    return np.ascontiguousarray(found.reshape(len(found), 1, 1, -1))


def one_hot(classes: ArrayLike, count: int) -> np.ndarray:
    """Classes (B,) in 0..count-1 -> (B, count) uint8. ValueError for one outside."""
    found = np.asarray(classes).reshape(-1)
    if found.size and not 0 <= found.min() <= found.max() < count:
        raise ValueError(f"one_hot: classes from {found.min()} to {found.max()}, wanted 0 to {count - 1}")
    return (found[:, None] == np.arange(count)).astype(np.uint8)
