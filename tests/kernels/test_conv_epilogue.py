"""What rides on a convolution: bias, activation, moments, dropout, against the same things done one after another.

The bare convolutions are tested in test_conv.py; here they are taken as given, and each epilogue is written out once
more on their whole result. It must come out the same along every path a convolution can take.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout, NormState
from alikit.kernels.cpu.activation import dropout as dropout_kernel
from alikit.kernels.cpu.conv import conv2d, conv2d_backward, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.parallel import settle
from tests.kernels.conv_paths import FORWARD_PATHS, Path, every_forward_path, every_gradient_path

FORMS = {
    "bias": ("tied", LINEAR),
    "untied bias": ("untied", LINEAR),
    "leaky ReLU": (None, Activation("leaky_relu", 0.2)),
    "bias, leaky ReLU": ("tied", Activation("leaky_relu", 0.02)),
    "untied bias, ReLU": ("untied", Activation("leaky_relu", 0.0)),
    "bias, slope 1": ("tied", Activation("leaky_relu", 1.0)),
    "untied bias, sigmoid": ("untied", Activation("sigmoid")),
    "maxout of 2": (None, Activation("maxout", 2)),
    "bias, maxout of 3": ("tied", Activation("maxout", 3)),
    "untied bias, maxout of 2": ("untied", Activation("maxout", 2)),
}
DROPOUT = Dropout(0.3, Counters(seed=5, step=9, stream=2))

every_form = pytest.mark.parametrize(("bias", "activation"), FORMS.values(), ids=FORMS.keys())
pytestmark = pytest.mark.usefixtures("splitting")


def written_out(a: np.ndarray, activation: Activation) -> tuple[np.ndarray, np.ndarray | None]:
    """activation(a) and maxout's winners, straight from the definitions."""
    if activation.name == "leaky_relu":
        return np.where(a > 0, a, activation.value * a), None
    if activation.name == "sigmoid":
        return 1 / (1 + np.exp(-a)), None
    if activation.name == "maxout":
        groups = a.reshape(*a.shape[:-1], -1, activation.pieces)
        return groups.max(axis=-1), groups.argmax(axis=-1)
    return a, None


def assert_epilogue(found: tuple[np.ndarray, Any], linear: np.ndarray, b: Any, activation: Activation) -> None:
    wanted, winner = written_out(linear if b is None else linear + b, activation)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-11, atol=1e-11)
    if winner is None:
        assert found[1] is None
    else:
        np.testing.assert_array_equal(found[1], winner)


@every_form
@every_forward_path
def test_convolution(path: Path, bias: str | None, activation: Activation, operands: Callable) -> None:
    y_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    x, w, b = operands(path, bias, y_shape)
    found = conv2d(x, w, b, stride=path.stride, activation=activation)
    assert_epilogue(found, conv2d(x, w, stride=path.stride)[0], b, activation)


@every_form
@every_gradient_path
def test_transposed_convolution(
    path: Path, bias: str | None, activation: Activation, operands: Callable, stream: Callable
) -> None:
    gy_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    _, w, b = operands(path, bias, path.x)
    gy = stream("gy").standard_normal(gy_shape)
    found = conv2d_input_grad(gy, w, path.x[1:3], b, stride=path.stride, activation=activation)
    assert_epilogue(found, conv2d_input_grad(gy, w, path.x[1:3], stride=path.stride)[0], b, activation)


def assert_moments(y: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(moments[0], y.mean(axis=(0, 1, 2)), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(moments[1], y.var(axis=(0, 1, 2)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("bias", [None, "tied", "untied"])
@every_forward_path
def test_moments_of_a_convolution(path: Path, bias: str | None, operands: Callable) -> None:
    plain, _ = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)
    x, w, b = operands(path, bias, plain.shape)
    assert_moments(*conv2d(x, w, b, stride=path.stride, activation=Activation("leaky_relu", 0.1), moments=True))


@every_gradient_path
def test_moments_of_a_transposed_convolution(path: Path, operands: Callable, stream: Callable) -> None:
    gy_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    _, w, b = operands(path, "tied", path.x)
    gy = stream("gy").standard_normal(gy_shape)
    assert_moments(*conv2d_input_grad(gy, w, path.x[1:3], b, stride=path.stride, moments=True))


def test_moments_do_not_cancel_where_the_mean_is_large(operands: Callable) -> None:
    """E[y^2] - E[y]^2 in float32 would leave nothing of a variance near 1 at a mean of 1000."""
    path = FORWARD_PATHS["windows"]
    x, w, _ = operands(path, None, path.x)
    y, (mean, variance) = conv2d(
        x.astype(np.float32), (w / 5).astype(np.float32), np.full(12, 1000, np.float32), stride=2, moments=True
    )
    exact = y.astype(np.float64)
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=2.0**-23)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 1, 2)), rtol=1e-5)


@every_form
@every_forward_path
def test_dropout_falls_on_the_result_of_a_convolution(
    path: Path, bias: str | None, activation: Activation, operands: Callable
) -> None:
    y_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    x, w, b = operands(path, bias, y_shape)
    found = conv2d(x, w, b, stride=path.stride, activation=activation, dropout=DROPOUT)
    assert_dropped(found, conv2d(x, w, b, stride=path.stride, activation=activation))


@every_form
@every_gradient_path
def test_dropout_falls_on_the_result_of_a_transposed_convolution(
    path: Path, bias: str | None, activation: Activation, operands: Callable, stream: Callable
) -> None:
    gy_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    _, w, b = operands(path, bias, path.x)
    gy = stream("gy").standard_normal(gy_shape)
    options = {"stride": path.stride, "activation": activation}
    found = conv2d_input_grad(gy, w, path.x[1:3], b, **options, dropout=DROPOUT)
    assert_dropped(found, conv2d_input_grad(gy, w, path.x[1:3], b, **options))


def assert_dropped(found: tuple[np.ndarray, Any], plain: tuple[np.ndarray, Any]) -> None:
    wanted = dropout_kernel(plain[0], DROPOUT)
    assert (wanted == 0).any()
    np.testing.assert_allclose(found[0], wanted, rtol=1e-15)
    np.testing.assert_array_equal(found[1], plain[1])


@every_forward_path
def test_partial_sums_of_a_weight_gradient(path: Path, operands: Callable, stream: Callable) -> None:
    x, w, _ = operands(path, None, path.x)
    gy = stream("gy").standard_normal(conv2d(x, w, stride=path.stride)[0].shape)
    parts = conv2d_weight_grad(x, gy, w.shape[1:3], stride=path.stride, partials=True)
    settle()
    whole = conv2d_weight_grad(x, gy, w.shape[1:3], stride=path.stride)
    assert parts.shape == (1, *whole.shape) == (1, *w.shape)
    np.testing.assert_allclose(parts.sum(axis=0), whole, rtol=1e-12, atol=1e-12)
    _, _, of_both = conv2d_backward(x, gy, w, stride=path.stride, partials=True)
    settle()
    np.testing.assert_array_equal(of_both, parts)


def test_results_of_another_dtype(operands: Callable) -> None:
    path = FORWARD_PATHS["windows"]
    x, w, b = operands(path, "tied", (5, 3, 3, 12))
    y, _ = conv2d(x, w, b, stride=2)
    found, _ = conv2d(x, w, b, stride=2, dtype=np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, y.astype(np.float32))
    back, _ = conv2d_input_grad(y, w, (7, 6), stride=2, dtype=np.float32)
    assert back.dtype == np.float32
    gx, _, gw = conv2d_backward(x.astype(np.float32), y, w, stride=2)
    assert (gx.dtype, gw.dtype) == (np.float32, np.float64)  # like the input; like the products


X, W = np.zeros((2, 6, 5, 3)), np.zeros((4, 3, 2, 3))
ERRORS = {
    "bias of x": ({"bias": np.zeros(3)}, r"bias has shape \(3,\), wanted \(4,\) \(tied\) or \(4, 4, 4\) \(untied\)"),
    "unknown activation": ({"activation": Activation("tanh")}, "unknown activation 'tanh'"),
    "slope": ({"activation": Activation("leaky_relu", -0.1)}, r"slope of leaky ReLU must lie in \[0, 1\], found -0.1"),
    "pieces": ({"activation": Activation("maxout", 3)}, "maxout with 3 pieces does not divide 4 channels"),
    "no pieces": ({"activation": Activation("maxout", 0)}, "maxout with 0 pieces does not divide 4 channels"),
    "rate": ({"dropout": Dropout(1.0, DROPOUT.counters)}, r"dropout rate must lie in \[0, 1\), found 1.0"),
    "moments of maxout": ({"activation": Activation("maxout", 2), "moments": True}, "moments .* maxout"),
    "moments of what was dropped": ({"moments": True, "dropout": DROPOUT}, "moments are not taken behind dropout"),
    "a norm and a bias": (
        {"bias": np.zeros(4), "through": NormState(np.zeros((2, 4, 4, 4)), *np.zeros((4, 4)), 0.2)},
        "passes through a norm takes no bias",
    ),
    "a norm of other images": (
        {"through": NormState(np.zeros((2, 4, 5, 4)), *np.zeros((4, 4)), 0.2)},
        r"the result has shape \(2, 4, 4, 4\), the norm of `through` saw \(2, 4, 5, 4\)",
    ),
    "precision": ({"precision": "bf16"}, "precision 'bf16': wanted 'fp32' here"),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_epilogues_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"conv2d: .*{message}"):
        conv2d(X, W, **options)
    with pytest.raises(ValueError, match=f"conv2d_input_grad: .*{message}"):  # the same channel count of its result
        conv2d_input_grad(np.zeros((2, 2, 3, 2)), np.zeros((2, 3, 2, 4)), (4, 4), **options)


def test_a_gradient_through_a_norm_has_all_its_rows() -> None:
    state = NormState(X, *np.zeros((4, 3)), 0.2)
    with pytest.raises(ValueError, match="conv2d_backward: a gradient that passes through a norm has all its rows"):
        conv2d_backward(X, np.zeros((2, 4, 4, 4)), W, rows=slice(0, 1), through=state)
    with pytest.raises(ValueError, match=r"conv2d_backward: gy \(3, 4, 4, 4\) has 3 rows, wanted 2 or a multiple"):
        conv2d_backward(X, np.zeros((3, 4, 4, 4)), W)
