"""Labels as numbers that a network reads: one-hot classes, or attributes that are there (1) or not (0)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alikit.data import CLASSED, LABELS, Dataset
from alikit.errors import DataError, UsageError


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


def check(dataset: Dataset) -> None:
    """DataError where a data set's labels are not those that its name promises: a run's networks count on them."""
    if dataset.label_names != LABELS[dataset.name]:
        raise DataError(f"{dataset.source}: its labels are not the {len(LABELS[dataset.name])} of {dataset.name}")


def shown(name: str, held_out: np.ndarray, count: int) -> np.ndarray:
    """The conditions of a sheet of samples, (count, 1, 1, A): the classes in turn, or attributes of held-out faces."""
    rows = np.eye(len(LABELS[name]), dtype=np.float32).reshape(-1, 1, 1, len(LABELS[name]))
    return np.resize(rows if name in CLASSED else held_out, (count, *held_out.shape[1:]))


def as_input(name: str, y: ArrayLike, count: int) -> np.ndarray:
    """Labels as a data set gives them, as the input of networks conditioned on that set: (count, 1, 1, A) float32.

    name   of the data set
    y      classes (N,), or rows (N, A): attributes, or the shares of classes; a single class or row stands for all

    ValueError where y is something else.
    """
    size, found = len(LABELS[name]), np.asarray(y)
    if name in CLASSED and found.ndim <= 1 and found.dtype.kind in "iu":
        found = one_hot(np.broadcast_to(found, count) if found.ndim == 0 else found, size)
    if found.shape not in ((size,), (count, size)) or found.dtype.kind not in "biuf":
        wanted = f"({count},) classes or ({count}, {size})" if name in CLASSED else f"({count}, {size})"
        raise ValueError(f"conditions: y is {np.shape(y)} {found.dtype}, wanted {wanted} for {count} rows of {name}")
    rows = np.broadcast_to(found, (count, size)).astype(np.float32)
    return np.ascontiguousarray(rows.reshape(count, 1, 1, size))


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
