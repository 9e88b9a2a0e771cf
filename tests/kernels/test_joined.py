"""A dense layer joined to the batch norm behind it, and to the one in front, gives what both give one after the other.

Those are held against loops in `test_conv.py` and `test_norm.py`.
"""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout, NormState
from alikit.kernels.cpu.conv import conv2d, conv2d_backward, conv2d_input_grad
from alikit.kernels.cpu.joined import Passed, Product
from alikit.kernels.cpu.norm import batch_norm_leaky_relu, batch_norm_leaky_relu_grad

ROWS, INPUTS, OUTPUTS = 11, 9, 50  # outputs: shares of 32 and 18
DROPOUT = Dropout(0.3, Counters(1, 2, 3))

pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture(params=["float32", "float64"])
def draw(request: pytest.FixtureRequest, stream: Callable) -> Callable[..., np.ndarray]:
    return lambda label, *shape: stream(label).standard_normal(shape).astype(request.param)


def near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    atol = 50 * np.finfo(wanted.dtype).eps * max(1, np.abs(wanted).max())  # dozens of numbers in another order
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["", "dropout"])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_the_norm_behind(draw: Callable, slope: float, dropout: Dropout | None) -> None:
    x, w = draw("x", ROWS, 1, 1, INPUTS), draw("w", OUTPUTS, 1, 1, INPUTS)
    gamma, beta = draw("gamma", OUTPUTS), draw("beta", OUTPUTS)
    found, wanted = [], []
    for deferred, results in ((True, found), (False, wanted)):
        y, moments = conv2d(x + 3, w, moments=True, deferred=deferred)
        assert isinstance(moments, Product) == deferred
        results += [*batch_norm_leaky_relu(y, gamma, beta, moments, eps=1e-4, slope=slope, dropout=dropout), y]
    for one, other in zip(found, wanted, strict=True):
        near(one, other)


@pytest.mark.parametrize(
    "layer", ["a window", "a bias", "another dtype", "no moments", "a kernel that covers its image"]
)
def test_what_is_no_bare_dense_layer_is_computed_at_once(draw: Callable, layer: str) -> None:
    size, kernel = {"a window": (4, 3), "a kernel that covers its image": (3, 3)}.get(layer, (1, 1))
    x, w = draw("x", ROWS, size, size, 3), draw("w", OUTPUTS, kernel, kernel, 3)
    b = draw("b", OUTPUTS) if layer == "a bias" else None
    options = {"moments": layer != "no moments", "dtype": np.float64 if layer == "another dtype" else None}
    y, moments = conv2d(x, w, b, deferred=True, **options)
    if layer == "a kernel that covers its image":  # is one
        assert isinstance(moments, Product)
        return
    wanted_y, wanted = conv2d(x, w, b, **options)
    near(y, wanted_y)
    if layer != "no moments":
        near(np.stack(moments), np.stack(wanted))


@pytest.mark.parametrize("cotangents", [1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_the_norm_in_front(draw: Callable, slope: float, cotangents: int) -> None:
    before, gy, w = (
        draw("before", ROWS, 1, 1, OUTPUTS),
        draw("gy", cotangents * ROWS, 1, 1, 7),
        draw("w", 7, 1, 1, OUTPUTS),
    )
    gamma, beta = draw("gamma", OUTPUTS), draw("beta", OUTPUTS)
    y, mean, inv_std = batch_norm_leaky_relu(before, gamma, beta, eps=1e-4, slope=slope)
    saved = before, gamma, beta, mean, inv_std, y
    norm = NormState(before, gamma, beta, mean, inv_std, slope)
    g, passed, gw = conv2d_backward(y, gy, w, through=norm)
    assert isinstance(passed, Passed)
    found = batch_norm_leaky_relu_grad(g, *saved, slope=slope, sums=passed)
    plain, sums = conv2d_input_grad(gy, w, (1, 1), through=norm)
    for one, other in zip(found, batch_norm_leaky_relu_grad(plain, *saved, slope=slope, sums=sums), strict=True):
        near(one, other)
    near(gw, conv2d_backward(y, gy, w)[2])


def test_a_norm_with_dropout_in_front_gets_its_sums(draw: Callable) -> None:
    x, gy, w = draw("x", ROWS, 1, 1, OUTPUTS), draw("gy", ROWS, 1, 1, 7), draw("w", 7, 1, 1, OUTPUTS)
    vectors = [draw(name, OUTPUTS) for name in ("gamma", "beta", "mean")]
    norm = NormState(x, *vectors, abs(draw("std", OUTPUTS)), 0.2, DROPOUT)
    assert not isinstance(conv2d_backward(x, gy, w, through=norm)[1], Passed)


def test_a_norm_of_other_shape_is_refused(draw: Callable) -> None:
    x, gy, w = draw("x", ROWS, 1, 1, OUTPUTS), draw("gy", ROWS, 1, 1, 7), draw("w", 7, 1, 1, OUTPUTS)
    vectors = [draw(name, OUTPUTS) for name in ("gamma", "beta", "mean", "inv_std")]
    norm = NormState(draw("other", ROWS, 1, 2, OUTPUTS), *vectors, 0.2)
    with pytest.raises(ValueError, match="the norm of `through` saw"):
        conv2d_backward(x, gy, w, through=norm)
