"""A gradient that passes on through the norm in front of a convolution, against the same things done one after another.

As in test_conv_epilogue.py the bare convolutions are taken as given, along every path.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout, NormState
from alikit.kernels.cpu.activation import dropout as dropout_kernel
from alikit.kernels.cpu.conv import conv2d, conv2d_backward, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.joined import Passed
from tests.kernels.conv_paths import Path, every_forward_path, every_gradient_path

DROPOUT = Dropout(0.3, Counters(seed=5, step=9, stream=2))
THROUGH = {
    "leaky ReLU": (0.2, None),
    "leaky ReLU and dropout": (0.2, DROPOUT),
    "ReLU and dropout": (0.0, DROPOUT),
    "no activation": (1.0, None),
}
every_way = pytest.mark.parametrize(("slope", "dropout"), THROUGH.values(), ids=THROUGH.keys())
with_and_without = pytest.mark.parametrize("normed", [True, False], ids=["norm", "no norm"])
pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture
def norm(stream: Callable) -> Callable[..., NormState]:
    """norm(shape, slope, dropout): what a batch norm that made an array of this shape has kept; numbers at random."""

    def make(shape: tuple[int, ...], slope: float, dropout: Dropout | None, *, normed: bool = True) -> NormState:
        if not normed:
            return NormState(stream("output").standard_normal(shape), slope=slope, dropout=dropout)
        vectors = (stream(name).standard_normal(shape[-1]) for name in ("gamma", "beta", "mean"))
        inv_std = stream("inv_std").uniform(0.5, 2, shape[-1])
        return NormState(3 * stream("norm").standard_normal(shape), *vectors, inv_std, slope, dropout)

    return make


def pass_through(gx: np.ndarray, state: NormState) -> tuple[np.ndarray, np.ndarray]:
    """g and sums as `NormState` defines them, cotangent by cotangent."""
    a = before_activation(state)
    factor = np.where(a > 0, 1, state.slope)
    if state.dropout is not None:
        factor = dropout_kernel(factor, state.dropout)
    g = gx.reshape(-1, *state.x.shape) * factor
    axes = tuple(range(1, g.ndim - 1))
    sums = [g.sum(axis=axes)] + ([] if state.gamma is None else [(g * (state.x - state.mean)).sum(axis=axes)])
    return g.reshape(gx.shape), np.stack(sums, axis=1)


def before_activation(state: NormState) -> np.ndarray:
    """a; without a norm something of its sign."""
    return state.x if state.gamma is None else state.gamma * (state.x - state.mean) * state.inv_std + state.beta


def pass_whole(g: np.ndarray, sums: np.ndarray, state: NormState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On through the statistics (`norm.py`), to the gradients of the norm's input, gamma and beta."""
    xhat, count = (state.x - state.mean) * state.inv_std, state.x.size // state.x.shape[-1]
    of_beta, of_gamma = sums[:, 0], sums[:, 1] * state.inv_std
    parts = zip(g.reshape(-1, *state.x.shape), of_beta, of_gamma, strict=True)
    scale = state.gamma * state.inv_std
    gx = np.concatenate([scale * (part - beta / count - xhat * gamma / count) for part, beta, gamma in parts])
    return gx, of_gamma[0], of_beta[0]


def assert_passed(found: tuple[np.ndarray, Any], gx: np.ndarray, state: NormState) -> None:
    g, sums = pass_through(gx, state)
    if isinstance(found[1], Passed):
        for one, wanted in zip((found[0], *found[1]), pass_whole(g, sums, state), strict=True):
            np.testing.assert_allclose(one, wanted, rtol=1e-10, atol=1e-9)
        return
    np.testing.assert_allclose(found[0], g, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found[1], sums, rtol=1e-10, atol=1e-9)


@every_way
@with_and_without
@pytest.mark.parametrize("cotangents", [1, 3])
@every_gradient_path
def test_a_gradient_passes_through_the_norm_in_front_of_a_convolution(
    path: Path,
    cotangents: int,
    normed: bool,
    slope: float,
    dropout: Dropout | None,
    operands: Callable,
    norm: Callable,
    stream: Callable,
) -> None:
    """Also together with the weight gradient, which is the first cotangent's."""
    gy_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    _, w, _ = operands(path, None, path.x)
    gy = stream("gy").standard_normal((cotangents * path.x[0], *gy_shape[1:]))
    state = norm(path.x, slope, dropout, normed=normed)
    plain, _ = conv2d_input_grad(gy, w, path.x[1:3], stride=path.stride)
    assert_passed(conv2d_input_grad(gy, w, path.x[1:3], stride=path.stride, through=state), plain, state)
    x = output_of(state)
    *found, gw = conv2d_backward(x, gy, w, stride=path.stride, through=state)
    assert_passed(found, plain, state)
    wanted = conv2d_weight_grad(x, gy[: len(x)], w.shape[1:3], stride=path.stride)
    np.testing.assert_allclose(gw, wanted, rtol=1e-11, atol=1e-11)


@every_way
@with_and_without
@pytest.mark.parametrize("cotangents", [1, 3])
@every_forward_path
def test_a_gradient_passes_through_the_norm_in_front_of_a_transposed_convolution(
    path: Path,
    cotangents: int,
    normed: bool,
    slope: float,
    dropout: Dropout | None,
    operands: Callable,
    norm: Callable,
    stream: Callable,
) -> None:
    x_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    _, w, _ = operands(path, None, x_shape)
    gy = stream("gy").standard_normal((cotangents * path.x[0], *path.x[1:]))
    state = norm(x_shape, slope, dropout, normed=normed)
    plain, _ = conv2d(gy, w, stride=path.stride)
    assert_passed(conv2d(gy, w, stride=path.stride, through=state), plain, state)
    x = output_of(state)
    *found, gw = conv2d_backward(x, gy, w, stride=path.stride, transposed=True, through=state)
    assert_passed(found, plain, state)
    wanted = conv2d_weight_grad(gy[: len(x)], x, w.shape[1:3], stride=path.stride)
    np.testing.assert_allclose(gw, wanted, rtol=1e-11, atol=1e-11)


def output_of(state: NormState) -> np.ndarray:
    """What that norm handed on."""
    if state.gamma is None:
        return state.x
    a = before_activation(state)
    y = np.where(a > 0, a, state.slope * a)
    return y if state.dropout is None else dropout_kernel(y, state.dropout)
