"""Batch norm on the GPU against the CPU's in float64, composed with the CPU's dropout masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu import norm as cpu
from alikit.kernels.cpu.activation import keep_mask
from alikit.kernels.gpu import norm
from alikit.kernels.launch import recording

EPS, SLOPE = 1e-4, 0.2
BF16 = ml_dtypes.bfloat16
# A tile is 1,024 elements at these sizes: 64 rows of 16 columns
SHAPES = {
    "one row below a tile": (7, 3, 3, 16),
    "a tile": (64, 16),
    "one row above a tile": (13, 1, 5, 16),
    "prime channels, unaligned": (3, 5, 7, 13),
    "several tiles beside each other": (3, 3, 2, 40),
    "three channels": (2, 9, 11, 3),
    "two channels": (37, 2),
    "one channel, two tiles": (5, 11, 19, 1),
    "one element": (1, 1, 1, 1),
    "one row": (1, 24),
}
RATES = {"no dropout": None, "dropout": 0.2}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
every_rate = pytest.mark.parametrize("rate", RATES.values(), ids=RATES.keys())


def dropout_of(rate: float | None) -> Dropout | None:
    return None if rate is None else Dropout(rate, Counters(2**63 + 5, 11, 2**32 - 7))


def factor(dropout: Dropout | None, shape: tuple) -> Any:
    if dropout is None:
        return 1.0
    return keep_mask(dropout, int(np.prod(shape))).reshape(shape) / (1 - dropout.rate)


@pytest.fixture
def draw(stream: Callable) -> Callable[..., dict[str, np.ndarray]]:
    """draw(shape, K): x, gamma of both signs, beta away from 0, K cotangents; float32 numbers that bfloat16 holds."""

    def arrays(shape: tuple[int, ...], count: int = 1) -> dict[str, np.ndarray]:
        channels = shape[-1:]
        found = {
            "x": 3 * stream("x").standard_normal(shape) + stream("offset").normal(0, 5, channels),
            "gamma": stream("gamma").uniform(0.5, 2, channels) * stream("sign").choice([-1, 1], channels),
            "beta": stream("beta").uniform(0.2, 1, channels) * stream("side").choice([-1, 1], channels),
            "gy": stream("gy").standard_normal((count * shape[0], *shape[1:])),
        }
        return {name: v.astype(BF16).astype(np.float32) for name, v in found.items()}

    return arrays


def double(v: np.ndarray) -> np.ndarray:
    return np.asarray(v, np.float64)


def forward(a: dict, slope: float = SLOPE, eps: float = EPS) -> tuple:
    return cpu.batch_norm_leaky_relu(double(a["x"]), double(a["gamma"]), double(a["beta"]), eps=eps, slope=slope)


def backward(a: dict, dropout: Dropout | None, slope: float = SLOPE) -> tuple:
    """gx of all cotangents, ggamma and gbeta of the first, and the sums of all."""
    x, gamma, beta = (double(a[name]) for name in ("x", "gamma", "beta"))
    _, mean, inv_std = forward(a, slope)
    passed = a["gy"].reshape(-1, *x.shape) * factor(dropout, x.shape)
    grads = [cpu.batch_norm_leaky_relu_grad(g, x, gamma, beta, mean, inv_std, slope=slope) for g in passed]
    sums = np.stack([(gbeta, ggamma / inv_std) for _, ggamma, gbeta in grads])
    return np.concatenate([gx for gx, _, _ in grads]), grads[0][1], grads[0][2], sums


@every_shape
@pytest.mark.parametrize(("rate", "pitched"), [(None, False), (0.2, True)], ids=["dense", "padded with dropout"])
def test_forward(shape: tuple, rate: float | None, pitched: bool, draw: Callable, put: Callable) -> None:
    a, dropout = draw(shape), dropout_of(rate)
    x = put(a["x"], activation=pitched)
    y, mean, inv_std = norm.batch_norm_leaky_relu(
        x, put(a["gamma"]), put(a["beta"]), eps=EPS, slope=SLOPE, dropout=dropout
    )
    expected_y, expected_mean, expected_inv_std = forward(a)
    keep = factor(dropout, shape)
    np.testing.assert_array_equal(y.get() == 0, np.broadcast_to(keep == 0, shape))
    np.testing.assert_allclose(y.get(), expected_y * keep, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(mean.get(), expected_mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inv_std.get(), expected_inv_std, rtol=3e-6)


@every_shape
@pytest.mark.parametrize(("rate", "count"), [(None, 1), (0.2, 2)], ids=["alone", "two cotangents with dropout"])
def test_gradient(shape: tuple, rate: float | None, count: int, draw: Callable, put: Callable) -> None:
    """With the sums of the reference, and with those it takes itself, one launch less and one more."""
    a, dropout = draw(shape, count), dropout_of(rate)
    _, mean, inv_std = forward(a)
    *expected, sums = backward(a, dropout)
    state = [put(v) for v in (a["gamma"], a["beta"], mean, inv_std)]
    x, gy = put(a["x"], activation=True), put(a["gy"], activation=True)
    g = a["gy"].reshape(-1, *shape) * factor(dropout, shape) * np.where(forward(a)[0] > 0, 1, SLOPE)
    with recording() as launches:
        whole = norm.batch_norm_leaky_relu_grad(gy, x, *state, slope=SLOPE, dropout=dropout)
    assert len(launches) == 2
    with recording() as launches:
        part = norm.batch_norm_leaky_relu_grad(
            put(g.reshape(gy.shape)), x, *state, slope=SLOPE, dropout=dropout, sums=put(sums)
        )
    assert len(launches) == 1
    scale = np.abs(a["gy"]).sum() / shape[-1] + 1
    for found in (whole, part):
        for name, got, wanted in zip(("gx", "ggamma", "gbeta"), found, expected, strict=True):
            assert got.dtype == np.float32
            tolerance = 1e-5 if name == "gx" else 2e-6 * scale
            np.testing.assert_allclose(got.get(), wanted, rtol=1e-4, atol=tolerance, err_msg=name)


@every_rate
@pytest.mark.parametrize("shape", [(5, 3, 5, 16), (3, 5, 7, 3)], ids=["whole pixels", "padded pixels"])
def test_bfloat16(shape: tuple, rate: float | None, draw: Callable, put: Callable) -> None:
    """Storage is rounded once, on the way out; statistics are float32."""
    a, dropout = draw(shape, 2), dropout_of(rate)
    x, gy = put(a["x"], BF16, activation=True), put(a["gy"], BF16, activation=True)
    gamma, beta = put(a["gamma"]), put(a["beta"])
    y, mean, inv_std = norm.batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=SLOPE, dropout=dropout)
    assert (y.dtype, mean.dtype, inv_std.dtype) == (BF16, np.float32, np.float32)
    expected = forward(a)
    np.testing.assert_allclose(y.get().astype(float), expected[0] * factor(dropout, shape), rtol=2.0**-8, atol=2e-5)
    np.testing.assert_allclose(inv_std.get(), expected[2], rtol=3e-6)
    gx, ggamma, gbeta = norm.batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=SLOPE, dropout=dropout)
    assert (gx.dtype, ggamma.dtype, gbeta.dtype) == (BF16, np.float32, np.float32)
    *expected, _ = backward(a, dropout)
    np.testing.assert_allclose(gx.get().astype(float), expected[0], rtol=2.0**-8, atol=2e-5)
    np.testing.assert_allclose(ggamma.get(), expected[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gbeta.get(), expected[2], rtol=1e-4, atol=1e-4)


def test_another_type_and_pitch_are_written(draw: Callable, put: Callable) -> None:
    a = draw((2, 3, 5, 5))
    x = put(a["x"], BF16, activation=True)
    y, _, _ = norm.batch_norm_leaky_relu(x, put(a["gamma"]), put(a["beta"]), eps=EPS, slope=SLOPE, dtype=np.float32)
    assert y.dtype == np.float32
    assert (device.pitch(x), device.pitch(y)) == (8, 8)
    np.testing.assert_allclose(y.get(), forward(a)[0], rtol=1e-5, atol=2e-5)
    y, _, _ = norm.batch_norm_leaky_relu(put(a["x"]), put(a["gamma"]), put(a["beta"]), eps=EPS, slope=SLOPE, dtype=BF16)
    assert y.dtype == BF16
    np.testing.assert_allclose(y.get().astype(float), forward(a)[0], rtol=2.0**-8, atol=2e-5)


def test_moments_that_are_given_are_used(draw: Callable, put: Callable) -> None:
    a = draw((4, 3, 5, 7))
    mean, var = np.linspace(-3, 3, 7), np.linspace(0.5, 4, 7)
    given = put(mean), put(var)
    with recording() as launches:
        y, kept, inv_std = norm.batch_norm_leaky_relu(
            put(a["x"]), put(a["gamma"]), put(a["beta"]), given, eps=0.0, slope=SLOPE
        )
    assert len(launches) == 1
    assert kept is given[0]
    pre = a["gamma"] * (a["x"] - mean) / np.sqrt(var) + a["beta"]
    np.testing.assert_allclose(y.get(), np.where(pre > 0, pre, SLOPE * pre), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(inv_std.get(), 1 / np.sqrt(var), rtol=1e-6)


@pytest.mark.usefixtures("program_order")
def test_moments_far_from_zero(stream: Callable, put: Callable) -> None:
    """Mean 1000 and variance 1, by shares of tiles whose last is not full; then shares of quite different means."""
    x = (1000 + stream("x").standard_normal((271, 16))).astype(np.float32)
    mean, var = norm.moments_of(put(x))
    np.testing.assert_allclose(mean.get(), x.mean(axis=0, dtype=np.float64), rtol=2.0**-23)
    np.testing.assert_allclose(var.get(), x.var(axis=0, dtype=np.float64), rtol=1e-5)
    x[:64] = stream("y").standard_normal((64, 16))
    mean, var = norm.moments_of(put(x))
    np.testing.assert_allclose(mean.get(), x.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(var.get(), x.var(axis=0, dtype=np.float64), rtol=1e-6)


@pytest.mark.usefixtures("program_order")
def test_a_share_of_several_tiles(stream: Callable, put: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm, "shares_of", lambda rows, table: (-(-rows // (2 * table.BM)), 2 * table.BM))
    monkeypatch.setattr(norm, "merged_at_once", lambda table: 2)
    x = (1000 + stream("x").standard_normal((333, 16))).astype(np.float32)
    mean, var = norm.moments_of(put(x))
    np.testing.assert_allclose(mean.get(), x.mean(axis=0, dtype=np.float64), rtol=2.0**-23)
    np.testing.assert_allclose(var.get(), x.var(axis=0, dtype=np.float64), rtol=1e-5)
    gy, ones, zeros = stream("gy").standard_normal((666, 16)).astype(np.float32), np.ones(16), np.zeros(16)
    _, ggamma, gbeta = norm.batch_norm_leaky_relu_grad(
        put(gy), put(x), put(ones), put(zeros), put(1000 * ones), put(ones), slope=1.0
    )
    np.testing.assert_allclose(gbeta.get(), gy[:333].sum(axis=0), atol=1e-4)
    np.testing.assert_allclose(ggamma.get(), (gy[:333] * (x - 1000)).sum(axis=0), atol=2e-4)


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_slope_at_exactly_zero_is_that_of_the_negative_side(slope: float, sign: int, put: Callable) -> None:
    x, gy = put(np.array([[-1.0], [0.0], [1.0]])), put(np.array([[5.0], [7.0], [11.0]]))
    gamma, beta = put(np.array([2.0 * sign])), put(np.zeros(1))
    y, mean, inv_std = norm.batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    assert y.get()[1, 0] == 0
    _, _, gbeta = norm.batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope)
    ahead, behind = (11, 5) if sign > 0 else (5, 11)
    assert gbeta.get()[0] == pytest.approx(ahead + slope * (behind + 7), rel=1e-6)


def test_what_is_not_finite_stays_visible(put: Callable) -> None:
    x = np.ones((4, 2))
    x[1, 0] = np.nan
    y, mean, _ = norm.batch_norm_leaky_relu(put(x), put(np.ones(2)), put(np.zeros(2)), eps=EPS, slope=SLOPE)
    assert np.isnan(y.get()[:, 0]).all()
    assert np.isnan(mean.get()[0])
    assert np.isfinite(y.get()[:, 1]).all()


def test_running_statistics_of_all_norms_in_one_launch(put: Callable, stream: Callable) -> None:
    sizes = (2, 1, 300)
    values = [[stream(f"{n}{i}").uniform(0.5, 2, n).astype(np.float32) for i in range(4)] for n in sizes]
    running = [(put(v[2], out=True), put(v[3], out=True)) for v in values]
    with recording() as launches:
        norm.update_statistics([(put(v[0]), put(v[1])) for v in values], out_running=running, momentum=0.05)
    assert len(launches) == 1
    expected = [(v[2].copy(), v[3].copy()) for v in values]
    cpu.update_statistics([tuple(v[:2]) for v in values], out_running=expected, momentum=0.05)
    for got, wanted in zip(running, expected, strict=True):
        for g, w in zip(got, wanted, strict=True):
            np.testing.assert_allclose(g.get(), w, rtol=1e-6)


def test_wrong_arguments_are_named(put: Callable) -> None:
    x, v = put(np.ones((4, 3))), put(np.ones(3))
    with pytest.raises(ValueError, match=r"batch_norm_leaky_relu: beta has shape \(2,\), wanted \(3,\)"):
        norm.batch_norm_leaky_relu(x, v, v[:2], eps=EPS, slope=SLOPE)
    with pytest.raises(ValueError, match=r"batch_norm_leaky_relu_grad: gy has shape \(6, 3\), wanted \(4, 3\)"):
        norm.batch_norm_leaky_relu_grad(put(np.ones((6, 3))), x, v, v, v, v, slope=SLOPE)
    with pytest.raises(ValueError, match=r"sums have shape \(2, 2, 3\), wanted \(1, 2, 3\)"):
        norm.batch_norm_leaky_relu_grad(x, x, v, v, v, v, slope=SLOPE, sums=put(np.ones((2, 2, 3))))
    with pytest.raises(ValueError, match="update_statistics: batch has shapes"):
        norm.update_statistics([(v, v)], out_running=[], momentum=0.05)
