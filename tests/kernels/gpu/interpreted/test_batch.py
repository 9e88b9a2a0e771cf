"""The GPU's batches against the CPU's: rows in order, whole padded pixels, the epoch's batch that the clock names."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.cpu import batch as cpu
from alikit.kernels.gpu import batch
from alikit.kernels.launch import recording

BF16 = ml_dtypes.bfloat16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a batch is several programs, and a program several images."""
    monkeypatch.setattr(batch, "BLOCK", 16)


@pytest.mark.parametrize(
    ("dtype", "channels", "pitch"), [(np.float32, 3, 4), (BF16, 3, 8), (BF16, 1, 8), (BF16, 20, 24)]
)
@pytest.mark.parametrize("indices", [[2, 0, 2, 9, 5], [7], []], ids=["with a repeat", "one", "none"])
@pytest.mark.usefixtures("program_order")
def test_rows_are_fetched_in_order_and_scaled(
    indices: list[int], dtype: Any, channels: int, pitch: int, put: Callable, stream: Callable
) -> None:
    images = stream("images").integers(0, 256, (10, 3, 5, channels), np.uint8)
    found = batch.gather_batch(put(images), put(np.array(indices, np.int64)), dtype=dtype)
    assert found.dtype == dtype
    assert device.padded(channels, dtype) == pitch
    wanted = cpu.gather_batch(images, np.array(indices, np.int64)).astype(dtype)
    np.testing.assert_array_equal(device.to_host(found), wanted)


def test_every_byte_falls_into_the_unit_interval_and_the_ends_are_exact(put: Callable) -> None:
    found = batch.gather_batch(put(np.arange(256, dtype=np.uint8)), put(np.arange(256)))
    np.testing.assert_array_equal(
        device.to_host(found), cpu.gather_batch(np.arange(256, dtype=np.uint8), np.arange(256))
    )
    assert (found[0], found[255]) == (0, 1)


def test_points_are_left_as_they_are_at_scale_1(put: Callable, stream: Callable) -> None:
    points = stream("points").standard_normal((6, 2)).astype(np.float32)
    found = batch.gather_batch(put(points), put(np.array([3, 1])), scale=1)
    assert device.pitch(found) == 4
    np.testing.assert_array_equal(device.to_host(found), points[[3, 1]])


def test_the_clock_names_the_epoch_s_batch(put: Callable, stream: Callable) -> None:
    images = stream("images").integers(0, 256, (11, 2, 2, 3), np.uint8)
    order = np.argsort(stream("order").random(11))
    on_device = put(images), put(np.append(order, 0))[:11]  # behind the order there is another index
    for step in (0, 1, 2, 3, 5, 6, 4 * 10**8 + 1):
        clock = np.array([9, step, 1], np.int64)
        found = device.to_host(batch.gather_batch(*on_device, count=3, clock=put(clock)))
        wanted = cpu.gather_batch(images, order, count=3, clock=clock)
        np.testing.assert_array_equal(found[: len(wanted)], wanted)
        assert len(found) == 3
        assert np.isnan(found[len(wanted) :]).all()
        assert (len(wanted) == 2) == (step % 4 == 3)
        exact = device.to_host(batch.gather_batch(*on_device, count=3, rows=len(wanted), clock=put(clock)))
        np.testing.assert_array_equal(exact, wanted)


@pytest.mark.parametrize("bad", [10, -1, 2**40])
def test_an_index_outside_gives_nan_and_reads_nothing(bad: int, put: Callable, stream: Callable) -> None:
    images = stream("images").integers(0, 256, (10, 2, 2, 3), np.uint8)
    found = device.to_host(batch.gather_batch(put(images), put(np.array([3, bad, 4]))))
    np.testing.assert_array_equal(found[[0, 2]], cpu.gather_batch(images, np.array([3, 4])))
    assert np.isnan(found[1]).all()


def test_data_sets_beyond_two_gibibytes_are_addressed() -> None:
    """Nothing is written to the memory in between, so it costs none."""
    raw = np.zeros(3 * 2**30, np.uint8)
    raw[-12:] = np.arange(12)
    images = raw.reshape(-1, 2, 2, 3).view(device.DeviceArray)
    found = batch.gather_batch(images, device.from_host(np.array([len(images) - 1])), scale=1)
    np.testing.assert_array_equal(device.to_host(found).reshape(-1), np.arange(12))


def test_it_is_one_launch_that_counts_its_bytes(put: Callable) -> None:
    with recording() as launches:
        batch.gather_batch(put(np.zeros((5, 4, 4, 3), np.uint8)), put(np.array([1, 2])), dtype=BF16)
    (only,) = launches
    assert only.work.read == 2 * 8 + 2 * 48
    assert only.work.written == 2 * 16 * 16


def test_wrong_arguments_are_named(put: Callable) -> None:
    images, order = put(np.zeros((4, 2), np.uint8)), put(np.arange(4))
    with pytest.raises(ValueError, match="gather_batch: a clock goes with a count of at least 1, found count None"):
        batch.gather_batch(images, order, clock=put(np.zeros(3, np.int64)))
    with pytest.raises(ValueError, match=r"gather_batch: indices are \(4,\) int32, wanted \(B,\) int64"):
        batch.gather_batch(images, put(np.arange(4, dtype=np.int32)))
