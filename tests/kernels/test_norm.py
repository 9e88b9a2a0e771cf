"""Batch norm + leaky ReLU against its formula, its gradient against differences, and the numbers that break others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu.activation import dropout as dropout_kernel
from alikit.kernels.cpu.norm import (
    batch_norm_leaky_relu,
    batch_norm_leaky_relu_grad,
    update_statistics,
)

EPS = 1e-4
DROPOUT = Dropout(0.3, Counters(seed=2, step=6, stream=4))
SHAPES = {
    "prime channel count": (4, 3, 5, 7),
    "a batch of vectors": (6, 10),
    "one channel": (5, 8, 8, 1),
    "prime number of rows, which cannot be folded": (97, 2),
    "fewer rows than threads": (1, 1, 1, 5),
    "more channels than a folded row holds": (3, 1, 1, 4099),
    "the largest layer of a narrow network": (20, 13, 13, 8),
}
SLOPES = {"leaky": 0.2, "ReLU": 0.0, "no activation": 1.0}

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
every_slope = pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES.keys())


def formula(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, slope: float, moments: Any = None) -> np.ndarray:
    axes = tuple(range(x.ndim - 1))
    mean, var = (x.mean(axis=axes), ((x - x.mean(axis=axes)) ** 2).mean(axis=axes)) if moments is None else moments
    a = gamma * (x - mean) / np.sqrt(var + EPS) + beta
    return np.where(a > 0, a, slope * a)


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[..., tuple[np.ndarray, ...]]:
    """draw(shape): x, gamma of both signs and away from 1, beta away from 0, gy; all independent."""

    def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        channels = shape[-1:]
        gamma = stream("gamma").uniform(0.5, 2, channels) * stream("sign").choice([-1, 1], channels)
        beta = stream("beta").uniform(0.2, 1, channels) * stream("side").choice([-1, 1], channels)
        x = 3 * stream("x").standard_normal(shape) + stream("offset").normal(0, 5, channels)
        return x, gamma, beta, stream("gy").standard_normal(shape)

    return arrays


@every_shape
@every_slope
@pytest.mark.usefixtures("splitting")
def test_forward_is_the_formula(shape: tuple, slope: float, draw: Callable) -> None:
    x, gamma, beta, _ = draw(shape)
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(y, formula(x, gamma, beta, slope), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(x.var(axis=axes) + EPS), rtol=1e-10)


@every_shape
@every_slope
@pytest.mark.usefixtures("splitting")
def test_the_output_at_hand_changes_no_gradient(shape: tuple, slope: float, draw: Callable) -> None:
    x, gamma, beta, gy = draw(shape)
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    without = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope)
    for a, b in zip(
        batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, y, slope=slope), without, strict=True
    ):
        np.testing.assert_array_equal(a, b)


@every_shape
@every_slope
@pytest.mark.usefixtures("splitting")
def test_gradients_agree_with_differences(
    shape: tuple, slope: float, draw: Callable, stream: Callable, slope_along: Callable
) -> None:
    """Each input alone, along a random direction; the statistics move with x."""
    x, gamma, beta, gy = draw(shape)
    _, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    found = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope)
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    for (name, value), g in zip(inputs.items(), found, strict=True):
        direction = stream("d" + name).standard_normal(value.shape)

        def loss(moved: np.ndarray, name: str = name) -> float:
            return np.vdot(formula(*{**inputs, name: moved}.values(), slope), gy)

        numeric = slope_along(loss, value, direction)
        scale = np.abs(g * direction).sum() + np.abs(gy).sum()
        assert np.vdot(g, direction) == pytest.approx(numeric, rel=0, abs=1e-7 * scale), name


@every_shape
@every_slope
@pytest.mark.usefixtures("splitting")
def test_dropout_falls_on_the_result(shape: tuple, slope: float, draw: Callable) -> None:
    """Its gradient is that of the plain norm for the dropped gradient, with and without the output at hand."""
    x, gamma, beta, gy = draw(shape)
    plain, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    y, *statistics = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope, dropout=DROPOUT)
    np.testing.assert_allclose(y, dropout_kernel(plain, DROPOUT), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(statistics, [mean, inv_std])
    wanted = batch_norm_leaky_relu_grad(dropout_kernel(gy, DROPOUT), x, gamma, beta, mean, inv_std, slope=slope)
    for at_hand in (None, y):
        found = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, at_hand, slope=slope, dropout=DROPOUT)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@every_shape
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.usefixtures("splitting")
def test_cotangents_are_treated_each_by_itself(
    shape: tuple, dropout: Dropout | None, draw: Callable, stream: Callable
) -> None:
    """And the parameters take the first one's gradient."""
    x, gamma, beta, _ = draw(shape)
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=0.2, dropout=dropout)
    gy = stream("more").standard_normal((3 * shape[0], *shape[1:]))
    saved = x, gamma, beta, mean, inv_std, y
    gx, ggamma, gbeta = batch_norm_leaky_relu_grad(gy, *saved, slope=0.2, dropout=dropout)
    alone = [batch_norm_leaky_relu_grad(g, *saved, slope=0.2, dropout=dropout) for g in np.split(gy, 3)]
    np.testing.assert_allclose(gx, np.concatenate([g for g, _, _ in alone]), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ggamma, alone[0][1], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gbeta, alone[0][2], rtol=1e-11, atol=1e-12)


@every_shape
@every_slope
@pytest.mark.usefixtures("splitting")
def test_with_sums_the_gradient_is_passed_through_already(
    shape: tuple, slope: float, draw: Callable, stream: Callable
) -> None:
    """g and its sums written out from their definition, for two cotangents."""
    x, gamma, beta, _ = draw(shape)
    gy = stream("more").standard_normal((2 * shape[0], *shape[1:]))
    _, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    a = gamma * (x - mean) * inv_std + beta
    factor = dropout_kernel(np.where(a > 0, 1, slope), DROPOUT)
    g = np.stack(np.split(gy, 2)) * factor
    axes = tuple(range(1, g.ndim - 1))
    sums = np.stack([g.sum(axis=axes), (g * (x - mean)).sum(axis=axes)], axis=1)
    wanted = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope, dropout=DROPOUT)
    found = batch_norm_leaky_relu_grad(
        g.reshape(gy.shape), x, gamma, beta, mean, inv_std, slope=slope, dropout=DROPOUT, sums=sums
    )
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_moments_that_are_given_are_used(draw: Callable) -> None:
    x, gamma, beta, _ = draw((4, 3, 5, 7))
    moments = np.linspace(-3, 3, 7), np.linspace(0.5, 4, 7)
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, moments, eps=EPS, slope=0.2)
    np.testing.assert_allclose(y, formula(x, gamma, beta, 0.2, moments), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(mean, moments[0])
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(moments[1] + EPS), rtol=1e-15)


@pytest.mark.parametrize("channels", [1, 3, 64])
@pytest.mark.usefixtures("splitting")
def test_a_batch_of_mean_1000_in_float32(channels: int, draw: Callable) -> None:
    """Statistics lose no more than their own rounding. The mean's, half a spacing of 1000, is all that y may lose."""
    x, gamma, beta, gy = (v.astype(np.float32) for v in draw((40, 9, 9, channels)))
    x += 1000
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=0.2)
    assert y.dtype == mean.dtype == inv_std.dtype == np.float32
    x64, gamma64, beta64, gy64 = (v.astype(np.float64) for v in (x, gamma, beta, gy))
    axes = (0, 1, 2)
    std = np.sqrt(x64.var(axis=axes) + EPS)
    lost = np.spacing(np.float32(1010)) / std  # of xhat, twice the rounding of the mean
    np.testing.assert_allclose(mean, x64.mean(axis=axes), rtol=2.0**-23)
    np.testing.assert_allclose(inv_std, 1 / std, rtol=1e-6)
    assert np.all(np.abs(y - formula(x64, gamma64, beta64, 0.2)) <= np.abs(gamma) * lost + 1e-5)

    # slope 1, since rounding the mean may carry an element over the kink of another slope
    grads = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=1.0)
    exact = batch_norm_leaky_relu_grad(gy64, x64, gamma64, beta64, x64.mean(axis=axes), 1 / std, slope=1.0)
    assert np.all(np.abs(grads[0] - exact[0]) <= 1e-4 * np.abs(gamma) / std)
    for name, g, e in zip(("ggamma", "gbeta"), grads[1:], exact[1:], strict=True):
        assert np.all(np.abs(g - e) <= (lost + 1e-6) * np.abs(gy64).sum(axis=axes)), name


@every_slope
def test_one_row_normalises_to_beta(slope: float) -> None:
    x, gamma = np.array([[1000.0, -7.0]]), np.array([3.0, -2.0])
    beta, gy = np.array([0.5, -0.5]), np.array([[2.0, 3.0]])
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    np.testing.assert_allclose(y, [[0.5, -0.5 * slope]])
    np.testing.assert_allclose(inv_std, 100)
    gx, ggamma, gbeta = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope)
    np.testing.assert_allclose(gx, [[0, 0]], atol=1e-12)
    np.testing.assert_allclose(ggamma, [0, 0], atol=1e-12)
    np.testing.assert_allclose(gbeta, [2, 3 * slope])


@every_slope
@pytest.mark.parametrize("sign", [1, -1])
def test_the_slope_at_exactly_zero_is_that_of_the_negative_side(slope: float, sign: int) -> None:
    """x = -1, 0, 1 has mean 0, so that with beta = 0 the middle pre-activation is exactly 0."""
    x, gy = np.array([[-1.0], [0.0], [1.0]]), np.array([[5.0], [7.0], [11.0]])
    gamma, beta = np.array([2.0 * sign]), np.zeros(1)
    y, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=slope)
    assert y[1, 0] == 0
    _, _, gbeta = batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=slope)
    ahead, behind = (11, 5) if sign > 0 else (5, 11)
    assert gbeta[0] == pytest.approx(ahead + slope * (behind + 7), rel=1e-15)


@every_slope
def test_what_is_not_finite_stays_visible(slope: float) -> None:
    x = np.ones((4, 2))
    x[1, 0] = np.nan
    y, mean, _ = batch_norm_leaky_relu(x, np.ones(2), np.zeros(2), eps=EPS, slope=slope)
    assert np.isnan(y[:, 0]).all()
    assert np.isnan(mean[0])
    assert np.isfinite(y[:, 1]).all()


def test_running_statistics_follow_the_batch() -> None:
    """Two norms at once; the deviation is 1 / inv_std."""
    batch = [(np.array([4.0, -2.0]), np.array([0.5, 0.25])), (np.array([8.0]), np.array([2.0]))]
    running = [(np.zeros(2), np.ones(2)), (np.array([-8.0]), np.array([0.5]))]
    update_statistics(batch, out_running=running, momentum=0.25)
    np.testing.assert_allclose(running[0], [[1, -0.5], [1.25, 1.75]])
    np.testing.assert_allclose(running[1], [[-4], [0.5]])
    with pytest.raises(ValueError, match=r"update_statistics: batch has shapes .*, out_running"):
        update_statistics(batch, out_running=running[:1], momentum=0.25)


V, X = np.ones(3), np.ones((4, 3))
ERRORS = {
    "gamma": (lambda: batch_norm_leaky_relu(X, V[:2], V, eps=EPS, slope=0), r"gamma has shape \(2,\), wanted \(3,\)"),
    "beta": (lambda: batch_norm_leaky_relu(X, V, X, eps=EPS, slope=0), r"beta has shape \(4, 3\), wanted \(3,\)"),
    "mean": (
        lambda: batch_norm_leaky_relu(X, V, V, (V[:1], V), eps=EPS, slope=0),
        r"mean has shape \(1,\), wanted \(3,\)",
    ),
    "x not contiguous": (
        lambda: batch_norm_leaky_relu(np.ones((3, 4)).T, V, V, eps=EPS, slope=0),
        r"x \(4, 3\) is not contiguous",
    ),
    "slope": (
        lambda: batch_norm_leaky_relu(X, V, V, eps=EPS, slope=1.5),
        r"the slope of leaky ReLU must lie in \[0, 1\], found 1.5",
    ),
    "inv_std": (
        lambda: batch_norm_leaky_relu_grad(X, X, V, V, V, V[:2], slope=0),
        r"inv_std has shape \(2,\), wanted \(3,\)",
    ),
    "gy": (
        lambda: batch_norm_leaky_relu_grad(np.ones((3, 4)), X, V, V, V, V, slope=0),
        r"gy has shape \(3, 4\), wanted \(4, 3\)",
    ),
    "gy not contiguous": (
        lambda: batch_norm_leaky_relu_grad(np.ones((3, 4)).T, X, V, V, V, V, slope=0),
        r"gy \(4, 3\) is not contiguous",
    ),
    "y": (
        lambda: batch_norm_leaky_relu_grad(X, X, V, V, V, V, X[:2], slope=0),
        r"y has shape \(2, 3\), wanted \(4, 3\)",
    ),
    "sums": (
        lambda: batch_norm_leaky_relu_grad(X, X, V, V, V, V, slope=0, sums=np.ones((2, 2, 3))),
        r"sums have shape \(2, 2, 3\), wanted \(1, 2, 3\)",
    ),
    "rate": (
        lambda: batch_norm_leaky_relu(X, V, V, eps=EPS, slope=0, dropout=Dropout(1.0, DROPOUT.counters)),
        r"the dropout rate must lie in \[0, 1\), found 1.0",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_arguments_are_named(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=f"batch_norm_leaky_relu.*: {message}"):
        call()
