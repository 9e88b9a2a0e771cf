"""The gradient behind a dense layer's maxout, left to its winners, means what it means written out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout, NormState
from alikit.kernels.cpu import passes
from alikit.kernels.cpu.activation import apply_activation, bias_activation_grad, scale_rows
from alikit.kernels.cpu.conv import conv2d_backward, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.parallel import settle
from alikit.kernels.cpu.winners import Winners

ROWS, GROUPS, PIECES, CHANNELS = 6, 9, 5, 7
MAXOUT = Activation("maxout", PIECES)

pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever passes are in use."""
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


def test_rows_that_are_weighed(both: tuple, draw: Callable) -> None:
    x, weights = draw("x", ROWS, 1, 1, CHANNELS), draw("weights", ROWS, 1, 1, 1)
    first = [scale_rows(gy[:ROWS], weights) for gy in both]
    partial = [conv2d_weight_grad(x, gy, (1, 1), partials=True) for gy in first]
    settle()
    assert partial[0].shape == (1, GROUPS * PIECES, 1, 1, CHANNELS)
    same(*partial)


@pytest.mark.parametrize("rows", [None, slice(1, 4)])
def test_both_gradients_at_once(both: tuple, draw: Callable, rows: slice | None) -> None:
    x, w = draw("x", ROWS, 1, 1, CHANNELS), draw("w", GROUPS * PIECES, 1, 1, CHANNELS)
    found, wanted = (conv2d_backward(x, gy, w, rows=rows) for gy in both)
    same(found[0], wanted[0])
    same(found[2], wanted[2])


def test_through_the_norm_in_front(both: tuple, draw: Callable) -> None:
    x, w = draw("x", ROWS, 1, 1, CHANNELS), draw("w", GROUPS * PIECES, 1, 1, CHANNELS)
    norm = NormState(x, *(draw(name, CHANNELS) for name in ("gamma", "beta", "mean")), abs(draw("std", CHANNELS)), 0.2)
    for found, wanted in zip(*(conv2d_backward(x, gy, w, through=norm) for gy in both), strict=True):
        same(found, wanted, x.dtype)


def test_few_pieces_are_written_out(draw: Callable) -> None:
    gy, winner = draw("gy", 3, 1, 1, 4), np.zeros((3, 1, 1, 4), np.uint8)
    found, _ = bias_activation_grad(gy, gy, Activation("maxout", 3), winner=winner, deferred=True)
    assert isinstance(found, np.ndarray)
