"""The gradient behind a dense layer's maxout, left to its winners, means what it means written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad
from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout, NormState
from alikit.kernels.cpu import passes, winners
from alikit.kernels.cpu.activation import apply_activation, bias_activation_grad, scale_rows
from alikit.kernels.cpu.conv import conv2d_backward, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.norm import batch_norm_leaky_relu_grad
from alikit.kernels.cpu.parallel import settle
from alikit.kernels.cpu.winners import Winners

ROWS, GROUPS, PIECES, CHANNELS = 6, 9, 5, 7
MAXOUT = Activation("maxout", PIECES)

pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture(autouse=True)
def always_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where passes are NumPy's, which would write the gradient out."""
    monkeypatch.setattr(passes, "WINNERS", 4)


@pytest.fixture(params=["float32", "float64"])
def draw(request: pytest.FixtureRequest, stream: Callable) -> Callable[..., np.ndarray]:
    return lambda label, *shape: stream(label).standard_normal(shape).astype(request.param)


@pytest.fixture(params=[1, 2], ids=["one cotangent", "two"])
def both(request: pytest.FixtureRequest, draw: Callable) -> tuple[Winners, np.ndarray]:
    """The same gradient twice: left to the winners, and written out; with dropout behind the maxout."""
    options = {"winner": apply_activation(draw("a", ROWS, 1, 1, GROUPS * PIECES), None, MAXOUT)[1]}
    options |= {"dropout": Dropout(0.3, Counters(1, 2, 3))}
    gy, y = draw("gy", request.param * ROWS, 1, 1, GROUPS), draw("y", ROWS, 1, 1, GROUPS)
    found, found_bias = bias_activation_grad(gy, y, MAXOUT, **options, bias_shape=(GROUPS * PIECES,), deferred=True)
    wanted, wanted_bias = bias_activation_grad(gy, y, MAXOUT, **options, bias_shape=(GROUPS * PIECES,))
    assert isinstance(found, Winners)
    assert (found.shape, found.dtype, len(found)) == (wanted.shape, wanted.dtype, len(wanted))
    same(found_bias, wanted_bias)
    return found, wanted


def same(found: Any, wanted: Any, dtype: Any = None) -> None:
    """dtype: of what was added up, if another."""
    assert found.dtype == wanted.dtype
    eps = np.finfo(dtype or wanted.dtype).eps
    np.testing.assert_allclose(found, wanted, rtol=0, atol=20 * eps * np.abs(wanted).max())  # dozens in another order


def test_gradients_of_input_weight_and_bias(both: tuple, draw: Callable) -> None:
    x, w = draw("x", ROWS, 1, 1, CHANNELS), draw("w", GROUPS * PIECES, 1, 1, CHANNELS)
    same(*(conv2d_input_grad(gy, w, (1, 1))[0] for gy in both))
    same(*(conv2d_weight_grad(x, gy[:ROWS], (1, 1)) for gy in both))
    for shape in ((GROUPS * PIECES,), (1, 1, GROUPS * PIECES)):
        same(*(bias_activation_grad(gy, gy, LINEAR, bias_shape=shape)[1] for gy in both))


@pytest.mark.parametrize("channels", [CHANNELS, 50], ids=["less than a vector", "several"])
def test_arrays_of_another_dtype_or_order(both: tuple, draw: Callable, channels: int) -> None:
    x, w = draw("x", ROWS, 1, 1, channels), draw("w", GROUPS * PIECES, 1, 1, channels)
    turned = np.ascontiguousarray(w.T).T
    same(*(conv2d_input_grad(gy, turned, (1, 1))[0] for gy in both))
    for other in (np.float32, np.float64):
        found, wanted = (conv2d_input_grad(gy, w.astype(other), (1, 1))[0] for gy in both)
        same(found, wanted.astype(found.dtype), np.float32)
        found, wanted = (conv2d_weight_grad(x.astype(other), gy[:ROWS], (1, 1)) for gy in both)
        same(found, wanted.astype(found.dtype), np.float32)


@pytest.mark.parametrize("large", [0, math.inf], ids=["waited for", "left"])
def test_rows_that_are_weighed(both: tuple, draw: Callable, large: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winners, "LARGE", large)
    x, weights = draw("x", ROWS, 1, 1, CHANNELS), draw("weights", ROWS, 1, 1, 1)
    first = [scale_rows(gy[:ROWS], weights) for gy in both]
    partial = [conv2d_weight_grad(x, gy, (1, 1), partials=True) for gy in first]
    settle()
    assert partial[0].shape == (1, GROUPS * PIECES, 1, 1, CHANNELS)
    same(*partial)


@pytest.mark.parametrize("rows", [None, slice(1, 4), slice(-4, -1)])
def test_both_gradients_at_once(both: tuple, draw: Callable, rows: slice | None) -> None:
    """Rows of the first and of the last cotangent."""
    x, w = draw("x", ROWS, 1, 1, CHANNELS), draw("w", GROUPS * PIECES, 1, 1, CHANNELS)
    found, wanted = (conv2d_backward(x, gy, w, rows=rows) for gy in both)
    same(found[0], wanted[0])
    same(found[2], wanted[2])


def test_through_the_norm_in_front(both: tuple, draw: Callable) -> None:
    x, w = draw("x", ROWS, 1, 1, CHANNELS), draw("w", GROUPS * PIECES, 1, 1, CHANNELS)
    norm = NormState(x, *(draw(name, CHANNELS) for name in ("gamma", "beta", "mean")), abs(draw("std", CHANNELS)), 0.2)
    saved, results = (norm.x, norm.gamma, norm.beta, norm.mean, norm.inv_std, x), []
    for gy in both:  # the written out one passes through the whole norm at once
        g, sums, gw = conv2d_backward(x, gy, w, through=norm)
        results.append((*batch_norm_leaky_relu_grad(g, *saved, slope=0.2, sums=sums), gw))
    for found, wanted in zip(*results, strict=True):
        same(found, wanted, x.dtype)


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,), (ROWS, 1, 1, 1)])
def test_weights_of_rows_come_in_any_shape_and_dtype(both: tuple, draw: Callable, shape: tuple) -> None:
    weights = draw("weights", *shape).astype(np.float64)
    found, wanted = (scale_rows(gy[:ROWS], weights) for gy in both)
    assert found.shape == wanted.shape
    same(*(bias_activation_grad(gy, gy, LINEAR, bias_shape=wanted.shape[-1:])[1] for gy in (found, wanted)))


@pytest.mark.parametrize("kernel", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("layer", [ops.conv2d, ops.conv_transpose2d])
def test_only_dense_layers_leave_it(
    layer: Callable, size: int, kernel: int, draw: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a layer's kernel and image, its gradients are those of one that writes it out."""
    transposed = layer is ops.conv_transpose2d
    if kernel > size and not transposed:
        return
    outer, inner = (3, 2 * PIECES) if transposed else (2 * PIECES, 3)
    arrays = draw("x", 2, size, size, 3), draw("w", outer, kernel, kernel, inner), draw("b", 2 * PIECES)
    found = []
    for pieces in (4, 100):
        monkeypatch.setattr(passes, "WINNERS", pieces)
        tensors = [Tensor(a, requires_grad=True) for a in arrays]
        found.append(grad([ops.sum(layer(*tensors, activation=MAXOUT)[0])], [tensors])[0])
    for one, other in zip(*found, strict=True):
        same(one, other)


def test_what_cannot_be_left_is_refused(both: tuple, draw: Callable) -> None:
    left = both[0][:ROWS]
    w = draw("w", GROUPS * PIECES, 2, 2, CHANNELS)
    with pytest.raises(ValueError, match=r"conv2d_input_grad: gy .* is left to winners: wanted a dense layer"):
        conv2d_input_grad(left, w, (2, 2))
    with pytest.raises(ValueError, match=r"conv2d_backward: gy .* is left to winners"):
        conv2d_backward(draw("x", ROWS, 1, 1, 3), left, draw("v", 3, 1, 1, GROUPS * PIECES), transposed=True)
    with pytest.raises(ValueError, match="wanted no activation and no dropout"):
        bias_activation_grad(left, left, Activation("leaky_relu", 0.1))
    with pytest.raises(ValueError, match="bias has shape"):
        bias_activation_grad(left, left, LINEAR, bias_shape=(3,))


def test_a_gradient_may_lie_anyhow(draw: Callable) -> None:
    """As that of a sum does: one number for all."""
    y, gy = draw("y", ROWS, 1, 1, GROUPS), np.broadcast_to(draw("gy", 1), (ROWS, 1, 1, GROUPS))
    options = {"winner": np.zeros(y.shape, np.uint8), "dropout": Dropout(0.3, Counters(1, 2, 3)), "bias_shape": (45,)}
    found, wanted = (bias_activation_grad(gy, y, MAXOUT, **options, deferred=deferred)[1] for deferred in (True, False))
    same(found, wanted)


def test_few_pieces_are_written_out(draw: Callable) -> None:
    gy, winner = draw("gy", 3, 1, 1, 4), np.zeros((3, 1, 1, 4), np.uint8)
    found, _ = bias_activation_grad(gy, gy, Activation("maxout", 3), winner=winner, deferred=True)
    assert isinstance(found, np.ndarray)
