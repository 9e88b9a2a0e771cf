"""The GPU's losses against the CPU's, at many sizes and in padded pixels, and at logits that only series survive."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.cpu import loss as cpu
from alikit.kernels.gpu import loss
from alikit.kernels.launch import recording


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few pairs are several turns."""
    monkeypatch.setattr(loss, "BLOCK", 8)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", [(2,), (10,), (2, 1), (32, 1), (42, 1, 1, 1), (26, 1, 1)])
def test_losses_and_gradients_are_the_cpu_s(
    shape: tuple[int, ...], padded: bool, put: Callable, stream: Callable
) -> None:
    logits = (3 * stream("logits").standard_normal(shape)).astype(np.float32)
    found = loss.adversarial_losses(put(logits, activation=padded and len(shape) > 1))
    wanted = cpu.adversarial_losses(logits.astype(np.float64))
    assert found.losses.dtype == found.glogits.dtype == np.float32
    assert found.glogits_d.shape == found.glogits_g.shape == shape
    np.testing.assert_allclose(device.to_host(found.losses), wanted.losses, rtol=2e-6)
    np.testing.assert_allclose(device.to_host(found.glogits), wanted.glogits, rtol=2e-6)


def test_the_record_names_its_parts(put: Callable, stream: Callable) -> None:
    logits = stream("logits").standard_normal((6, 1)).astype(np.float32)
    found, wanted = loss.adversarial_losses(put(logits)), cpu.adversarial_losses(logits)
    for name in ("loss_d", "loss_g", "prob_data", "prob_sample", "glogits_d", "glogits_g"):
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.shape == b.shape
        np.testing.assert_allclose(device.to_host(a), b, rtol=2e-6)


def test_huge_logits_stay_finite(put: Callable) -> None:
    right = loss.adversarial_losses(put(np.array([1e4, 1e4, -1e4, -1e4])))
    np.testing.assert_array_equal(device.to_host(right.losses), [0, 2e4, 1, 0])
    np.testing.assert_array_equal(device.to_host(right.glogits), [[0, 0, 0, 0], [0.5, 0.5, -0.5, -0.5]])
    wrong = loss.adversarial_losses(put(np.array([-1e4, -1e4, 1e4, 1e4])))
    np.testing.assert_array_equal(device.to_host(wrong.losses), [2e4, 0, 0, 1])
    np.testing.assert_array_equal(device.to_host(wrong.glogits), [[-0.5, -0.5, 0.5, 0.5], [0, 0, 0, 0]])


@pytest.mark.parametrize("size", [3, 12, 30, 60])
def test_small_numbers_keep_their_digits(size: float, put: Callable) -> None:
    found = loss.adversarial_losses(put(np.array([size, -size])))
    small = math.exp(-size)
    np.testing.assert_allclose(device.to_host(found.glogits_d), [-small / (1 + small), small / (1 + small)], rtol=2e-6)
    np.testing.assert_allclose(device.to_host(found.loss_d), 2 * math.log1p(small), rtol=2e-6)


@pytest.mark.parametrize("place", [1, 4])
def test_nan_stays_visible(place: int, put: Callable) -> None:
    logits = np.zeros(6)
    logits[place] = np.nan
    found = loss.adversarial_losses(put(logits))
    assert np.isnan(device.to_host(found.losses[:2])).all()
    assert np.isnan(device.to_host(found.glogits)).sum(axis=0).tolist() == [2 * (i == place) for i in range(6)]


def test_it_is_one_launch_of_one_program(put: Callable) -> None:
    with recording() as launches:
        loss.adversarial_losses(put(np.ones((10, 1))))
    assert [x.grid for x in launches] == [(1, 1, 1)]
    assert launches[0].work.read == 40
    assert launches[0].work.written == 16 + 2 * 10 * 16  # whole pixels of 16 bytes


@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (0, 1), ()])
def test_wrong_shapes_are_named(shape: tuple[int, ...], put: Callable) -> None:
    with pytest.raises(ValueError, match=r"adversarial_losses: logits \(.*\) must be \(2M, 1, \.\.\.\)"):
        loss.adversarial_losses(put(np.zeros(shape)))
