import numpy as np
import pytest
from scipy.linalg import sqrtm

from alikit.metrics.frechet import frechet_distance


def test_in_one_dimension_it_is_the_difference_of_means_and_of_deviations() -> None:
    a, b = np.array([[1.0], [3.0], [5.0]]), np.array([[10.0], [11.0]])  # means 3 and 10.5, variances 4 and 0.5
    assert frechet_distance(a, b) == pytest.approx(7.5**2 + (2 - np.sqrt(0.5)) ** 2, rel=1e-12)


def test_against_the_matrix_root(stream) -> None:
    a = stream("a").normal(size=(40, 6)) @ stream("m").normal(size=(6, 6)) + 100
    b = stream("b").normal(size=(30, 6)) * np.arange(1, 7) + 99
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = sqrtm(cov_a @ cov_b).real
    wanted = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(wanted, rel=1e-9)


def test_fewer_images_than_dimensions_and_float32(stream) -> None:
    a = stream("a").normal(size=(5, 20)).astype(np.float32)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + np.float32(2)) == pytest.approx(80, rel=1e-4)


def test_one_image_repeated_has_no_spread(stream) -> None:
    a = stream("a").normal(size=(50, 3))
    b = np.repeat(a[:1], 50, axis=0)
    wanted = np.square(a.mean(axis=0) - a[0]).sum() + a.var(axis=0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 5)), ((1, 4), (3, 4)), ((3,), (3,))])
def test_wrong_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frechet_distance: "):
        frechet_distance(np.zeros(a), np.zeros(b))
