import numpy as np
import pytest

from alikit.metrics import neighbours
from alikit.metrics.neighbours import nearest, nearest_in_blocks, precision_recall, squared_distances, two_sample


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([[np.linalg.norm(x - y) for y in b] for x in a])


@pytest.fixture(params=[1024, 4], ids=["whole", "in blocks"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(neighbours, "BLOCK", request.param)
    return request.param


def test_precision_and_recall_by_hand(block: int, stream) -> None:
    real, fake, k = stream("real").normal(size=(14, 2)), stream("fake").normal(size=(9, 2)) + 0.4, 3
    radius_real = np.sort(distances(real, real), axis=1)[:, k]  # the first is the point itself
    radius_fake = np.sort(distances(fake, fake), axis=1)[:, k]
    between = distances(real, fake)
    found = precision_recall(real, fake, k)
    assert found["precision"] == np.mean([any(between[i, j] < radius_real[i] for i in range(14)) for j in range(9)])
    assert found["recall"] == np.mean([any(between[i, j] < radius_fake[j] for j in range(9)) for i in range(14)])
    inside = sum(between[i, j] < radius_real[i] for i in range(14) for j in range(9))
    assert found["density"] == pytest.approx(inside / (k * 9))
    assert found["coverage"] == np.mean([any(between[i, j] < radius_real[i] for j in range(9)) for i in range(14)])
    assert all(0 < value < 1.5 for value in found.values())


def test_real_and_fake_are_not_exchangeable(stream) -> None:
    wide, narrow = stream("wide").normal(size=(200, 3)), 0.3 * stream("narrow").normal(size=(200, 3))
    assert precision_recall(wide, narrow)["precision"] > 0.95 > precision_recall(wide, narrow)["recall"]
    assert precision_recall(narrow, wide)["precision"] < 0.5


def test_two_sample_by_hand(block: int, stream) -> None:
    real, fake = stream("real").normal(size=(13, 3)), stream("fake").normal(size=(13, 3)) + 0.7
    union = np.concatenate([real, fake])
    apart = distances(union, union) + np.diag(np.full(26, np.inf))
    says_real = apart.argmin(axis=1) < 13
    found = two_sample(real, fake)
    assert found["accuracy_real"] == says_real[:13].mean()
    assert found["accuracy_fake"] == (~says_real[13:]).mean()
    assert found["accuracy"] == pytest.approx((found["accuracy_real"] + found["accuracy_fake"]) / 2)


def test_exact_copies_are_found_out_even_far_from_0(stream) -> None:
    """Two equal points tie with themselves in floating point only where a distance of 0 is 0."""
    real = stream("real").normal(size=(60, 5)).astype(np.float32) + np.float32(1000)
    assert two_sample(real, real[::-1]) == {"accuracy": 0, "accuracy_real": 0, "accuracy_fake": 0}
    repeated = np.repeat(real[:1], 60, axis=0)
    assert two_sample(real, repeated)["accuracy_fake"] == 0
    assert two_sample(real[1:], repeated[1:])["accuracy_fake"] == 1


def test_squared_distances(stream) -> None:
    a, b = 1e4 + stream("a").normal(size=(5, 3)), 1e4 + stream("b").normal(size=(6, 3))
    np.testing.assert_allclose(squared_distances(a, b), distances(a, b) ** 2, rtol=1e-9)
    pixels = np.array([[0, 255]], np.uint8), np.array([[255, 0]], np.uint8)
    assert squared_distances(*pixels) == 2 * 255**2


def test_nearest(block: int, stream) -> None:
    pool, queries = stream("pool").integers(0, 256, (10, 2, 2, 3), np.uint8), stream("queries")
    near = pool[[7, 0, 9]].astype(int) + queries.integers(-2, 3, (3, 2, 2, 3))
    index, squares = nearest(near, pool)
    assert index.tolist() == [7, 0, 9]
    np.testing.assert_allclose(squares, np.square(near - pool[[7, 0, 9]].astype(int)).sum(axis=(1, 2, 3)))
    again = nearest_in_blocks(near, iter([pool[:3], pool[3:8], pool[8:]]))
    assert again[0].tolist() == [7, 0, 9]
    assert nearest(near, np.concatenate([pool, pool]))[0].tolist() == [7, 0, 9]  # the first of equals


@pytest.mark.parametrize(
    ("a", "b", "k"), [((9, 4), (9, 5), 5), ((5, 4), (9, 4), 5), ((9, 4), (9, 4), 0), ((9,), (9,), 1)]
)
def test_wrong_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...], k: int) -> None:
    with pytest.raises(ValueError, match="precision_recall: real is"):
        precision_recall(np.zeros(a), np.zeros(b), k)
