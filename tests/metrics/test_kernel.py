import numpy as np
import pytest

from alikit.metrics import kernel
from alikit.metrics.kernel import kernel_distance


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    aa = [k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]
    bb = [k(b[i], b[j]) for i in range(len(b)) for j in range(len(b)) if i != j]
    return float(np.mean(aa) + np.mean(bb) - 2 * np.mean([k(x, y) for x in a for y in b]))


@pytest.mark.parametrize("block", [2048, 3])
def test_against_the_sum_over_all_pairs(block: int, monkeypatch, stream) -> None:
    monkeypatch.setattr(kernel, "BLOCK", block)
    a, b = stream("a").normal(size=(7, 4)), stream("b").normal(size=(11, 4)) + 0.5
    assert kernel_distance(a, b) == pytest.approx(by_hand(a, b), rel=1e-12)
    assert kernel_distance(a.astype(np.float32), b) == pytest.approx(by_hand(a, b), rel=1e-5)


def test_it_has_no_bias_for_small_sets(stream) -> None:
    """Sets of five from one distribution: the mean over many is 0 within its error; a biased estimate is above."""
    rng = stream("x")
    values = [kernel_distance(rng.normal(size=(5, 3)), rng.normal(size=(5, 3))) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(2000)
    assert min(values) < 0


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 5)), ((1, 4), (3, 4)), ((3,), (3,))])
def test_wrong_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="kernel_distance: "):
        kernel_distance(np.zeros(a), np.zeros(b))
