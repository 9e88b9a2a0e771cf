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

ROWS, INPUTS, OUTPUTS = 11, 9, 80  # outputs: shares of 48 and 32, enough for tiles
DROPOUT = Dropout(0.3, Counters(1, 2, 3))

pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture(params=["float32", "float64"])
def draw(request: pytest.FixtureRequest, stream: Callable) -> Callable[..., np.ndarray]:
    return lambda label, *shape: stream(label).standard_normal(shape).astype(request.param)


@pytest.fixture(params=["BLAS", "tiles"])
def form(request: pytest.FixtureRequest) -> list[int] | None:
    """How products are taken; on tiles, the columns of their pieces."""
    return request.getfixturevalue("tiles") if request.param == "tiles" else None


def near(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    atol = 50 * np.finfo(wanted.dtype).eps * max(1, np.abs(wanted).max())  # dozens of numbers in another order
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol, equal_nan=False)


def behind(
    draw: Callable, rows: int, *, deferred: bool, size: int = 1, slope: float = 0.1, dropout: Dropout | None = None
) -> list[np.ndarray]:
    """y, mean and inv_std of a norm behind a dense layer, and what the layer made."""
    x, w = draw("x", rows, size, size, INPUTS), draw("w", OUTPUTS, size, size, INPUTS)
    y, moments = conv2d(x + 3, w, moments=True, deferred=deferred)
    assert isinstance(moments, Product) == deferred
    gamma, beta = draw("gamma", OUTPUTS), draw("beta", OUTPUTS)
    return [*batch_norm_leaky_relu(y, gamma, beta, moments, eps=1e-4, slope=slope, dropout=dropout), y]


@pytest.mark.parametrize("rows", [ROWS, 1])
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["", "dropout"])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_the_norm_behind(
    draw: Callable, form: list[int] | None, slope: float, dropout: Dropout | None, rows: int
) -> None:
    options = {"slope": slope, "dropout": dropout}
    for one, other in zip(
        behind(draw, rows, deferred=True, **options), behind(draw, rows, deferred=False, **options), strict=True
    ):
        near(one, other)
    if form is not None:
        assert sum(form) == (0 if rows == 1 else 2 * OUTPUTS)  # a single row is no tile


@pytest.mark.parametrize("block", [3, 4, ROWS - 1])
def test_moments_of_rows_in_blocks(draw: Callable, tiles: list[int], block: int, monkeypatch) -> None:
    """A block is of all channels, whoever has how many of them; the last has fewer rows."""
    wanted = behind(draw, ROWS, deferred=False)
    monkeypatch.setattr("alikit.kernels.cpu.passes.fused_norm.BLOCK", block * OUTPUTS)
    for one, other in zip(behind(draw, ROWS, deferred=True), wanted, strict=True):
        near(one, other)
    assert sum(tiles) == 2 * OUTPUTS


def test_a_product_that_is_left_is_no_pair_of_moments(draw: Callable) -> None:
    _, moments = conv2d(draw("x", ROWS, 1, 1, 3), draw("w", OUTPUTS, 1, 1, 3), moments=True, deferred=True)
    with pytest.raises(TypeError, match="cannot unpack"):
        _mean, _variance = moments


@pytest.mark.usefixtures("form")
def test_a_kernel_that_covers_its_image_is_a_dense_layer(draw: Callable) -> None:
    for one, other in zip(
        behind(draw, ROWS, size=3, deferred=True), behind(draw, ROWS, size=3, deferred=False), strict=True
    ):
        near(one, other)


@pytest.mark.parametrize("layer", ["a window", "a bias", "another dtype", "no moments"])
def test_what_is_no_bare_dense_layer_is_computed_at_once(draw: Callable, layer: str) -> None:
    size, kernel = (4, 3) if layer == "a window" else (1, 1)
    x, w = draw("x", ROWS, size, size, 3), draw("w", OUTPUTS, kernel, kernel, 3)
    b = draw("b", OUTPUTS) if layer == "a bias" else None
    options = {"moments": layer != "no moments", "dtype": np.float64 if layer == "another dtype" else None}
    y, moments = conv2d(x, w, b, deferred=True, **options)
    wanted_y, wanted = conv2d(x, w, b, **options)
    near(y, wanted_y)
    if layer != "no moments":
        near(np.stack(moments), np.stack(wanted))


@pytest.mark.parametrize("rows", [ROWS, 1])
@pytest.mark.parametrize("cotangents", [1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_the_norm_in_front(draw: Callable, form: list[int] | None, slope: float, cotangents: int, rows: int) -> None:
    before, w = draw("before", rows, 1, 1, OUTPUTS), draw("w", 7, 1, 1, OUTPUTS)
    gy = draw("gy", cotangents * rows, 1, 1, 7)
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
    if form is not None:
        assert sum(form) == (0 if rows == 1 else 3 * OUTPUTS)


@pytest.mark.parametrize("draw", ["float32"], indirect=True)  # loops for two dtypes at once take long to compile
def test_dtypes_are_those_of_a_norm_by_itself(draw: Callable) -> None:
    """Images and statistics have x's, the gradients of gamma and beta have gamma's."""
    x, w = draw("x", ROWS, 1, 1, INPUTS), draw("w", OUTPUTS, 1, 1, INPUTS)
    gy, after = draw("gy", ROWS, 1, 1, 7), draw("after", 7, 1, 1, OUTPUTS)
    other = np.dtype(np.float64)
    gamma, beta = (draw(name, OUTPUTS).astype(other) for name in ("gamma", "beta"))
    found, wanted = [], []
    for joined, results in ((True, found), (False, wanted)):
        before, moments = conv2d(x, w, moments=True, deferred=joined)
        y, mean, inv_std = batch_norm_leaky_relu(before, gamma, beta, moments, eps=1e-4, slope=0.2)
        saved = before, gamma, beta, mean, inv_std
        norm = NormState(*saved, 0.2)
        backward = conv2d_backward(y, gy, after, through=norm)
        g, sums = backward[:2] if joined else conv2d_input_grad(gy, after, (1, 1), through=norm)
        assert isinstance(sums, Passed) == joined
        results += [y, mean, inv_std, *batch_norm_leaky_relu_grad(g, *saved, y, slope=0.2, sums=sums)]
    assert [a.dtype for a in found] == [a.dtype for a in wanted] == [x.dtype] * 4 + [other] * 2
    for one, other_one in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other_one, rtol=0, atol=1e-5 * np.abs(other_one).max())


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


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["", "dropout"])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_x_that_the_norm_has_not_made_is_refused(draw: Callable, transposed: bool, dropout: Dropout | None) -> None:
    """Twice its rows would do for a gradient, as those of two cotangents."""
    x, gy = draw("x", 2 * ROWS, 1, 1, OUTPUTS), draw("gy", 2 * ROWS, 1, 1, 7)
    w = draw("w", *((OUTPUTS, 1, 1, 7) if transposed else (7, 1, 1, OUTPUTS)))
    vectors = [draw(name, OUTPUTS) for name in ("gamma", "beta", "mean", "inv_std")]
    norm = NormState(x[:ROWS], *vectors, 0.2, dropout)
    message = rf"x has shape \({2 * ROWS}, 1, 1, {OUTPUTS}\), the norm of `through` made \({ROWS}, 1, 1, {OUTPUTS}\)"
    with pytest.raises(ValueError, match=message):
        conv2d_backward(x, gy, w, transposed=transposed, through=norm)
