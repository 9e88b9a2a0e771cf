"""What rides on a convolution: bias, activation, moments and dropout, against the same things done one after another.

The bare convolutions are tested in test_conv.py; here they are taken as given, and each epilogue is written out once
more on their whole result. It must come out the same along every path a convolution can take.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout
from alikit.kernels.cpu.activation import dropout as dropout_kernel
from alikit.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad


class Path(NamedTuple):
    """x: (N, H, W, C), w: (O, kH, kW, C). Channels are multiples of 6, so that maxout's 2 and 3 pieces fit.

    Half of 132, rounded to multiples of 16, is no multiple of 3: there a careless share would split a group of pieces.
    """

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: int


FORWARD_PATHS = {
    "windows": Path((5, 7, 6, 4), (12, 3, 2, 4), 2),
    "dense, channels shared out": Path((5, 3, 2, 4), (132, 3, 2, 4), 1),
    "dense, too few channels to share": Path((5, 3, 2, 4), (6, 3, 2, 4), 1),
    "pixels": Path((5, 4, 3, 7), (6, 1, 1, 7), 1),
}
GRADIENT_PATHS = {
    "gather": Path((5, 9, 8, 6), (4, 4, 3, 6), 2),
    "scatter": Path((3, 7, 6, 66), (4, 3, 2, 66), 2),
    "expand": Path((5, 4, 3, 6), (7, 4, 3, 6), 1),
    "dense": Path((5, 1, 1, 132), (7, 1, 1, 132), 1),
    "pixels": Path((3, 4, 3, 66), (5, 1, 1, 66), 1),
}
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
pytestmark = pytest.mark.usefixtures("splitting", "input_grad_form")


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


@pytest.fixture
def operands(stream: Callable[[str], np.random.Generator]) -> Callable[..., Any]:
    """operands(path, bias, y_shape): x, w, and a bias of the form asked for."""

    def draw(path: Path, bias: str | None, y_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, Any]:
        shape = {None: None, "tied": y_shape[-1:], "untied": y_shape[1:]}[bias]
        b = None if shape is None else stream("b").standard_normal(shape)
        return stream("x").standard_normal(path.x), stream("w").standard_normal(path.w), b

    return draw


def assert_epilogue(found: tuple[np.ndarray, Any], linear: np.ndarray, b: Any, activation: Activation) -> None:
    wanted, winner = written_out(linear if b is None else linear + b, activation)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-11, atol=1e-11)
    if winner is None:
        assert found[1] is None
    else:
        np.testing.assert_array_equal(found[1], winner)


@every_form
@pytest.mark.parametrize("path", FORWARD_PATHS.values(), ids=FORWARD_PATHS.keys())
def test_convolution(path: Path, bias: str | None, activation: Activation, operands: Callable) -> None:
    y_shape = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)[0].shape
    x, w, b = operands(path, bias, y_shape)
    found = conv2d(x, w, b, stride=path.stride, activation=activation)
    assert_epilogue(found, conv2d(x, w, stride=path.stride)[0], b, activation)


@every_form
@pytest.mark.parametrize("path", GRADIENT_PATHS.values(), ids=GRADIENT_PATHS.keys())
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
@pytest.mark.parametrize("path", FORWARD_PATHS.values(), ids=FORWARD_PATHS.keys())
def test_moments_of_a_convolution(path: Path, bias: str | None, operands: Callable) -> None:
    plain, _ = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)
    x, w, b = operands(path, bias, plain.shape)
    assert_moments(*conv2d(x, w, b, stride=path.stride, activation=Activation("leaky_relu", 0.1), moments=True))


@pytest.mark.parametrize("path", GRADIENT_PATHS.values(), ids=GRADIENT_PATHS.keys())
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


@pytest.mark.parametrize("path", FORWARD_PATHS.values(), ids=FORWARD_PATHS.keys())
def test_dropout_falls_on_the_input(path: Path, operands: Callable) -> None:
    plain, _ = conv2d(np.zeros(path.x), np.zeros(path.w), stride=path.stride)
    x, w, b = operands(path, "tied", plain.shape)
    activation = Activation("leaky_relu", 0.1)
    found, _ = conv2d(x, w, b, stride=path.stride, activation=activation, dropout=DROPOUT)
    wanted, _ = conv2d(dropout_kernel(x, DROPOUT), w, b, stride=path.stride, activation=activation)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", [*FORWARD_PATHS.values(), *GRADIENT_PATHS.values()])
def test_both_gradients_pass_through_the_mask_of_the_forward_pass(
    path: Path, operands: Callable, stream: Callable
) -> None:
    """y is linear in x and in w with the mask held: <y, gy> must equal <x, gx> and <w, gw>."""
    x, w, _ = operands(path, None, path.x)
    y, _ = conv2d(x, w, stride=path.stride, dropout=DROPOUT)
    gy = stream("gy").standard_normal(y.shape)
    gx, _ = conv2d_input_grad(gy, w, path.x[1:3], stride=path.stride, dropout=DROPOUT)
    gw = conv2d_weight_grad(x, gy, path.w[1:3], stride=path.stride, dropout=DROPOUT)
    inner, scale = np.vdot(y, gy), np.vdot(np.abs(y), np.abs(gy))
    assert np.vdot(x, gx) == pytest.approx(inner, rel=0, abs=1e-12 * scale)
    assert np.vdot(w, gw) == pytest.approx(inner, rel=0, abs=1e-12 * scale)
    plain, _ = conv2d_input_grad(gy, w, path.x[1:3], stride=path.stride)
    np.testing.assert_allclose(gx, dropout_kernel(plain, DROPOUT), rtol=1e-12, atol=1e-12)


X, W = np.zeros((2, 6, 5, 3)), np.zeros((4, 3, 2, 3))
ERRORS = {
    "bias of x": ({"bias": np.zeros(3)}, r"bias has shape \(3,\), wanted \(4,\) \(tied\) or \(4, 4, 4\) \(untied\)"),
    "unknown activation": ({"activation": Activation("tanh")}, "unknown activation 'tanh'"),
    "slope": ({"activation": Activation("leaky_relu", -0.1)}, r"slope of leaky ReLU must lie in \[0, 1\], found -0.1"),
    "pieces": ({"activation": Activation("maxout", 3)}, "maxout with 3 pieces does not divide 4 channels"),
    "no pieces": ({"activation": Activation("maxout", 0)}, "maxout with 0 pieces does not divide 4 channels"),
    "rate": ({"dropout": Dropout(1.0, DROPOUT.counters)}, r"dropout rate must lie in \[0, 1\), found 1.0"),
    "moments of maxout": ({"activation": Activation("maxout", 2), "moments": True}, "moments .* maxout"),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_epilogues_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"conv2d: .*{message}"):
        conv2d(X, W, **options)
    with pytest.raises(ValueError, match=f"conv2d_input_grad: .*{message}"):  # the same channel count of its result
        conv2d_input_grad(np.zeros((2, 2, 3, 2)), np.zeros((2, 3, 2, 4)), (4, 4), **options)
