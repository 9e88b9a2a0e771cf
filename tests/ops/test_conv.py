"""Convolution layers as differentiable functions: every epilogue, both directions, only what is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import KinkError, Tensor, grad, gradcheck
from alikit.ops import LINEAR, Activation, Counters, Dropout, _dispatch, conv

# x: (N, H, W, C), w: (O, kH, kW, C), stride; small, since each check runs the layer some forty times
SHAPES = {
    "odd sizes": ((2, 5, 7, 3), (6, 3, 2, 3), 1),
    "stride 2, pixels unseen": ((3, 8, 7, 2), (6, 3, 3, 2), 2),
    "1x1 kernel": ((2, 3, 5, 3), (6, 1, 1, 3), 1),
    "kernel covers the image": ((3, 4, 3, 2), (6, 4, 3, 2), 1),
    "1x1 image": ((4, 1, 1, 5), (6, 1, 1, 5), 1),
}
ACTIVATIONS = {
    "linear": LINEAR,
    "leaky ReLU": Activation("leaky_relu", 0.2),
    "sigmoid": Activation("sigmoid"),
    "maxout": Activation("maxout", 2),
}
DROPOUT = Dropout(0.3, Counters(seed=7, step=1, stream=4))

every_shape = pytest.mark.parametrize(("x_shape", "w_shape", "stride"), SHAPES.values(), ids=SHAPES.keys())
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
every_bias = pytest.mark.parametrize("bias", [None, "tied", "untied"])


@pytest.fixture
def inputs(stream: Callable[[str], np.random.Generator]) -> Callable[..., list[np.ndarray]]:
    """inputs(x_shape, w_shape, bias, y_shape): x, w and, where there is one, the bias."""

    def draw(x_shape: tuple, w_shape: tuple, bias: str | None, y_shape: tuple) -> list[np.ndarray]:
        shapes = [x_shape, w_shape] + {None: [], "tied": [y_shape[-1:]], "untied": [y_shape[1:]]}[bias]
        return [stream(str(i)).standard_normal(shape) for i, shape in enumerate(shapes)]

    return draw


def forward_shape(x: tuple, w: tuple, stride: int) -> tuple[int, int, int, int]:
    return x[0], (x[1] - w[1]) // stride + 1, (x[2] - w[2]) // stride + 1, w[0]


@every_shape
@every_activation
@every_bias
def test_gradients_of_conv2d(
    x_shape: tuple, w_shape: tuple, stride: int, activation: Activation, bias: str | None, inputs: Callable
) -> None:
    arrays = inputs(x_shape, w_shape, bias, forward_shape(x_shape, w_shape, stride))
    gradcheck(lambda *ts: ops.conv2d(*ts, stride=stride, activation=activation)[0], arrays, directions=1)


@every_shape
@every_activation
@every_bias
def test_gradients_of_conv_transpose2d(
    x_shape: tuple, w_shape: tuple, stride: int, activation: Activation, bias: str | None, inputs: Callable
) -> None:
    n, h, w, o = forward_shape(x_shape, w_shape, stride)
    w_shape = (o, *w_shape[1:3], 4)  # an even number of channels for maxout
    y_shape = (n, stride * (h - 1) + w_shape[1], stride * (w - 1) + w_shape[2], 4)
    arrays = inputs((n, h, w, o), w_shape, bias, y_shape)
    y = ops.conv_transpose2d(*map(Tensor, arrays), stride=stride)[0]
    assert y.shape == y_shape
    gradcheck(lambda *ts: ops.conv_transpose2d(*ts, stride=stride, activation=activation)[0], arrays, directions=1)


@every_shape
@every_activation
def test_gradients_through_dropout(
    x_shape: tuple, w_shape: tuple, stride: int, activation: Activation, inputs: Callable
) -> None:
    y_shape = forward_shape(x_shape, w_shape, stride)
    options: dict[str, Any] = {"stride": stride, "activation": activation, "dropout": DROPOUT}
    layers = {
        ops.conv2d: inputs(x_shape, w_shape, "tied", y_shape),
        ops.conv_transpose2d: inputs(y_shape, (*w_shape[:3], 4), "tied", (4,)),
    }
    for op, arrays in layers.items():
        plain = op(*map(Tensor, arrays), stride=stride, activation=activation)[0]
        dropped = op(*map(Tensor, arrays), **options)[0]
        np.testing.assert_allclose(dropped.data, ops.dropout(plain, *DROPOUT).data, rtol=1e-15)
        gradcheck(lambda *ts, op=op: op(*ts, **options)[0], arrays, directions=1)


def test_the_transposed_layer_is_the_adjoint_of_the_layer(inputs: Callable, stream: Callable) -> None:
    x, w = inputs((2, 9, 7, 3), (5, 3, 3, 3), None, ())
    y = ops.conv2d(Tensor(x), Tensor(w), stride=2)[0].data
    gy = stream("gy").standard_normal(y.shape)
    back = ops.conv_transpose2d(Tensor(gy), Tensor(w), stride=2)[0].data
    assert np.vdot(y, gy) == pytest.approx(np.vdot(x, back), rel=1e-12)


def test_meaning() -> None:
    x = Tensor(np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]).reshape(1, 2, 3, 1))
    w = Tensor(np.array([[1.0, 10.0]]).reshape(1, 1, 2, 1))
    y, moments = ops.conv2d(x, w, Tensor(np.array([0.5])))
    np.testing.assert_array_equal(y.data[0, :, :, 0], [[21.5, 42.5], [168.5, 336.5]])
    assert moments is None
    y, _ = ops.conv_transpose2d(Tensor(np.array([[3.0, 5.0]]).reshape(1, 1, 2, 1)), w, stride=2)
    np.testing.assert_array_equal(y.data[0, :, :, 0], [[3, 30, 5, 50]])


@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
def test_moments_come_along(op: Callable, inputs: Callable) -> None:
    x, w = inputs((3, 5, 6, 4), (4, 3, 2, 4), None, ())
    y, (mean, variance) = op(Tensor(x), Tensor(w), moments=True)
    np.testing.assert_allclose(mean, y.data.mean(axis=(0, 1, 2)), rtol=1e-11)
    np.testing.assert_allclose(variance, y.data.var(axis=(0, 1, 2)), rtol=1e-11)


@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
def test_an_exact_zero_before_leaky_relu_is_a_kink(op: Callable, inputs: Callable) -> None:
    x, w = inputs((2, 3, 3, 4), (4, 2, 2, 4), None, ())
    x[0] = 0
    with pytest.raises(KinkError):
        gradcheck(lambda *ts: op(*ts, activation=Activation("leaky_relu", 0.2))[0], [x, w])


@pytest.mark.parametrize("asked", [(0,), (1,), (2,), (0, 2)], ids=str)
@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
def test_only_the_gradients_asked_for_are_computed(
    op: Callable, asked: tuple, inputs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = [Tensor(a, requires_grad=True) for a in inputs((2, 4, 4, 3), (3, 2, 2, 3), "tied", (3,))]
    y, _ = op(*tensors, activation=Activation("leaky_relu", 0.2))
    ran: list[str] = []

    def counted(name: str, x: Any) -> Any:
        ran.append(name)
        return _dispatch.kernel(name, x)

    monkeypatch.setattr(conv, "kernel", counted)
    (found,) = grad([y], [[tensors[i] for i in asked]])
    assert all(g is not None for g in found)
    of_x = "conv2d_input_grad" if op is ops.conv2d else "conv2d"
    by_input = {0: of_x, 1: "conv2d_weight_grad"}
    assert ran == ["bias_activation_grad", *(by_input[i] for i in asked if i in by_input)]


@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
def test_float32_stays_float32(op: Callable, inputs: Callable) -> None:
    arrays = inputs((2, 4, 4, 4), (4, 2, 2, 4), "tied", (4,))
    tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    y, (mean, variance) = op(*tensors, activation=Activation("leaky_relu", 0.2), moments=True)
    assert {a.dtype for a in (y, mean, variance, *grad([y], [tensors])[0])} == {np.dtype(np.float32)}


def test_wrong_shapes_are_named() -> None:
    x, w = Tensor(np.ones((2, 4, 4, 3))), Tensor(np.ones((5, 2, 2, 3)))
    with pytest.raises(ValueError, match=r"conv2d: x .* has 3 channels, w \(5, 2, 2, 2\) wants 2"):
        ops.conv2d(x, Tensor(np.ones((5, 2, 2, 2))))
    with pytest.raises(ValueError, match="conv2d: bias has shape"):
        ops.conv2d(x, w, Tensor(np.ones(3)))
    with pytest.raises(ValueError, match=r"conv_transpose2d: x \(2, 4, 4, 3\) must be \(N, H, W, O\)"):
        ops.conv_transpose2d(x, w)
    with pytest.raises(ValueError, match=r"conv_transpose2d: x \(4, 3\) must be \(N, H, W, O\)"):
        ops.conv_transpose2d(Tensor(np.ones((4, 3))), w)
