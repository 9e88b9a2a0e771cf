"""The SVM protocol on one kind of a run's features: which images are what, and where the results are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alikit.data import Dataset
from alikit.errors import UsageError
from alikit.scoring import records, svm
from alikit.scoring.features import Features

FILE = "svm.jsonl"


class Splits(NamedTuple):
    """train: of its first `used` images, the first `pool` may be labelled, the others are for validation; test."""

    train: Dataset
    used: int
    pool: int
    test: Dataset


def measure(
    features: Features, protocol: svm.Protocol, splits: Splits, folder: Path, workers: int, quiet: bool
) -> svm.Outcome:
    """The outcome on these features; every fit, and a summary, go to svm.jsonl in `folder`."""
    experiment = {
        "labels": protocol.labels,
        "seed": protocol.seed,
        "features": features.name,
        "key": features.key,
        "pool": splits.pool,
        "images": splits.used,
        "train_sha256": splits.train.checksum,
        "test_sha256": splits.test.checksum,
    }
    known = records.Records(folder / FILE, experiment)
    outcome = svm.run(_task(features, splits, folder, quiet), protocol, known, workers, features.title, quiet)
    summary: dict[str, Any] = {"c": outcome.c, "repeats": protocol.repeats, "grid": protocol.grid}
    for name in ("validation", "test"):
        errors = getattr(outcome, name)
        summary |= {f"{name}_error": float(errors.mean()), f"{name}_std": float(errors.std())}
    known.add(summary, summary=[protocol.repeats, protocol.grid])
    return outcome


def _task(features: Features, splits: Splits, folder: Path, quiet: bool) -> svm.Task:
    """Where features and labels of the protocol's three splits come from. UsageError for data without classes."""
    train = splits.train.labels_of(np.arange(splits.used))
    test = splits.test.labels_of(np.arange(len(splits.test)))
    if train is None or test is None or train.ndim != 1:
        raise UsageError(f"--svm needs classes; {splits.train.name} has {'none' if train is None else 'attributes'}")

    def rows(dataset: Dataset, first: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda indices: features.of(dataset, first + indices, folder, quiet)

    return svm.Task(
        {"pool": rows(splits.train, 0), "validation": rows(splits.train, splits.pool), "test": rows(splits.test, 0)},
        {"pool": train[: splits.pool], "validation": train[splits.pool :], "test": test},
        lambda indices: features.prepare(splits.train, indices, folder, quiet),
    )
