"""The GPU's random numbers against the CPU's: the same counters give the same ones, whatever layout and dtype."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import Counters
from alikit.kernels.cpu import sampling as cpu
from alikit.kernels.gpu import sampling
from alikit.kernels.launch import jit, launch, recording, tl

BF16 = ml_dtypes.bfloat16
COUNTERS = Counters(seed=1, step=2, stream=3)
STREAMS = [
    Counters(seed=0, step=0, stream=0),
    Counters(seed=2**63 + 5, step=10**6, stream=2**40),
    Counters(seed=2**64 - 1, step=2**64 - 1, stream=2**64 - 1),
]


def host(x: Any) -> np.ndarray:
    return device.to_host(x).astype(np.float32)


@pytest.mark.parametrize("counters", STREAMS, ids=str)
@pytest.mark.usefixtures("program_order")
def test_normals_are_the_cpu_s(counters: Counters) -> None:
    found = sampling.normal((2, 3, 55), counters)  # 330 numbers: two programs
    assert found.dtype == np.float32
    assert device.pitch(found) == 56
    np.testing.assert_allclose(host(found), cpu.normal((2, 3, 55), counters), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 1, 1, 8), (2, 1, 1, 2), (0, 3)])
def test_any_shape_is_filled_in_c_order(shape: tuple[int, ...]) -> None:
    found = sampling.normal(shape, COUNTERS)
    assert found.shape == shape
    np.testing.assert_allclose(host(found), cpu.normal(shape, COUNTERS), rtol=0, atol=2e-6)


def test_bfloat16_holds_the_same_numbers_rounded() -> None:
    single, rounded = (sampling.normal((5, 3), COUNTERS, dtype) for dtype in (np.float32, BF16))
    assert rounded.dtype == BF16
    assert device.pitch(rounded) == 8
    np.testing.assert_array_equal(device.to_host(rounded), device.to_host(single).astype(BF16))


def test_the_clock_tells_seed_and_step(put: Callable) -> None:
    clock = put(np.array([11, 22, 33], np.int64))
    found = sampling.normal((9,), Counters(5, clock, 4))
    np.testing.assert_array_equal(host(found), host(sampling.normal((9,), Counters(11, 22, 4))))


@jit
def box_muller_alone(low_ptr, high_ptr, y_ptr, N: tl.constexpr):
    offs = tl.arange(0, N)
    cos, sin = sampling._cos_sin(tl.load(high_ptr + offs))
    tl.store(y_ptr + offs, sampling._radius(tl.load(low_ptr + offs)))
    tl.store(y_ptr + N + offs, cos)
    tl.store(y_ptr + 2 * N + offs, sin)


def test_box_muller_is_exact_to_rounding_wherever_its_series_begin_and_end(put: Callable, stream: Callable) -> None:
    """Both ends of u1, the places around the root of one half, and every border of an eighth of a turn."""
    size, near = 1 << 14, np.arange(-256, 256)
    ends = [0, 2**24, round(2**24 * math.sqrt(0.5)), 2**23, round(2**23 * math.sqrt(0.5)), 1000]
    low = np.concatenate([np.clip(end + near, 0, 2**24 - 1) << 8 for end in ends])
    high = np.concatenate([(eighth * 2**29 + near) % 2**32 for eighth in range(8)])
    low, high = (
        np.concatenate([x, stream(name).integers(0, 2**32, size - len(x))]).astype(np.uint32)
        for x, name in ((low, "low"), (high, "high"))
    )
    y = device.empty((3, size))
    launch(box_muller_alone, 1, {"low_ptr": put(low), "high_ptr": put(high), "y_ptr": y}, {"N": size})
    radius, cos, sin = host(y)
    angle = high * (2 * np.pi * 2.0**-32)
    np.testing.assert_allclose(radius, np.sqrt(-2 * np.log(((low >> 8) + 0.5) * 2.0**-24)), rtol=3e-7)
    np.testing.assert_allclose(cos, np.cos(angle), rtol=0, atol=1.5e-7)
    np.testing.assert_allclose(sin, np.sin(angle), rtol=0, atol=1.5e-7)


# shape of params, dtype of params, dtype asked of z, dtype of gz, params in padded pixels
CASES = [
    ((5, 6), np.float32, None, np.float32, True),
    ((5, 6), np.float32, None, BF16, False),
    ((3, 1, 1, 16), np.float32, BF16, BF16, True),
    ((70, 1, 1, 10), np.float32, None, np.float32, True),
    ((4, 2, 6), BF16, None, BF16, True),
    ((2,), np.float32, None, np.float32, False),
]


@pytest.mark.parametrize(("shape", "dtype", "z_dtype", "gz_dtype", "padded"), CASES)
def test_gaussian_sample_and_its_gradient_are_the_cpu_s(
    shape: tuple, dtype: Any, z_dtype: Any, gz_dtype: Any, padded: bool, put: Callable, stream: Callable
) -> None:
    nz = shape[-1] // 2
    params = stream("params").standard_normal(shape).astype(dtype)
    gz = stream("gz").standard_normal((*shape[:-1], nz)).astype(gz_dtype)
    on_device = put(params, dtype, activation=padded)

    z = sampling.gaussian_sample(on_device, COUNTERS, dtype=z_dtype)
    wanted = cpu.gaussian_sample(params.astype(np.float32), COUNTERS)
    assert z.dtype == (z_dtype or dtype)
    tolerance = 2.0**-8 if z.dtype == BF16 else 2e-6
    np.testing.assert_allclose(host(z), wanted, rtol=tolerance, atol=1e-5)

    g = sampling.gaussian_sample_grad(put(gz, gz_dtype, activation=True), on_device, COUNTERS)
    wanted = cpu.gaussian_sample_grad(gz.astype(np.float32), params.astype(np.float32), COUNTERS)
    assert g.dtype == dtype
    tolerance = 2.0**-8 if dtype == BF16 else 2e-6
    np.testing.assert_allclose(host(g), wanted, rtol=tolerance, atol=1e-5)
    np.testing.assert_array_equal(device.to_host(g)[..., :nz], gz.astype(dtype))


def test_an_infinite_sigma_stays_visible(put: Callable) -> None:
    params = put(np.array([[0.0, 1.0, 1e4, 0.0]]))
    with np.errstate(over="ignore"):
        z = host(sampling.gaussian_sample(params, COUNTERS))
        g = host(sampling.gaussian_sample_grad(put(np.array([[1.0, 1.0]])), params, COUNTERS))
    assert np.isfinite(z).tolist() == [[False, True]]
    assert np.isfinite(g).tolist() == [[True, True, False, True]]


def test_each_is_one_launch_that_counts_its_bytes(put: Callable) -> None:
    params, gz = put(np.ones((6, 8))), put(np.ones((6, 4)), BF16)
    with recording() as launches:
        sampling.normal((6, 4), COUNTERS)
        sampling.gaussian_sample(params, COUNTERS, dtype=BF16)
        sampling.gaussian_sample_grad(gz, params, COUNTERS)
    assert [(x.work.read, x.work.written) for x in launches] == [(0, 96), (192, 48), (48 + 192, 192)]


def test_wrong_arguments_are_named(put: Callable) -> None:
    with pytest.raises(ValueError, match=r"gaussian_sample: params \(4, 3\) must hold mu and log sigma"):
        sampling.gaussian_sample(put(np.ones((4, 3))), COUNTERS)
    with pytest.raises(ValueError, match=r"gaussian_sample_grad: params \(4, 3\) must hold mu and log sigma"):
        sampling.gaussian_sample_grad(put(np.ones((4, 1))), put(np.ones((4, 3))), COUNTERS)
    with pytest.raises(ValueError, match=r"gaussian_sample_grad: gz has shape \(1, 2\), wanted \(4, 2\)"):
        sampling.gaussian_sample_grad(put(np.ones((1, 2))), put(np.ones((4, 4))), COUNTERS)
