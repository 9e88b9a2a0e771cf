"""Fetching a batch: the rows asked for, in that order, scaled."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu.batch import gather_batch


@pytest.mark.parametrize("indices", [[2, 0, 2, 9, 5], [7], []], ids=["with a repeat", "one", "none"])
@pytest.mark.usefixtures("splitting")
def test_rows_are_fetched_in_order_and_scaled(indices: list[int], stream: Callable) -> None:
    images = stream("images").integers(0, 256, (10, 3, 5, 3), np.uint8)
    batch = gather_batch(images, np.array(indices, np.int64))
    assert batch.dtype == np.float32
    assert batch.shape == (len(indices), 3, 5, 3)
    for row, index in zip(batch, indices, strict=True):
        np.testing.assert_allclose(row, images[index] / 255.0, rtol=2.0**-23)


def test_every_byte_falls_into_the_unit_interval_and_the_ends_are_exact() -> None:
    values = gather_batch(np.arange(256, dtype=np.uint8), np.arange(256))
    assert (values[0], values[255]) == (0, 1)
    assert np.all(np.diff(values) > 0)


def test_points_are_left_as_they_are_at_scale_1(stream: Callable) -> None:
    points = stream("points").standard_normal((6, 2)).astype(np.float32)
    np.testing.assert_array_equal(gather_batch(points, np.array([3, 1]), scale=1), points[[3, 1]])


@pytest.mark.parametrize("indices", [[0, 4], [-1, 2]])
def test_indices_outside_are_refused(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r"gather_batch: indices must lie in \[0, 4\)"):
        gather_batch(np.zeros((4, 2), np.uint8), np.array(indices))


@pytest.mark.parametrize("step", range(7))
@pytest.mark.usefixtures("splitting")
def test_a_clock_picks_the_batch_of_its_step(step: int, stream: Callable) -> None:
    """10 images in batches of 4: the third has two, and the fourth step begins the order again."""
    images = stream("images").integers(0, 256, (10, 2, 3), np.uint8)
    order = np.argsort(stream("order").random(10))
    found = gather_batch(images, order, count=4, clock=np.array([5, step, 77]))
    first = step % 3 * 4
    np.testing.assert_array_equal(found, gather_batch(images, order[first : first + 4]))
    with pytest.raises(ValueError, match=f"the batch has {len(found)} rows, not 3"):
        gather_batch(images, order, count=4, rows=3, clock=np.array([5, step, 77]))


def test_rows_of_another_dtype(stream: Callable) -> None:
    images = stream("images").integers(0, 256, (10, 2, 3), np.uint8)
    found = gather_batch(images, np.arange(10), dtype=np.float64)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, images / 255, rtol=1e-15)


@pytest.mark.parametrize("options", [{"count": 4}, {"clock": np.zeros(3, np.int64)}, {"count": 0, "clock": np.ones(3)}])
def test_a_clock_goes_with_a_count(options: dict) -> None:
    with pytest.raises(ValueError, match="gather_batch: a clock goes with a count of at least 1"):
        gather_batch(np.zeros((4, 2), np.uint8), np.arange(4), **options)
