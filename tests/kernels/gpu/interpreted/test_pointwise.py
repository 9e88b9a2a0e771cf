"""1x1 layers that normalise their input as they read it, against the same layers on what the norm has written: to the
byte, since they round alike and add in the same order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device, tiles
from alikit.kernels.arrays import LINEAR, Activation, Counters, Dropout, Normalised, NormState
from alikit.kernels.cpu import conv as cpu_conv
from alikit.kernels.cpu import norm as cpu_norm
from alikit.kernels.gpu import conv, norm
from alikit.kernels.gpu.conv_shapes import Tile
from alikit.kernels.launch import recording

EPS, SLOPE = 1e-2, 0.2
BF16 = ml_dtypes.bfloat16


class Layer(NamedTuple):
    """Images (H, W), channels in and out; the rest as `conv2d_backward` and the epilogue have it."""

    transposed: bool
    size: tuple[int, int]
    c: int
    o: int
    moments: bool = False
    bias: str = ""
    sigmoid: bool = False


LAYERS = {
    "convolution": Layer(False, (3, 4), 20, 12, moments=True),
    "transposed": Layer(True, (4, 3), 12, 20, moments=True),
    "dense": Layer(False, (1, 1), 136, 11, bias="tied"),
    "pictures": Layer(False, (3, 3), 20, 3, bias="untied", sigmoid=True),
}
#: several tiles of rows and columns, several steps, pieces of the pixels
TILES = {"window": Tile(16, 16, 16, chunk=8), "weight": Tile(16, 16, 16, pieces=2)}


class Case:
    """x, the norm's vectors, the weight and a gradient of the output, on the device."""

    def __init__(self, layer: Layer, put: Callable, stream: Callable, dtype: Any = np.float32, n: int = 3):
        def draw(name: str, *shape: int) -> np.ndarray:
            return stream(name).standard_normal(shape).astype(np.float32)

        self.layer = layer
        inner, outer = (layer.o, layer.c) if layer.transposed else (layer.c, layer.o)
        self.x = put(2 * draw("x", n, *layer.size, layer.c) + 1, dtype, activation=True)
        self.w = put(draw("w", outer, 1, 1, inner) / 4, dtype, activation=dtype == BF16)
        self.gy = put(draw("gy", 2 * n, *layer.size, layer.o), dtype, activation=True)
        self.gamma, self.beta = put(draw("gamma", layer.c)), put(draw("beta", layer.c))
        self.moments = put(1 + draw("mean", layer.c) / 4), put(draw("var", layer.c) ** 2 + 1)
        shape = {"tied": (layer.o,), "untied": (*layer.size, layer.o)}
        self.bias = put(draw("bias", *shape[layer.bias])) if layer.bias else None

    def norm(self, deferred: bool) -> tuple[Any, Any]:
        """What the norm gives, and its state."""
        given = {"eps": EPS, "slope": SLOPE, "deferred": deferred}
        h, mean, inv_std = norm.batch_norm_leaky_relu(self.x, self.gamma, self.beta, self.moments, **given)
        return h, NormState(self.x, self.gamma, self.beta, mean, inv_std, SLOPE)

    def forward(self, h: Any) -> list[Any]:
        layer = self.layer
        options = {"moments": layer.moments, "activation": Activation("sigmoid") if layer.sigmoid else LINEAR}
        if layer.transposed:
            y, extra = conv.conv2d_input_grad(h, self.w, layer.size, self.bias, **options)
        else:
            y, extra = conv.conv2d(h, self.w, self.bias, **options)
        return [y, *(extra or ())]

    def backward(self, h: Any, through: NormState | None) -> list[Any]:
        found = conv.conv2d_backward(
            h, self.gy, self.w, transposed=self.layer.transposed, through=through, partials=True
        )
        return [v for v in found if v is not None]

    def weight(self, h: Any) -> Any:
        first = self.gy[: len(h)]
        pair = (first, h) if self.layer.transposed else (h, first)
        return conv.conv2d_weight_grad(*pair, (1, 1))


def assert_same(found: list[Any], wanted: list[Any]) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(device.to_host(a), device.to_host(b))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("convolution", BF16),
        ("transposed", BF16),
        ("transposed", np.float32),
        ("dense", np.float32),
        ("pictures", BF16),
    ],
)
def test_the_bytes_of_a_layer_on_what_the_norm_wrote(name: str, dtype: Any, put: Callable, stream: Callable) -> None:
    case = Case(LAYERS[name], put, stream, dtype)
    with tiles.forced(**TILES):
        written, state = case.norm(deferred=False)
        with recording() as launches:
            deferred, later = case.norm(deferred=True)
            assert isinstance(deferred, Normalised)
            found = case.forward(deferred)
        assert [launch.name for launch in launches] == ["pointwise_window"]
        assert_same([*found, later.inv_std], [*case.forward(written), state.inv_std])
        with recording() as launches:
            found = case.backward(deferred, later)
        assert [launch.name for launch in launches] == ["pointwise_backward"]
        assert_same(found, case.backward(written, state))
        assert_same(case.backward(deferred, None), case.backward(written, None))
        assert_same([case.weight(deferred)], [case.weight(written)])


@pytest.mark.parametrize("layer", [LAYERS["convolution"], LAYERS["transposed"]], ids=["convolution", "transposed"])
def test_the_tiles_of_the_rule_give_what_the_cpu_gives(layer: Layer, put: Callable, stream: Callable) -> None:
    case = Case(layer, put, stream)
    deferred, state = case.norm(deferred=True)
    y, *_ = case.forward(deferred)
    gx, sums, gw = case.backward(deferred, state)
    x, w, gy, gamma, beta, mean, var = (
        device.to_host(v).astype(np.float64) for v in (case.x, case.w, case.gy, case.gamma, case.beta, *case.moments)
    )
    given: dict[str, Any] = {"eps": EPS, "slope": SLOPE, "deferred": True}
    h, _, inv_std = cpu_norm.batch_norm_leaky_relu(x, gamma, beta, (mean, var), **given)
    forward = cpu_conv.conv2d_input_grad(h, w, layer.size) if layer.transposed else cpu_conv.conv2d(h, w)
    through = NormState(x, gamma, beta, mean, inv_std, SLOPE)
    wanted = cpu_conv.conv2d_backward(h, gy, w, transposed=layer.transposed, through=through)
    for a, b in zip((y, gx, sums, device.to_host(gw).sum(axis=0)), (forward[0], *wanted), strict=True):
        np.testing.assert_allclose(device.to_host(a), b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_what_cannot_be_deferred_is_refused(put: Callable, stream: Callable) -> None:
    case = Case(LAYERS["convolution"], put, stream)
    deferred, state = case.norm(deferred=True)
    wide = put(np.ones((12, 2, 2, 20)))
    message = r"a kernel \(2, 2\) of stride 1: only 1x1 layers normalise their input"
    with pytest.raises(ValueError, match=f"conv2d: {message}"):
        conv.conv2d(deferred, wide)
    with pytest.raises(ValueError, match=r"conv2d: a kernel \(1, 1\) of stride 2"):
        conv.conv2d(deferred, case.w, stride=2)
    with pytest.raises(ValueError, match=f"conv2d_backward: {message}"):
        conv.conv2d_backward(deferred, put(np.ones((3, 2, 3, 12))), wide, through=state)
    dropout = Dropout(0.5, Counters(1, 2, 3))
    with pytest.raises(ValueError, match="batch_norm_leaky_relu: what is deferred has no dropout"):
        norm.batch_norm_leaky_relu(case.x, case.gamma, case.beta, eps=EPS, slope=1, dropout=dropout, deferred=True)
