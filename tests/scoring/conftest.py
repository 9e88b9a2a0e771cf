"""A run that never trained, and data with classes that a line can part."""

from dataclasses import replace

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.inference import Model
from alikit.training import state
from alikit.training.config import PRESETS

CONFIG = replace(PRESETS["svhn"], width=0.04, nz=5, init_std=0.1)


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(state.build_model(CONFIG), CONFIG, 0, False)


def labelled(count: int, split: str, seed: int) -> Dataset:
    """Images of three classes, each with a tone of its own in a corner."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.uint8)
    images = rng.integers(0, 80, (count, 32, 32, 3), np.uint8)
    images[:, :8, :8] += 60 * labels[:, None, None, None]
    return Dataset(
        name="toy", split=split, source="drawn here", checksum=f"{split}{seed}", images=images, labels=labels
    )


@pytest.fixture(scope="session")
def train() -> Dataset:
    return labelled(120, "train", 1)


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    return labelled(40, "test", 2)
