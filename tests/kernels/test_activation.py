"""Nonlinearities, bias gradients and dropout: literal cases, the exact kink, ties, and dropout's place among them."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout
from alikit.kernels.cpu.activation import (
    apply_activation,
    bias_activation_grad,
    dropout,
    scale_rows,
)
from alikit.kernels.cpu.masks import keep_mask
from alikit.kernels.cpu.passes import column_sums, drop
from alikit.kernels.cpu.sampling import random_words

LEAKY = Activation("leaky_relu", 0.25)
SIGMOID = Activation("sigmoid")
COUNTERS = Counters(seed=3, step=41, stream=5)


def image(*values: float) -> np.ndarray:
    """(1, 1, 1, C)."""
    return np.array(values, np.float64).reshape(1, 1, 1, -1)


MEANINGS = {
    "linear": (LINEAR, [-2, 0, 3], [-2, 0, 3], [1, 1, 1]),
    "leaky ReLU, at 0 the slope": (LEAKY, [-2, 0, 3], [-0.5, 0, 3], [0.25, 0.25, 1]),
    "leaky ReLU, at -0 too": (LEAKY, [-0.0, 1e-300, -1e-300], [0, 1e-300, -2.5e-301], [0.25, 1, 0.25]),
    "ReLU": (Activation("leaky_relu", 0.0), [-2, 0, 3], [0, 0, 3], [0, 0, 1]),
    "slope 1": (Activation("leaky_relu", 1.0), [-2, 0, 3], [-2, 0, 3], [1, 1, 1]),
    "sigmoid": (SIGMOID, [0, np.log(3), -np.log(3)], [0.5, 0.75, 0.25], [0.25, 0.1875, 0.1875]),
    "sigmoid, far out": (SIGMOID, [-1e4, 1e4], [0, 1], [0, 0]),
}


@pytest.mark.parametrize(("activation", "x", "y", "slope"), MEANINGS.values(), ids=MEANINGS.keys())
def test_meaning(activation: Activation, x: list, y: list, slope: list) -> None:
    found, winner = apply_activation(image(*x), None, activation)
    np.testing.assert_allclose(found, image(*y), rtol=1e-15)
    assert winner is None
    gy = image(*range(7, 7 + len(x)))
    gx, gbias = bias_activation_grad(gy, found, activation)
    np.testing.assert_allclose(gx, gy * image(*slope), rtol=1e-15)
    assert gbias is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maxout_takes_adjacent_channels_and_the_first_wins_a_tie(dtype: type) -> None:
    x = image(1, 5, 5, -2, -2, -2, 0, -0.0, -1).astype(dtype)
    y, winner = apply_activation(x, None, Activation("maxout", 3))
    np.testing.assert_array_equal(y, image(5, -2, 0))
    np.testing.assert_array_equal(winner, image(1, 0, 0))
    gx, _ = bias_activation_grad(image(3, 4, 5).astype(dtype), y, Activation("maxout", 3), winner=winner)
    assert gx.dtype == y.dtype == dtype
    np.testing.assert_array_equal(gx, image(0, 3, 0, 4, 0, 0, 5, 0, 0))


@pytest.mark.parametrize("activation", [LINEAR, LEAKY, SIGMOID, Activation("maxout", 3)], ids=lambda a: a.name)
@pytest.mark.parametrize("shape", [(7, 5, 3, 6), (7, 6)], ids=["images", "vectors"])
@pytest.mark.parametrize("bias", [None, "tied", "untied"])
@pytest.mark.usefixtures("splitting")
def test_bias_forward_and_backward(
    activation: Activation, shape: tuple, bias: str | None, stream: Callable, slope_along: Callable
) -> None:
    """Away from kinks, which random numbers are: the gradients in x and bias agree with differences."""
    if bias == "untied" and len(shape) == 2:
        bias = "tied"  # of vectors these are the same
    x = stream("x").standard_normal(shape)
    b_shape = {None: None, "tied": shape[-1:], "untied": shape[1:]}[bias]
    b = None if b_shape is None else stream("b").standard_normal(b_shape)
    y, winner = apply_activation(x, b, activation)
    gy = stream("gy").standard_normal(y.shape)
    gx, gbias = bias_activation_grad(gy, y, activation, winner=winner, bias_shape=b_shape)

    dx = stream("dx").standard_normal(shape)
    numeric = slope_along(lambda moved: np.vdot(apply_activation(moved, b, activation)[0], gy), x, dx)
    assert np.vdot(gx, dx) == pytest.approx(numeric, rel=0, abs=1e-7 * np.abs(gy).sum())
    if b is None:
        assert gbias is None
        return
    db = stream("db").standard_normal(b.shape)
    numeric = slope_along(lambda moved: np.vdot(apply_activation(x, moved, activation)[0], gy), b, db)
    assert gbias.shape == b.shape
    assert np.vdot(gbias, db) == pytest.approx(numeric, rel=0, abs=1e-7 * np.abs(gy).sum())


@pytest.mark.parametrize("channels", [1, 3, 32])
def test_column_sums_in_float32_do_not_drift(channels: int) -> None:
    """Equal terms round the same way again and again: the worst case of a long running sum in float32."""
    x = np.full((300_000, channels), 0.1, np.float32)
    np.testing.assert_allclose(column_sums(x), 300_000 * np.float64(np.float32(0.1)), rtol=2e-4)


@pytest.mark.usefixtures("splitting")
def test_tied_bias_gradient_in_float32(stream: Callable) -> None:
    gy = stream("gy").uniform(0, 1, (40, 16, 16, 3)).astype(np.float32)
    _, gbias = bias_activation_grad(gy, gy, LINEAR, bias_shape=(3,))
    assert gbias.dtype == np.float32
    np.testing.assert_allclose(gbias, gy.astype(np.float64).sum(axis=(0, 1, 2)), rtol=4e-6)


def mask_by_lanes(size: int, record: Dropout) -> np.ndarray:
    """Element i is kept where the 16-bit lane i of its stream (four to a word, lowest first) reaches the rate."""
    words = [int(word) for word in random_words(record.counters, 0, -(-size // 16) * 4)]
    lanes = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)][:size]
    return np.array(lanes) >= round(record.rate * 65536)


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (17,), (5, 7, 3, 11)])
@pytest.mark.usefixtures("splitting")
def test_dropout_follows_the_lanes_of_its_stream(shape: tuple, stream: Callable) -> None:
    """However the work is cut. Applied to the gradient it is the same mask: its own backward."""
    record = Dropout(0.2, COUNTERS)
    x = stream("x").standard_normal(shape)
    keep = mask_by_lanes(x.size, record).reshape(shape)
    np.testing.assert_allclose(dropout(x, record), np.where(keep, x / 0.8, 0), rtol=1e-15)


@pytest.mark.parametrize("start", [0, 1, 15, 16, 50, 97])
def test_a_stretch_is_dropped_as_in_the_whole(start: int, stream: Callable) -> None:
    record = Dropout(0.5, COUNTERS)
    x = stream("x").standard_normal(200)
    whole, part = dropout(x, record), x[start : start + 60].copy()
    np.testing.assert_array_equal(dropout(part, record, first=start), whole[start : start + 60])
    drop(part, keep_mask(record, 200)[start : start + 60], record.rate)
    np.testing.assert_array_equal(part, whole[start : start + 60])


DERIVED = {
    "linear": LINEAR,
    "leaky ReLU": LEAKY,
    "ReLU": Activation("leaky_relu", 0.0),
    "sigmoid": SIGMOID,
    "maxout": Activation("maxout", 3),
}


@pytest.mark.parametrize("activation", DERIVED.values(), ids=DERIVED.keys())
@pytest.mark.usefixtures("splitting")
def test_dropout_on_the_result(activation: Activation, stream: Callable, slope_along: Callable) -> None:
    """Forward it is the mask on the plain result; backward the derivative is taken from what was dropped from."""
    record = Dropout(0.3, COUNTERS)
    x, bias = stream("x").standard_normal((5, 3, 2, 6)), stream("b").standard_normal(6)
    y, winner = apply_activation(x, bias, activation, dropout=record)
    np.testing.assert_array_equal(y, dropout(apply_activation(x, bias, activation)[0], record))
    assert (y == 0).any()
    gy = stream("gy").standard_normal(y.shape)
    gx, _ = bias_activation_grad(gy, y, activation, winner=winner, dropout=record)
    dx = stream("dx").standard_normal(x.shape)
    numeric = slope_along(
        lambda moved: np.vdot(apply_activation(moved, bias, activation, dropout=record)[0], gy), x, dx
    )
    assert np.vdot(gx, dx) == pytest.approx(numeric, rel=0, abs=1e-7 * np.abs(gy).sum())


@pytest.mark.parametrize("activation", DERIVED.values(), ids=DERIVED.keys())
@pytest.mark.parametrize("record", [None, Dropout(0.3, COUNTERS)], ids=["plain", "dropout"])
@pytest.mark.parametrize("bias", ["tied", "untied"])
@pytest.mark.usefixtures("splitting")
def test_cotangents_are_treated_each_by_itself(
    activation: Activation, record: Dropout | None, bias: str, stream: Callable
) -> None:
    """And the bias takes the first one's sum."""
    x = stream("x").standard_normal((5, 3, 2, 6))
    y, winner = apply_activation(x, None, activation, dropout=record)
    gy = stream("gy").standard_normal((15, *y.shape[1:]))
    options = {"winner": winner, "bias_shape": x.shape[-1:] if bias == "tied" else x.shape[1:], "dropout": record}
    gx, gbias = bias_activation_grad(gy, y, activation, **options)
    alone = [bias_activation_grad(part, y, activation, **options) for part in np.split(gy, 3)]
    np.testing.assert_array_equal(gx, np.concatenate([g for g, _ in alone]))
    np.testing.assert_allclose(gbias, alone[0][1], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 1, 1), (4,)])
@pytest.mark.usefixtures("splitting")
def test_rows_are_scaled_each_by_its_own_number(shape: tuple, stream: Callable) -> None:
    x, weights = stream("x").standard_normal((4, 3, 2, 5)), np.array([2.0, 0.0, -1.0, 0.5])
    found = scale_rows(x, weights.reshape(shape))
    np.testing.assert_array_equal(found, np.stack([weight * row for weight, row in zip(weights, x, strict=True)]))


X = np.ones((2, 3, 3, 4))
ERRORS = {
    "row weights": (
        lambda: scale_rows(X, np.ones((2, 3))),
        r"scale_rows: weights have shape \(2, 3\), wanted a number",
    ),
    "unknown": (lambda: apply_activation(X, None, Activation("elu")), "apply_activation: unknown activation 'elu'"),
    "bias": (lambda: apply_activation(X, np.ones(3), LINEAR), r"apply_activation: bias has shape \(3,\), wanted"),
    "pieces": (lambda: apply_activation(X, None, Activation("maxout", 3)), "apply_activation: maxout with 3 pieces"),
    "gy": (
        lambda: bias_activation_grad(X[:1], X, LEAKY),
        r"bias_activation_grad: gy has shape \(1, 3, 3, 4\), wanted \(2, 3, 3, 4\)",
    ),
    "gy of one and a half": (
        lambda: bias_activation_grad(np.ones((3, 3, 3, 4)), X, LEAKY),
        r"bias_activation_grad: gy has shape \(3, 3, 3, 4\), wanted \(2, 3, 3, 4\) or several of that",
    ),
    "no winners": (
        lambda: bias_activation_grad(X, X, Activation("maxout", 2)),
        "bias_activation_grad: maxout needs its winners",
    ),
    "bias shape": (
        lambda: bias_activation_grad(X, X, LEAKY, bias_shape=(3,)),
        r"bias_activation_grad: bias has shape \(3,\), wanted \(4,\) \(tied\) or \(3, 3, 4\) \(untied\)",
    ),
    "rate": (
        lambda: dropout(X, Dropout(-0.1, COUNTERS)),
        r"dropout: the dropout rate must lie in \[0, 1\), found -0.1",
    ),
    "x not contiguous": (
        lambda: dropout(X.transpose(0, 3, 1, 2), Dropout(0.5, COUNTERS)),
        r"dropout: x \(2, 4, 3, 3\) is not contiguous",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_arguments_are_named(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
