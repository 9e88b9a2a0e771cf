import numpy as np
import pytest

from alikit.metrics.reconstruction import mean_pair_error, reconstruction_error, reconstruction_ratio, squared_errors

RNG = np.random.default_rng(5)


def images(count: int) -> np.ndarray:
    return RNG.random((count, 4, 5, 3)).astype(np.float32)


def test_error_is_the_mean_square_over_pixels_then_images() -> None:
    x, r = images(3), images(3)
    by_hand = [
        sum((float(a) - float(b)) ** 2 for a, b in zip(x[n].flat, r[n].flat, strict=True)) / 60 for n in range(3)
    ]
    assert squared_errors(x, r) == pytest.approx(by_hand, rel=1e-12)
    assert reconstruction_error(x, r) == pytest.approx(sum(by_hand) / 3, rel=1e-12)
    assert squared_errors(x, r).dtype == np.float64


def test_bytes_count_as_floats_and_do_not_wrap() -> None:
    x, r = np.full((2, 2, 2, 3), 10, np.uint8), np.full((2, 2, 2, 3), 61, np.uint8)
    assert reconstruction_error(x, r) == pytest.approx(0.04)
    assert reconstruction_error(x, r.astype(np.float32) / 255) == pytest.approx(0.04)


def test_small_errors_are_not_lost_in_float32() -> None:
    x = np.ones((4, 300, 300, 3), np.float32)
    r = x - np.float32(1e-3)
    assert reconstruction_error(x, r) == pytest.approx(float(np.float32(1) - r[0, 0, 0, 0]) ** 2, rel=1e-12)


def test_ratio_is_own_error_over_the_mean_of_all_other_pairs() -> None:
    x = 0.7 + 0.01 * images(6)  # far from 0: the sum over pairs must not cancel
    r = x + 0.003 * images(6)
    pairs = [[np.square(a.astype(float) - b).mean() for b in r] for a in x]
    own = np.mean([pairs[i][i] for i in range(6)])
    other = np.mean([pairs[i][j] for i in range(6) for j in range(6) if i != j])
    assert reconstruction_ratio(x, r) == pytest.approx(own / other, rel=1e-9)


def test_a_perfect_reconstruction_gives_zero() -> None:
    x = images(10)
    assert reconstruction_ratio(x, x.copy()) == pytest.approx(0, abs=1e-12)


def test_an_ignored_encoder_gives_one() -> None:
    x = images(500)
    assert reconstruction_ratio(x, images(500)) == pytest.approx(1, abs=0.01)  # samples that know nothing of x
    assert reconstruction_ratio(x, np.repeat(images(1), 500, axis=0)) == pytest.approx(
        1, rel=1e-9
    )  # always the same one


def test_half_a_reconstruction_lies_between() -> None:
    x = images(400)
    r = (x + x.mean(axis=0)) / 2
    # var/4 over var + var/4
    assert reconstruction_ratio(x, r) == pytest.approx(0.2, abs=0.005)


def test_images_that_are_all_equal_have_no_ratio() -> None:
    x = np.zeros((3, 2))
    assert np.isnan(reconstruction_ratio(x, x))


def test_points_of_the_mixture_are_measured_too() -> None:
    x = np.array([[0.0, 2.0], [4.0, 4.0]])
    assert squared_errors(x, x + np.array([1, 2])).tolist() == [2.5, 2.5]


@pytest.mark.parametrize(("a", "b"), [((2, 4), (3, 4)), ((4,), (4,)), ((0, 4), (0, 4)), ((2, 3, 4), (2, 4, 3))])
def test_wrong_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wanted the same"):
        reconstruction_error(np.zeros(a), np.zeros(b))


def test_a_single_image_has_no_other() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        reconstruction_ratio(images(1), images(1))


def test_another_image_in_a_reconstruction_s_place() -> None:
    x = (0.7 + 0.1 * images(6)).astype(np.float64)
    pairs = [np.square(x[i] - x[j]).mean() for i in range(6) for j in range(6) if i != j]
    assert mean_pair_error(x) == pytest.approx(np.mean(pairs), rel=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        mean_pair_error(images(1))
