import numpy as np

from alikit.data import Dataset
from alikit.scoring import memory
from alikit.scoring.memory import nearest_training_images


def test_each_group_gets_its_own_neighbours(train: Dataset, monkeypatch) -> None:
    monkeypatch.setattr(memory, "BLOCK", 50)
    brighter = train.images[[99, 3]] + np.uint8(5)
    (first, second), (near, exact) = nearest_training_images([brighter, train.images[[7]]], train, 120, quiet=True)
    assert first.tolist() == [99, 3]
    np.testing.assert_allclose(near, 5 / 255)
    assert second.tolist() == [7]
    assert exact.tolist() == [0]


def test_only_what_was_trained_on_counts(train: Dataset) -> None:
    (index,), (distance,) = nearest_training_images([train.images[[99]]], train, 99, quiet=True)
    assert index[0] < 99
    assert distance[0] > 0.1
