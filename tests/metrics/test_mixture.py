import numpy as np
import pytest

from alikit.metrics.mixture import mixture_coverage, nearest_mode

RNG = np.random.default_rng(2)
MEANS = np.array([(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)], float)


def test_the_mixture_itself_covers_everything() -> None:
    samples = MEANS[RNG.integers(0, 25, 20_000)] + 0.05 * RNG.standard_normal((20_000, 2))
    coverage = mixture_coverage(samples.astype(np.float32), MEANS, std=0.05)
    assert coverage["modes_nearest"] == coverage["modes_covered"] == 25
    assert coverage["share_covered"] == pytest.approx(1 - np.exp(-4.5), abs=0.003)


def test_dropped_modes_are_counted() -> None:
    coverage = mixture_coverage(np.repeat(MEANS[[3, 3, 8]], 10, axis=0), MEANS, std=0.05)
    assert coverage == {"modes_nearest": 2, "modes_covered": 2, "share_covered": 1.0}


def test_junk_between_modes_counts_only_for_the_lenient_count() -> None:
    samples = np.concatenate([np.repeat(MEANS[:1], 3, axis=0), MEANS[5:10] + 0.4])
    coverage = mixture_coverage(samples, MEANS, std=0.05)
    assert coverage == {"modes_nearest": 6, "modes_covered": 1, "share_covered": 3 / 8}


def test_the_radius_is_a_euclidean_distance_in_deviations() -> None:
    offsets = np.array([[0.149, 0], [0.151, 0], [0.105, 0.105], [0.107, 0.107]])  # lengths .149 .151 .1485 .1513
    assert mixture_coverage(MEANS[:4] + offsets, MEANS, std=0.05)["share_covered"] == 0.5
    assert mixture_coverage(MEANS[:4] + offsets, MEANS, std=0.05, radius=4)["share_covered"] == 1.0


def test_samples_that_are_not_finite_belong_to_no_mode() -> None:
    samples = np.array([[np.nan, 0], [np.inf, 0], [0, -np.inf], [2, 2]])
    assert mixture_coverage(samples, MEANS, 0.05) == {"modes_nearest": 1, "modes_covered": 1, "share_covered": 0.25}
    nothing = mixture_coverage(samples[:3], MEANS, 0.05)
    assert nothing == {"modes_nearest": 0, "modes_covered": 0, "share_covered": 0.0}


def test_nearest_mode_against_a_loop() -> None:
    points = RNG.uniform(-6, 6, (200, 2))
    index, distance = nearest_mode(points, MEANS)
    for point, found, far in zip(points, index, distance, strict=True):
        distances = [np.hypot(*(point - mean)) for mean in MEANS]
        assert found == np.argmin(distances)
        assert far == pytest.approx(min(distances))


def test_wrong_shapes_are_refused() -> None:
    for samples in (np.zeros((4, 3)), np.zeros(4), np.zeros((0, 2))):
        with pytest.raises(ValueError, match=r"wanted \(N, k\)"):
            mixture_coverage(samples, MEANS, 0.05)
