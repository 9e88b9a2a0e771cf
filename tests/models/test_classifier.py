import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.models.classifier import FEATURES, Classifier
from alikit.nn import Pass


@pytest.mark.parametrize("side", [32, 64])
def test_shapes_and_sizes(side: int, stream) -> None:
    network = Classifier((side, side, 3), 7)
    x = Tensor(stream("x").random((2, side, side, 3), np.float32))
    features, logits = network(x, Pass())
    assert features.shape == (2, 1, 1, FEATURES)
    assert logits.shape == (2, 1, 1, 7)
    np.testing.assert_array_equal(network.features(x, Pass()).data, features.data)


def test_seeds_give_other_weights() -> None:
    first, again, other = (Classifier((32, 32, 3), 2, seed=seed).head.layers[0].conv.weight.data for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("image", [(48, 48, 3), (32, 64, 3), (1, 1, 2)])
def test_other_sizes_are_refused(image: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="wanted sides of 32 or 64"):
        Classifier(image, 2)
