"""Every layer's gradients against differences, in float64; batch norm's statistics; dropout on inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Tensor, gradcheck
from alikit.kernels.cpu.joined import Product
from alikit.nn import BatchNormLeakyReLU, Convolution, Layer, Module, Parameter, Pass, Sequential, update_statistics
from alikit.ops import LINEAR, Activation, Dropout
from alikit.ops._dispatch import kernel

LEAKY = Activation("leaky_relu", 0.2)
SIGMOID = Activation("sigmoid")
MAXOUT = Activation("maxout", 3.0)
TRAINING = Pass(training=True, seed=3, step=5)


def settle(module: Module, rng: np.random.Generator) -> Module:
    """Parameters and statistics away from the values at which an error would not show."""
    for name, array in module.state().items():
        kind = name.rpartition(".")[2]
        low = 0.5 if kind in ("gamma", "running_std") else 0.2
        array[...] = rng.uniform(low, 3 * low, array.shape) * rng.choice([-1, 1], array.shape)
    for name, array in module.named_buffers():
        if name.endswith("running_std"):
            np.abs(array, out=array)
    return module


def check(module: Module, x: np.ndarray, call: Callable[[Tensor], Any], seed: int = 0) -> None:
    """gradcheck in x and in every parameter of the module, which the check's Tensors replace."""
    slots = [(m, k) for m in module.modules() for k, v in vars(m).items() if isinstance(v, Parameter)]

    def fn(x: Tensor, *parameters: Tensor) -> Tensor:
        for (owner, name), value in zip(slots, parameters, strict=True):
            setattr(owner, name, value)
        return call(x)

    gradcheck(fn, [x, *(getattr(owner, name).data for owner, name in slots)], seed=seed)


def convolution(**options: Any) -> Convolution:
    """5x7 images of 3 channels to 4 (maxout: 6) maps, by a 3x2 kernel."""
    settings: dict[str, Any] = {"stride": 1, "transposed": False, "bias": None, "activation": LINEAR} | options
    maps = 6 if settings["activation"] is MAXOUT else 4
    stride, grow = settings["stride"], settings["transposed"]
    h, w = (stride * 4 + 3, stride * 6 + 2) if grow else ((5 - 3) // stride + 1, (7 - 2) // stride + 1)
    return Convolution("net.1", ((5, 7, 3), (h, w, maps)), (3, 2), dtype=np.float64, seed=1, **settings)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [None, "tied", "untied"])
@pytest.mark.parametrize("activation", [LINEAR, LEAKY, SIGMOID, MAXOUT], ids=lambda a: a.name)
def test_convolution(transposed: bool, stride: int, bias: str | None, activation: Activation, stream) -> None:
    layer = convolution(transposed=transposed, stride=stride, bias=bias, activation=activation)
    settle(layer, stream("parameters"))
    assert (layer.bias is None) == (bias is None)
    check(layer, stream("x").standard_normal((2, 5, 7, 3)), lambda x: layer(x, TRAINING)[0])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("activation", [LINEAR, LEAKY, SIGMOID, MAXOUT], ids=lambda a: a.name)
def test_convolution_whose_output_is_dropped_from(activation: Activation, transposed: bool, stream) -> None:
    layer = convolution(bias="tied", activation=activation, transposed=transposed)
    settle(layer, stream("parameters"))
    dropout = Dropout(0.4, TRAINING.stream("the next layer"))
    check(layer, stream("x").standard_normal((2, 5, 7, 3)), lambda x: layer(x, TRAINING, dropout)[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_batch_norm(training: bool, slope: float, stream) -> None:
    norm = BatchNormLeakyReLU(3, slope, np.float64)
    settle(norm, stream("parameters"))
    x = 5 + 2 * stream("x").standard_normal((4, 3, 2, 3))
    check(norm, x, lambda x: norm(x, None, Pass(training=training)))


@pytest.mark.parametrize("transposed", [False, True])
def test_layer_with_moments_from_the_convolution(transposed: bool, stream) -> None:
    conv = convolution(transposed=transposed, moments=True, stride=2)
    layer = Layer(conv, BatchNormLeakyReLU(4, 0.1, np.float64))
    settle(layer, stream("parameters"))
    check(layer, stream("x").standard_normal((3, 5, 7, 3)), lambda x: layer(x, TRAINING))


def test_a_layer_leaves_its_product_to_its_norm_a_convolution_by_itself_does_not(stream) -> None:
    """Whoever calls a convolution may want its output, which a product that is left has not got yet."""
    conv = Convolution("net.1", ((1, 1, 3), (1, 1, 4)), (1, 1), 1, moments=True, dtype=np.float64)
    settle(conv, stream("parameters"))
    x, handed = Tensor(stream("x").standard_normal((6, 1, 1, 3))), []
    wanted = x.data[:, 0, 0] @ conv.weight.data[:, 0, 0].T
    y, moments = conv(x, TRAINING)
    np.testing.assert_allclose(y.data[:, 0, 0], wanted, rtol=1e-12)
    np.testing.assert_allclose(moments, [wanted.mean(axis=0), wanted.var(axis=0)], rtol=1e-12)
    Layer(conv, lambda _y, moments, *_, **__: handed.append(moments))(x, TRAINING)  # type: ignore[arg-type]
    assert isinstance(handed[0], Product)
    assert conv(x, Pass(), deferred=True)[1] is None


def test_sequential(stream) -> None:
    first = Layer(convolution(bias="tied", activation=LEAKY, dropout=0.2))
    shape = (3, 6, 4)
    conv = Convolution("net.2", (shape, (2, 3, 5)), (2, 2), 2, dropout=0.3, moments=True, dtype=np.float64)
    last = Layer(Convolution("net.3", ((2, 3, 5), (2, 3, 2)), (1, 1), 1, dropout=0.4, dtype=np.float64))
    net = Sequential([first, Layer(conv, BatchNormLeakyReLU(5, 0.1, np.float64)), last])
    settle(net, stream("parameters"))
    assert [name for name, _ in net.named_parameters()] == [
        "layers.0.conv.weight",
        "layers.0.conv.bias",
        "layers.1.conv.weight",
        "layers.1.norm.gamma",
        "layers.1.norm.beta",
        "layers.2.conv.weight",
    ]
    check(net, stream("x").standard_normal((3, 5, 7, 3)), lambda x: net(x, TRAINING))


@pytest.mark.parametrize("dropped", [False, True])
def test_every_layer_s_input_is_dropped_from_once(dropped: bool, stream) -> None:
    """By the layer before, and the first one's by the network itself, unless its caller has done so."""
    shape = (4, 5, 3)
    convolutions = [
        Convolution(f"net.{i}", (shape, shape), (1, 1), 1, activation=LEAKY, dropout=rate, transposed=i == 2)
        for i, rate in enumerate((0.3, 0.0, 0.4))
    ]
    net = Sequential([Layer(conv) for conv in convolutions])
    settle(net, stream("parameters"))
    x = stream("x").standard_normal((6, *shape)).astype(np.float32)
    wanted = x
    for conv in convolutions:
        if conv.rate and not (dropped and conv is convolutions[0]):
            wanted = kernel("dropout", x)(wanted, Dropout(conv.rate, TRAINING.stream(conv.name)))
        wanted = conv(Tensor(wanted), TRAINING)[0].data
    np.testing.assert_allclose(net(Tensor(x), TRAINING, dropped=dropped).data, wanted, rtol=1e-5, atol=1e-6)
    plain = net(Tensor(x), Pass(), dropped=dropped).data
    assert not np.allclose(plain, wanted)
    assert net.input_dropout(Pass()) is None
    assert net.input_dropout(TRAINING) == Dropout(0.3, TRAINING.stream("net.0"))


def test_no_layers_are_the_identity() -> None:
    x = Tensor(np.ones((2, 1, 1, 3)))
    assert Sequential([])(x, TRAINING) is x
    assert Sequential([]).input_dropout(TRAINING) is None


def test_batch_norm_normalises_by_the_batch_in_training_and_by_the_population_otherwise(stream) -> None:
    norm = BatchNormLeakyReLU(3, 0.1, np.float64)
    settle(norm, stream("parameters"))
    x = 5 + 2 * stream("x").standard_normal((4, 3, 2, 3))
    gamma, beta = norm.gamma.data, norm.beta.data

    def leaky(a: np.ndarray) -> np.ndarray:
        return np.where(a > 0, a, 0.1 * a)

    mean, std = x.mean(axis=(0, 1, 2)), np.sqrt(x.var(axis=(0, 1, 2)) + 1e-4)
    batch = norm(Tensor(x), None, Pass(training=True)).data
    np.testing.assert_allclose(batch, leaky(gamma * (x - mean) / std + beta), rtol=1e-10)
    population = norm(Tensor(x), None, Pass(training=False)).data
    mean, std = norm.buffers["running_mean"], norm.buffers["running_std"]
    np.testing.assert_allclose(population, leaky(gamma * (x - mean) / std + beta), rtol=1e-10)


def test_running_statistics(stream) -> None:
    """Mean and standard deviation sqrt(var + eps), momentum 0.05, of the last training pass, folded in once."""
    norm = BatchNormLeakyReLU(2, 0.1, np.float64)
    rng = stream("x")
    x = np.concatenate([rng.standard_normal((6, 2, 2, 1)), np.full((6, 2, 2, 1), 7.0)], axis=-1)  # one is constant
    norm(Tensor(x + 100), None, Pass(training=True))
    norm(Tensor(x), None, Pass(training=True))  # the last one counts
    norm(Tensor(x - 50), None, Pass(training=False))  # and evaluation leaves no trace
    assert norm.buffers["running_mean"].tolist() == [0, 0]
    update_statistics([norm])
    flat = x.reshape(-1, 2)
    mean, std = 0.05 * flat.mean(axis=0), 0.95 + 0.05 * np.sqrt(flat.var(axis=0) + 1e-4)
    np.testing.assert_allclose(norm.buffers["running_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(norm.buffers["running_std"], std, rtol=1e-12)
    assert norm.buffers["running_std"][1] == pytest.approx(0.95 + 0.05 * 0.01)
    update_statistics([norm])
    np.testing.assert_allclose(norm.buffers["running_mean"], mean, rtol=1e-12)


def selector(rate: float, name: str = "net.1") -> Sequential:
    """A 1x1 convolution that hands its input on."""
    layer = Convolution(name, ((20, 20, 5), (20, 20, 5)), (1, 1), 1, dropout=rate)
    layer.weight.data[...] = np.eye(5)[:, None, None, :]
    return Sequential([Layer(layer)])


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_hits_single_elements_of_the_input_and_keeps_the_mean(rate: float) -> None:
    y = selector(rate)(Tensor(np.ones((10, 20, 20, 5), np.float32)), TRAINING).data
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], 1 / (1 - rate), rtol=1e-6)
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / y.size)
    for axes in (
        (0, 1, 2),
        (1, 2, 3),
        (3,),
    ):  # no channel, image or position goes as a whole: their shares scatter little
        shares = dropped.mean(axis=axes)
        assert shares.std() < 1.8 * np.sqrt(rate * (1 - rate) * shares.size / y.size)


def test_dropout_masks_belong_to_layer_step_and_seed() -> None:
    x = Tensor(np.ones((2, 20, 20, 5), np.float32))

    def mask(name: str, how: Pass) -> np.ndarray:
        return selector(0.5, name)(x, how).data == 0

    first = mask("net.1", TRAINING)
    np.testing.assert_array_equal(first, mask("net.1", TRAINING))
    dropout = kernel("dropout", x.data)(x.data, Dropout(0.5, TRAINING.stream("net.1")))
    np.testing.assert_array_equal(first, dropout == 0)
    others = [("net.2", TRAINING), ("net.1", TRAINING._replace(step=6)), ("net.1", TRAINING._replace(seed=4))]
    for name, how in others:
        assert abs((mask(name, how) == first).mean() - 0.5) < 0.05
    assert not mask("net.1", Pass(training=False)).any()
