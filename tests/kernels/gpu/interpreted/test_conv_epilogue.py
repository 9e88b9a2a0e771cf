"""What rides on the GPU's convolutions, against the CPU's in float64: bias, activation, dropout, moments, and the way
back through a batch norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from alikit.kernels import device, tiles
from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout, NormState
from alikit.kernels.cpu import conv as cpu
from alikit.kernels.cpu.activation import dropout as drop
from alikit.kernels.gpu import conv
from alikit.kernels.gpu.conv_shapes import Tile, Windows
from alikit.kernels.launch import recording

LEAKY = Activation("leaky_relu", 0.2)
DROPOUT = Dropout(0.3, Counters(2**63 + 5, 9, 2**32 - 7))
SLOPE = 0.1


class Layer(NamedTuple):
    """x: (n, h, w, c) and a kernel (o, k, k, c), or the transposed layer that makes x's shape."""

    x: tuple[int, int, int, int]
    o: int
    k: int
    stride: int
    transposed: bool

    @property
    def channels(self) -> int:
        """Of the result."""
        return self.x[3] if self.transposed else self.o


LAYERS = {
    "convolution": Layer((2, 5, 6, 3), 12, 3, 1, False),
    "few channels": Layer((2, 5, 5, 2), 6, 2, 1, False),
    "transposed": Layer((2, 7, 6, 12), 5, 4, 2, True),
    "transposed, whole image": Layer((3, 4, 4, 6), 16, 4, 1, True),
    "dense": Layer((5, 1, 1, 16), 24, 1, 1, False),
}
FORMS: dict[str, tuple[str | None, Activation, Dropout | None]] = {
    "bias": ("tied", LINEAR, None),
    "untied bias, leaky, dropout": ("untied", LEAKY, DROPOUT),
    "bias, sigmoid": ("tied", Activation("sigmoid"), None),
    "dropout": (None, LINEAR, DROPOUT),
    "untied bias, maxout of 2": ("untied", Activation("maxout", 2), None),
    "bias, maxout of 3, dropout": ("tied", Activation("maxout", 3), DROPOUT),
    "maxout of 1": (None, Activation("maxout", 1), None),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several tiles each way, finished in two parts, and groups of two tiles."""
    monkeypatch.setattr(Windows, "group", property(lambda _: 2))
    with tiles.forced(Tile(16, 32, 16, chunk=16, unroll=2), Tile(16, 16, 16, pieces=2)):
        yield


@pytest.fixture
def operands(stream: Callable) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """operands(layer, cotangents): input and weight of the layer, float32; the input may be several stacked ones."""

    def draw(layer: Layer, cotangents: int = 1) -> tuple[np.ndarray, np.ndarray]:
        x = stream("x").standard_normal((cotangents * layer.x[0], *layer.x[1:]))
        w = stream("w").standard_normal((layer.o, layer.k, layer.k, layer.x[3]))
        if layer.transposed:
            x = stream("gy").standard_normal(cpu.conv2d(x, w, stride=layer.stride)[0].shape)
        return x.astype(np.float32), w.astype(np.float32)

    return draw


def run(twin: Any, layer: Layer, x: Any, w: Any, bias: Any = None, **options: Any) -> tuple[Any, Any]:
    """The layer's forward pass, on either twin."""
    if layer.transposed:
        return twin.conv2d_input_grad(x, w, layer.x[1:3], bias, stride=layer.stride, **options)
    return twin.conv2d(x, w, bias, stride=layer.stride, **options)


def double(v: np.ndarray) -> np.ndarray:
    return np.asarray(v, np.float64)


def close(found: Any, wanted: np.ndarray, rtol: float = 1e-5) -> None:
    """Every element within rtol of the largest."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(device.to_host(found), wanted, rtol=0, atol=rtol * abs(wanted).max())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@every_layer
def test_bias_activation_and_dropout(
    layer: Layer, form: tuple, operands: Callable, put: Callable, stream: Callable
) -> None:
    x, w = operands(layer)
    kind, activation, dropout = form
    wanted, _ = run(cpu, layer, double(x), double(w))
    shape = {None: None, "tied": wanted.shape[-1:], "untied": wanted.shape[1:]}[kind]
    bias = None if shape is None else stream("bias").standard_normal(shape).astype(np.float32)
    options = {"activation": activation, "dropout": dropout}
    bias_on = None if bias is None else put(bias)
    y, winner = run(conv, layer, put(x, activation=True), put(w), bias_on, **options)
    wanted, winner_wanted = run(cpu, layer, double(x), double(w), None if bias is None else double(bias), **options)
    close(y, wanted)
    if winner_wanted is None:
        assert winner is None
    else:
        assert winner.dtype == np.uint8
        np.testing.assert_array_equal(winner.get(), winner_wanted)


@pytest.mark.parametrize("name", ["bias", "untied bias, leaky, dropout", "bias, maxout of 3, dropout"])
def test_a_bias_behind_a_single_step_meets_halves_of_the_tile(
    name: str, operands: Callable, put: Callable, stream: Callable
) -> None:
    with tiles.forced(Tile(16, 16, 16, chunk=32)), recording() as launches:
        test_bias_activation_and_dropout(LAYERS["dense"], FORMS[name], operands, put, stream)
    (product,) = (dict(launch.constants)["G"] for launch in launches if launch.name == "conv_window")
    assert (product.steps, product.BN, product.chunk) == (1, 16, 8)


def test_the_first_of_equal_pieces_wins(put: Callable) -> None:
    y, winner = conv.conv2d(
        put(np.ones((3, 1, 1, 1))),
        put(np.float32([1, 1, 0, 1, 2, 2]).reshape(6, 1, 1, 1)),
        activation=Activation("maxout", 3),
    )
    assert y.get()[:, 0, 0].tolist() == [[1, 2]] * 3
    assert winner.get()[:, 0, 0].tolist() == [[0, 1]] * 3


def test_leaky_relu_at_zero_and_the_ends_of_its_slope(put: Callable) -> None:
    x, w = put(np.float32([-2, 0, 3]).reshape(3, 1, 1, 1)), put(np.ones((1, 1, 1, 1)))
    for slope in (0.0, 0.5, 1.0):
        y, _ = conv.conv2d(x, w, activation=Activation("leaky_relu", slope))
        assert y.get().reshape(-1).tolist() == [-2 * slope, 0, 3]


@pytest.mark.usefixtures("program_order")
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias, leaky"])
@every_layer
def test_moments(layer: Layer, bias: bool, operands: Callable, put: Callable, stream: Callable) -> None:
    x, w = operands(layer)
    b = stream("bias").normal(3, 1, layer.channels).astype(np.float32) if bias else None
    options = {"moments": True, "activation": LEAKY if bias else LINEAR}
    y, (mean, variance) = run(conv, layer, put(x, activation=True), put(w), None if b is None else put(b), **options)
    wanted, moments = run(cpu, layer, double(x), double(w), None if b is None else double(b), **options)
    close(y, wanted)
    assert mean.dtype == variance.dtype == np.float32
    close(mean, moments[0])
    close(variance, moments[1])


def test_moments_do_not_cancel_where_the_mean_is_large(operands: Callable, put: Callable) -> None:
    """E[y^2] - E[y]^2 in float32 would leave nothing of a variance near 1 at a mean of 1000; here what is lost is what
    the tiles' means lose by rounding."""
    layer = LAYERS["convolution"]
    x, w = operands(layer)
    bias = np.full(layer.o, 1000, np.float32)
    y, (mean, variance) = run(conv, layer, put(x), put(w / 5), put(bias), moments=True)
    exact = double(y.get())
    np.testing.assert_allclose(mean.get(), exact.mean(axis=(0, 1, 2)), rtol=2.0**-22)
    np.testing.assert_allclose(variance.get(), exact.var(axis=(0, 1, 2)), rtol=2e-4)


@pytest.fixture
def norm(stream: Callable) -> Callable[..., NormState]:
    """norm(shape, dropout): the state of a batch norm, gamma of both signs, beta away from 0; float32. Without `normed`
    that of an activation alone."""

    def draw(shape: tuple[int, ...], dropout: Dropout | None, *, normed: bool = True) -> NormState:
        if not normed:
            return NormState(stream("y").normal(0, 1, shape).astype(np.float32), slope=SLOPE, dropout=dropout)
        channels = shape[-1:]
        x = stream("norm").normal(0.5, 2, shape)
        gamma = stream("gamma").uniform(0.5, 2, channels) * stream("sign").choice([-1, 1], channels)
        beta, mean = stream("beta").normal(0, 1, channels), stream("mean").normal(0.5, 0.5, channels)
        inv_std = stream("inv_std").uniform(0.3, 0.7, channels)
        return NormState(*(v.astype(np.float32) for v in (x, gamma, beta, mean, inv_std)), SLOPE, dropout)

    return draw


def of(state: NormState, convert: Callable) -> NormState:
    """The same with converted arrays; x is an activation."""
    vectors = (None if v is None else convert(v) for v in state[1:5])
    return NormState(convert(state.x, activation=True), *vectors, state.slope, state.dropout)


def doubled(v: np.ndarray, activation: bool = False) -> np.ndarray:
    return double(v)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["", "dropout"])
@every_layer
def test_through_a_batch_norm(
    layer: Layer, dropout: Dropout | None, cotangents: int, operands: Callable, norm: Callable, put: Callable
) -> None:
    """Stacked cotangents meet the same x and the same mask; each has sums of its own."""
    check_through(layer, lambda shape: norm(shape, dropout), cotangents, operands, put)


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["", "dropout"])
def test_through_an_activation_without_a_norm(
    dropout: Dropout | None, operands: Callable, norm: Callable, put: Callable
) -> None:
    check_through(LAYERS["convolution"], lambda shape: norm(shape, dropout, normed=False), 2, operands, put)


def check_through(layer: Layer, state_of: Callable, cotangents: int, operands: Callable, put: Callable) -> None:
    x, w = operands(layer, cotangents)
    made = run(cpu, layer, double(x), double(w))[0]
    state = state_of((len(made) // cotangents, *made.shape[1:]))
    g, sums = run(conv, layer, put(x, activation=True), put(w), through=of(state, put))
    wanted, wanted_sums = run(cpu, layer, double(x), double(w), through=of(state, doubled))
    close(g, wanted)
    assert sums.dtype == np.float32
    close(sums, wanted_sums)


@pytest.mark.usefixtures("program_order")
@pytest.mark.parametrize("name", ["convolution", "transposed"])
def test_both_gradients_with_one_through_a_batch_norm(
    name: str, operands: Callable, norm: Callable, put: Callable
) -> None:
    layer = LAYERS[name]
    x, w = operands(layer)
    state = norm(x.shape, DROPOUT)
    a = state.gamma * (state.x - state.mean) * state.inv_std + state.beta
    x = drop(np.where(a > 0, a, SLOPE * a), DROPOUT)  # what the norm made of its input
    y, _ = run(cpu, layer, double(x), double(w))
    gy = np.concatenate([y, 1 - 2 * y]).astype(np.float32)
    options = {"stride": layer.stride, "transposed": layer.transposed}
    on_device = put(x, activation=True), put(gy, activation=True), put(w)
    found = conv.conv2d_backward(*on_device, through=of(state, put), **options)
    wanted = cpu.conv2d_backward(double(x), double(gy), double(w), through=of(state, doubled), **options)
    for a, b in zip(found, wanted, strict=True):
        close(a, b)


@pytest.mark.parametrize("layer", [LAYERS["transposed"]])
def test_the_same_bytes_whoever_is_last(layer: Layer, operands: Callable, put: Callable, backwards: Callable) -> None:
    x, w = operands(layer)

    def moments() -> bytes:
        _, found = run(conv, layer, put(x), put(w), moments=True)
        return b"".join(v.get().tobytes() for v in found)

    forwards = moments()
    backwards()
    assert moments() == forwards


def test_what_cannot_ride_together_is_refused(norm: Callable, put: Callable) -> None:
    x, w = put(np.ones((2, 3, 3, 4))), put(np.ones((5, 1, 1, 4)))
    state = of(norm((2, 3, 3, 5), None), put)
    with pytest.raises(ValueError, match="conv2d: a gradient that passes through a norm takes no bias"):
        conv.conv2d(x, w, put(np.ones(5)), through=state)
    with pytest.raises(ValueError, match="conv2d: moments are not taken behind dropout"):
        conv.conv2d(x, w, moments=True, dropout=DROPOUT)
    with pytest.raises(ValueError, match="conv2d_backward: a gradient that passes through a norm has all its rows"):
        conv.conv2d_backward(put(np.ones((2, 3, 3, 5))), x, put(np.ones((4, 1, 1, 5))), rows=slice(1), through=state)
