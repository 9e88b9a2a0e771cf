import numpy as np
import pytest

from alikit.models import SPECS, build
from alikit.nn import init_normal

SHAPE = (40, 5, 5, 30)


@pytest.mark.parametrize("std", [0.01, 0.02])
def test_weights_are_normal_whatever_the_fan_in(std: float) -> None:
    w = init_normal("encoder.3.weight", SHAPE, std, seed=4)
    assert w.shape == SHAPE
    assert w.dtype == np.float32
    count = w.size
    assert abs(w.mean()) < 5 * std / np.sqrt(count)
    assert abs(w.std() / std - 1) < 5 / np.sqrt(2 * count)
    assert abs((np.abs(w) > 2 * std).mean() - 0.0455) < 0.005  # a uniform of this deviation has none there


def test_numbers_depend_on_seed_and_name_alone() -> None:
    w = init_normal("encoder.3.weight", (3, 4), 0.01, seed=4)
    np.testing.assert_array_equal(w, init_normal("encoder.3.weight", (3, 4), 0.01, seed=4))
    np.testing.assert_array_equal(w, init_normal("encoder.3.weight", (12,), 0.01, seed=4).reshape(3, 4))
    assert not np.array_equal(w, init_normal("encoder.4.weight", (3, 4), 0.01, seed=4))
    assert not np.array_equal(w, init_normal("encoder.3.weight", (3, 4), 0.01, seed=5))


def test_float64_weights_are_the_same_numbers() -> None:
    w32, w64 = (init_normal("w", (50,), 0.01, 0, dtype) for dtype in (np.float32, np.float64))
    assert w64.dtype == np.float64
    np.testing.assert_allclose(w32, w64, rtol=1e-6)


@pytest.mark.parametrize("name", ["svhn", "cifar10", "mixture"])
def test_a_fresh_network(name: str) -> None:
    """Biases 0, gamma 1, beta 0, running mean 0 and deviation 1; weights of the table's deviation, no two alike."""
    model = build(name, width=0.2, seed=3)
    constants = {"bias": 0, "beta": 0, "gamma": 1, "running_mean": 0, "running_std": 1}
    weights = []
    for full, array in model.state().items():
        kind = full.rpartition(".")[2]
        if kind == "weight":
            weights.append(array.reshape(-1))
        else:
            assert (array == constants[kind]).all(), full
    std = SPECS[name].std
    assert abs(np.concatenate(weights).std() / std - 1) < 0.02
    assert len({w[:2].tobytes() for w in weights}) == len(weights)
