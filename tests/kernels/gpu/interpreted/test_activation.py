"""Bias, activation and dropout on the GPU against the CPU's, composed with the CPU's masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout
from alikit.kernels.cpu import activation as cpu
from alikit.kernels.gpu import activation
from alikit.kernels.launch import recording

BF16 = ml_dtypes.bfloat16
DROPOUT = Dropout(0.2, Counters(3, 11, 2**32 - 7))
ACTIVATIONS = {
    "linear": LINEAR,
    "leaky": Activation("leaky_relu", 0.1),
    "ReLU": Activation("leaky_relu", 0.0),
    "sigmoid": Activation("sigmoid"),
    "two pieces": Activation("maxout", 2),
    "three pieces": Activation("maxout", 3),
}
every_activation = pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
every_bias = pytest.mark.parametrize("bias", ["none", "tied", "untied"])
# Channels behind maxout. A tile is 1,024 elements at these sizes, 64 rows of 16 columns
SHAPES = {
    "one row below a tile": (7, 3, 3, 16),
    "one row above a tile": (13, 1, 5, 16),
    "three channels": (5, 3, 5, 3),
    "two channels": (3, 5, 7, 2),
    "several tiles beside each other": (3, 2, 2, 40),
    "one element": (1, 1, 1, 1),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def factor(shape: tuple, dropout: Dropout | None) -> Any:
    if dropout is None:
        return np.float32(1)
    return cpu.keep_mask(dropout, int(np.prod(shape))).reshape(shape) * np.float32(1 / (1 - dropout.rate))


def bias_shape_of(bias: str, shape: tuple) -> tuple | None:
    return {"none": None, "tied": shape[-1:], "untied": shape[1:]}[bias]


@pytest.fixture
def draw(stream: Callable) -> Callable[..., tuple[np.ndarray, np.ndarray | None]]:
    """draw(shape, bias): x, many of whose groups hold ties, with zeros among them, and a bias; bfloat16 holds both."""

    def arrays(shape: tuple, bias: str) -> tuple[np.ndarray, np.ndarray | None]:
        x = stream("x").integers(-8, 8, shape) / 4
        b = bias_shape_of(bias, shape)
        return x.astype(np.float32), None if b is None else (stream("b").integers(-8, 8, b) / 4).astype(np.float32)

    return arrays


def before(shape: tuple, act: Activation) -> tuple:
    return (*shape[:-1], shape[-1] * act.pieces)


@every_shape
@every_activation
@pytest.mark.parametrize(("bias", "dropout"), [("none", None), ("tied", DROPOUT), ("untied", None)])
def test_forward(
    shape: tuple, act: Activation, bias: str, dropout: Dropout | None, draw: Callable, put: Callable
) -> None:
    x, b = draw(before(shape, act), bias)
    with recording() as launches:
        y, winner = activation.apply_activation(
            put(x, activation=True), None if b is None else put(b), act, dropout=dropout
        )
    assert len(launches) == 1
    expected, expected_winner = cpu.apply_activation(x, b, act)
    np.testing.assert_allclose(y.get(), expected * factor(shape, dropout), rtol=1e-6)
    if act.name == "maxout":
        np.testing.assert_array_equal(winner.get(), expected_winner)
    else:
        assert winner is None


@every_shape
@every_activation
@pytest.mark.parametrize(("bias", "count", "drops"), [("none", 1, False), ("tied", 2, True), ("untied", 1, False)])
def test_gradient(
    shape: tuple, act: Activation, bias: str, count: int, drops: bool, draw: Callable, put: Callable, stream: Callable
) -> None:
    x, b = draw(before(shape, act), bias)
    gy = stream("gy").standard_normal((count * shape[0], *shape[1:])).astype(np.float32)
    y, winner = cpu.apply_activation(x, b, act)
    dropout = DROPOUT if drops else None
    keep, bias_shape = factor(shape, dropout), bias_shape_of(bias, x.shape)
    passed = gy.reshape(count, *shape) * keep
    expected = [cpu.bias_activation_grad(g, y, act, winner=winner, bias_shape=bias_shape) for g in passed]
    with recording() as launches:
        gx, gbias = activation.bias_activation_grad(
            put(gy, activation=True),
            put(y * keep, activation=True),
            act,
            winner=None if winner is None else put(winner),
            bias_shape=bias_shape,
            dropout=dropout,
        )
    assert len(launches) == 1
    np.testing.assert_allclose(gx.get(), np.concatenate([g for g, _ in expected]), rtol=1e-5, atol=1e-7)
    if bias_shape is None:
        assert gbias is None
    else:
        assert (gbias.shape, gbias.dtype) == (bias_shape, np.float32)
        np.testing.assert_allclose(gbias.get(), expected[0][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", ["tied", "untied"])
@pytest.mark.usefixtures("program_order")
def test_bias_gradient_of_many_shares(
    bias: str, put: Callable, stream: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of several tiles, the last of which is not full, added two at a time."""
    monkeypatch.setattr(activation, "shares_of", lambda rows, t: (-(-rows // (2 * t.BM)), 2 * t.BM))
    monkeypatch.setattr(activation, "merged_at_once", lambda table: 2)
    shape = (333, 1, 1, 16)
    gy = stream("gy").standard_normal(shape).astype(np.float32)
    y = stream("y").standard_normal(shape).astype(np.float32)
    act, bias_shape = ACTIVATIONS["leaky"], bias_shape_of(bias, shape)
    _, gbias = activation.bias_activation_grad(put(gy), put(y), act, bias_shape=bias_shape)
    expected = (gy * np.where(y > 0, 1, 0.1)).sum(axis=0, dtype=np.float64).reshape(bias_shape)
    np.testing.assert_allclose(gbias.get(), expected, atol=2e-5)


@every_activation
@pytest.mark.parametrize("channels", [16, 3])
def test_bfloat16(act: Activation, channels: int, draw: Callable, put: Callable, stream: Callable) -> None:
    """Storage is rounded once; a gradient of another type than y is taken as it is; gbias is summed before rounding."""
    shape = (3, 3, 5, channels)
    x, b = draw(before(shape, act), "tied")
    y, winner = activation.apply_activation(put(x, BF16, activation=True), put(b), act, dropout=DROPOUT)
    assert y.dtype == BF16
    expected, expected_winner = cpu.apply_activation(x, b, act)
    keep = factor(shape, DROPOUT)
    np.testing.assert_array_equal(y.get(), (expected * keep).astype(BF16))
    gy = stream("gy").standard_normal(shape).astype(np.float32)
    gx, gbias = activation.bias_activation_grad(
        put(gy, activation=True), y, act, winner=winner, bias_shape=b.shape, dropout=DROPOUT
    )
    assert (gx.dtype, gbias.dtype) == (BF16, np.float32)
    stored = y.get().astype(np.float32) / np.float32(1.25)
    expected_gx, expected_gbias = cpu.bias_activation_grad(
        gy * keep, stored, act, winner=expected_winner, bias_shape=b.shape
    )
    np.testing.assert_allclose(gx.get().astype(np.float32), expected_gx, rtol=2.0**-8, atol=1e-6)
    np.testing.assert_allclose(gbias.get(), expected_gbias, rtol=1e-5, atol=1e-5)


def test_arrays_of_different_pitch(put: Callable, stream: Callable) -> None:
    """gy float32 with pixels of 4, y bfloat16 with pixels of 8 numbers; an untied bias lies without pads."""
    shape, act = (3, 2, 5, 3), Activation("sigmoid")
    gy = stream("gy").standard_normal(shape).astype(np.float32)
    y = stream("y").uniform(0.1, 0.9, shape).astype(BF16)
    for padded in (True, False):
        found = put(gy, activation=padded), put(y, BF16, activation=True)
        assert (device.pitch(found[0]), device.pitch(found[1])) == (4 if padded else 3, 8)
        gx, gbias = activation.bias_activation_grad(*found, act, bias_shape=shape[1:])
        expected = gy * y.astype(np.float32) * (1 - y.astype(np.float32))
        np.testing.assert_allclose(gx.get().astype(np.float32), expected, rtol=2.0**-8)
        np.testing.assert_allclose(gbias.get(), expected.sum(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [0.1, 0.0])
def test_the_slope_at_exactly_zero_is_that_of_the_negative_side(slope: float, put: Callable) -> None:
    act = Activation("leaky_relu", slope)
    gx, _ = activation.bias_activation_grad(put(np.full((1, 1, 3, 1), 2.0)), put(np.array([[[[-1], [0.0], [1]]]])), act)
    np.testing.assert_allclose(gx.get().reshape(-1), [2 * slope, 2 * slope, 2], rtol=1e-6)


def test_sigmoid_does_not_overflow(put: Callable) -> None:
    x = np.array([[[[-200.0, 200.0, -20.0, 0.0]]]])
    y, _ = activation.apply_activation(put(x), None, Activation("sigmoid"))
    np.testing.assert_allclose(y.get().reshape(-1), [0, 1, np.exp(-20), 0.5], rtol=1e-6)


DROPPED = {
    "whole pixels": ((5, 3, 3, 16), 0),
    "three channels": ((3, 5, 7, 3), 0),
    "the first of a part on a block": ((2, 2, 3, 48), 32),
    "the first of a part within a block": ((3, 3, 3, 3), 3 * 3 * 3 * 7),
    "dense, beginning with the images": ((3, 2, 4, 20), 160),
    "a vector": ((37,), 0),
}


@pytest.mark.parametrize(("shape", "first"), DROPPED.values(), ids=DROPPED.keys())
@pytest.mark.parametrize("dtype", [np.float32, BF16])
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "dense"])
def test_dropout(shape: tuple, first: int, dtype: Any, padded: bool, put: Callable, stream: Callable) -> None:
    x, size = stream("x").standard_normal(shape).astype(dtype), int(np.prod(shape))
    y = activation.dropout(put(x, dtype, activation=padded), DROPOUT, first=first)
    keep = cpu.keep_mask(DROPOUT, first + size)[first:].reshape(shape)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.get(), (x.astype(np.float32) * keep * np.float32(1.25)).astype(dtype))


@pytest.mark.parametrize("shape", [(5, 3, 3, 16), (7, 2, 3, 3), (11, 13), (3, 1, 1, 1), (70, 16)])
@pytest.mark.parametrize("dtype", [np.float32, BF16])
def test_rows_are_scaled(shape: tuple, dtype: Any, put: Callable, stream: Callable) -> None:
    x = stream("x").standard_normal(shape).astype(dtype)
    weights = stream("w").standard_normal((shape[0], *(1,) * (len(shape) - 1))).astype(np.float32)
    for padded in (True, False):
        y = activation.scale_rows(put(x, dtype, activation=padded), put(weights, activation=padded))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.get(), (x.astype(np.float32) * weights).astype(dtype))


def test_wrong_arguments_are_named(put: Callable) -> None:
    x = put(np.ones((2, 1, 1, 4)))
    with pytest.raises(ValueError, match=r"apply_activation: bias has shape \(3,\)"):
        activation.apply_activation(x, put(np.ones(3)), LINEAR)
    with pytest.raises(ValueError, match=r"bias_activation_grad: gy has shape \(3, 1, 1, 4\)"):
        activation.bias_activation_grad(put(np.ones((3, 1, 1, 4))), x, LINEAR)
    with pytest.raises(ValueError, match="bias_activation_grad: maxout needs its winners"):
        activation.bias_activation_grad(x, x, Activation("maxout", 2))
    with pytest.raises(ValueError, match="scale_rows: weights have shape"):
        activation.scale_rows(x, put(np.ones((3, 1, 1, 1))))
    with pytest.raises(ValueError, match="dropout: the dropout rate"):
        activation.dropout(x, DROPOUT._replace(rate=1.0))
