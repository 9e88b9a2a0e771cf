"""The three convolutions against loops that anyone can read, along every path and every way of sharing work out."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from alikit.kernels.checks import check_conv
from alikit.kernels.cpu.conv import conv2d, conv2d_backward, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.patches import gather_is_cheaper


class Case(NamedTuple):
    """x: (n, h, w, c) and a kernel (o, kh, kw, c), moved by `stride`; and why the row is here."""

    n: int
    h: int
    w: int
    c: int
    o: int
    kh: int
    kw: int
    stride: int
    why: str


CASES = [
    Case(1, 1, 1, 1, 1, 1, 1, 1, "a single number"),
    Case(3, 7, 11, 2, 5, 3, 3, 1, "prime sizes, wide image"),
    Case(3, 13, 6, 3, 7, 2, 5, 1, "prime sizes, tall image, wide kernel"),
    Case(5, 6, 4, 7, 3, 1, 1, 1, "1x1 kernel: windows are the pixels themselves"),
    Case(2, 5, 6, 3, 4, 1, 1, 2, "1x1 kernel of stride 2: pixels that no window sees"),
    Case(7, 4, 3, 5, 50, 4, 3, 1, "kernel covers the image: one dense product, uneven shares of 50 channels"),
    Case(7, 4, 3, 5, 3, 4, 3, 1, "kernel covers the image: too few channels to share"),
    Case(7, 4, 3, 5, 3, 4, 3, 2, "kernel covers the image, and the stride does not matter"),
    Case(5, 1, 1, 37, 70, 1, 1, 1, "1x1 image: dense both ways"),
    Case(3, 8, 9, 3, 6, 3, 2, 2, "stride 2 does not divide the kernel; last row and column of pixels unseen"),
    Case(2, 9, 8, 3, 4, 4, 4, 2, "stride 2 divides the kernel; last row of pixels unseen"),
    Case(2, 9, 8, 1, 4, 4, 4, 2, "one channel, narrower than a tile of the gathering form"),
    Case(1, 3, 53, 1, 2, 3, 4, 1, "one channel, two whole tiles and a part"),
    Case(1, 4, 48, 1, 2, 3, 4, 2, "one channel, whole tiles only"),
    Case(2, 11, 10, 3, 5, 5, 5, 3, "stride 3 does not divide the kernel"),
    Case(2, 12, 14, 3, 5, 3, 6, 3, "stride 3 divides the kernel; two columns of pixels unseen"),
    Case(2, 11, 7, 3, 4, 2, 2, 3, "stride larger than the kernel: pixels between windows"),
    Case(2, 9, 7, 63, 2, 3, 3, 2, "63 channels, odd tiles"),
    Case(2, 9, 7, 64, 2, 3, 3, 2, "64 channels"),
    Case(2, 6, 5, 67, 3, 4, 3, 1, "more channels than a tile is wide, at stride 1"),
    Case(2, 5, 6, 66, 3, 1, 1, 1, "many channels, 1x1 kernel: product straight into the result"),
    Case(2, 5, 6, 66, 3, 1, 1, 2, "many channels, 1x1 kernel of stride 2"),
    Case(13, 6, 7, 4, 5, 3, 3, 2, "13 images: several uneven chunks for each thread"),
    Case(1, 6, 7, 4, 5, 3, 3, 2, "fewer images than threads"),
]


def forms(case: Case) -> list[str]:
    """Those of the input gradient: two where a kernel has windows to lay out."""
    pixels = (case.kh, case.kw, case.stride) == (1, 1, 1)
    return ["scatter"] if pixels or (case.kh, case.kw) == (case.h, case.w) else ["gather", "scatter"]


def every_case(test: Callable) -> Callable:
    ways = [pytest.param(case, form, id=f"{case.why}-{form}") for case in CASES for form in forms(case)]
    test = pytest.mark.parametrize(("case", "input_grad_form"), ways, indirect=["input_grad_form"])(test)
    return pytest.mark.usefixtures("input_grad_form")(test)


def loop_conv2d(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    y = np.zeros((len(x), *output_size(x.shape, w.shape, stride), len(w)))
    for n, a, b, o in np.ndindex(y.shape):
        y[n, a, b, o] = (window(x, n, a, b, w.shape, stride) * w[o]).sum()
    return y


def loop_input_grad(gy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int) -> np.ndarray:
    gx = np.zeros(x_shape)
    for n, a, b, o in np.ndindex(gy.shape):
        window(gx, n, a, b, w.shape, stride)[...] += gy[n, a, b, o] * w[o]
    return gx


def loop_weight_grad(x: np.ndarray, gy: np.ndarray, w_shape: tuple[int, ...], stride: int) -> np.ndarray:
    gw = np.zeros(w_shape)
    for n, a, b, o in np.ndindex(gy.shape):
        gw[o] += gy[n, a, b, o] * window(x, n, a, b, w_shape, stride)
    return gw


def window(x: np.ndarray, n: int, a: int, b: int, w_shape: tuple[int, ...], stride: int) -> np.ndarray:
    return x[n, stride * a : stride * a + w_shape[1], stride * b : stride * b + w_shape[2]]


def output_size(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int) -> tuple[int, int]:
    return (x_shape[1] - w_shape[1]) // stride + 1, (x_shape[2] - w_shape[2]) // stride + 1


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[[Case], tuple[np.ndarray, ...]]:
    """draw(case): independent x, w and gy in float64."""

    def arrays(case: Case) -> tuple[np.ndarray, ...]:
        x_shape, w_shape = (case.n, case.h, case.w, case.c), (case.o, case.kh, case.kw, case.c)
        y_shape = (case.n, *output_size(x_shape, w_shape, case.stride), case.o)
        shapes = {"x": x_shape, "w": w_shape, "gy": y_shape}
        return tuple(stream(name).standard_normal(shape) for name, shape in shapes.items())

    return arrays


def results(x: np.ndarray, w: np.ndarray, gy: np.ndarray, stride: int) -> dict[str, np.ndarray]:
    return {
        "y": conv2d(x, w, stride=stride)[0],
        "gx": conv2d_input_grad(gy, w, x.shape[1:3], stride=stride)[0],
        "gw": conv2d_weight_grad(x, gy, w.shape[1:3], stride=stride),
    }


def loop_results(x: np.ndarray, w: np.ndarray, gy: np.ndarray, stride: int) -> dict[str, np.ndarray]:
    return {
        "y": loop_conv2d(x, w, stride),
        "gx": loop_input_grad(gy, w, x.shape, stride),
        "gw": loop_weight_grad(x, gy, w.shape, stride),
    }


@every_case
@pytest.mark.usefixtures("splitting")
def test_equals_the_loops(case: Case, draw: Callable) -> None:
    x, w, gy = draw(case)
    wanted = loop_results(x, w, gy, case.stride)
    for name, found in results(x, w, gy, case.stride).items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-12, atol=1e-12, err_msg=name)


@every_case
def test_the_gradients_are_adjoints_of_the_convolution(case: Case, draw: Callable) -> None:
    x, w, gy = draw(case)
    found = results(x, w, gy, case.stride)
    inner = np.vdot(found["y"], gy)
    scale = np.vdot(np.abs(found["y"]), np.abs(gy))
    assert np.vdot(x, found["gx"]) == pytest.approx(inner, rel=0, abs=1e-12 * scale)
    assert np.vdot(w, found["gw"]) == pytest.approx(inner, rel=0, abs=1e-12 * scale)


@every_case
@pytest.mark.usefixtures("splitting")
def test_float32_errs_by_no_more_than_rounding_explains(case: Case, draw: Callable) -> None:
    """A sum of K products, in any order, errs by at most K u sum|products| (Higham 2002, 3.1); u = 2^-24."""
    x, w, gy = (array.astype(np.float32) for array in draw(case))
    exact = loop_results(*(array.astype(np.float64) for array in (x, w, gy)), case.stride)
    sizes = loop_results(*(np.abs(array).astype(np.float64) for array in (x, w, gy)), case.stride)
    terms = {"y": w[0].size, "gx": case.o * case.kh * case.kw, "gw": gy[..., 0].size}
    for name, found in results(x, w, gy, case.stride).items():
        assert found.dtype == np.float32
        bound = (terms[name] + 1) * 2.0**-24 * sizes[name]
        assert np.all(np.abs(found - exact[name]) <= bound), name


@every_case
@pytest.mark.parametrize("rows", [None, slice(1, 2)], ids=["all", "some"])
@pytest.mark.parametrize("cotangents", [1, 2])
@pytest.mark.usefixtures("splitting")
def test_both_gradients_at_once(
    case: Case, cotangents: int, rows: slice | None, draw: Callable, stream: Callable
) -> None:
    """Of the layer and of its transposed twin; gradients of weights are of the first cotangent alone."""
    x, w, gy = draw(case)
    more_x, more_gy = (
        stream(f"more {n}").standard_normal((cotangents * case.n, *a.shape[1:])) for n, a in ((0, x), (1, gy))
    )
    for layer_x, upstream, transposed in ((x, more_gy, False), (gy, more_x, True)):
        if rows is not None and case.n * cotangents < 2:
            rows = slice(0, 1)
        options = {"stride": case.stride, "transposed": transposed, "rows": rows}
        gx, sums, gw = conv2d_backward(layer_x, upstream, w, **options)
        assert sums is None
        picked = upstream if rows is None else upstream[rows]
        if transposed:
            wanted_x = loop_conv2d(picked, w, case.stride)
            wanted_w = loop_weight_grad(upstream[: case.n], layer_x, w.shape, case.stride)
        else:
            wanted_x = loop_input_grad(picked, w, (len(picked), *x.shape[1:]), case.stride)
            wanted_w = loop_weight_grad(layer_x, upstream[: case.n], w.shape, case.stride)
        np.testing.assert_allclose(gx, wanted_x, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gw, wanted_w, rtol=1e-12, atol=1e-12)


def test_the_same_threads_give_the_same_bytes(stream: Callable, split_as: Callable) -> None:
    x = stream("x").standard_normal((30, 9, 9, 16)).astype(np.float32)
    w = stream("w").standard_normal((24, 4, 4, 16)).astype(np.float32)
    gy = stream("gy").standard_normal((30, 3, 3, 24)).astype(np.float32)
    split_as("two-threads-in-pieces")
    first = results(x, w, gy, 2)
    for _ in range(5):
        for name, again in results(x, w, gy, 2).items():
            assert first[name].tobytes() == again.tobytes(), name


X, W = np.zeros((2, 6, 5, 3)), np.zeros((4, 3, 2, 3))
ERRORS = {
    "x is no batch of images": (lambda: conv2d(X[0], W), r"conv2d: x \(6, 5, 3\) must be \(N, H, W, C\)"),
    "w is no set of kernels": (lambda: conv2d(X, W[0]), r"conv2d: .* w \(3, 2, 3\) must be \(O, kH, kW, C\)"),
    "channels differ": (lambda: conv2d(X, W[..., :2]), r"conv2d: .* has 3 channels, w \(4, 3, 2, 2\) wants 2"),
    "kernel too tall": (lambda: conv2d(X[:, :2], W), r"conv2d: a kernel of \(3, 2\) does not fit an input of \(2, 5\)"),
    "kernel too wide": (
        lambda: conv2d(X[:, :, :1], W),
        r"conv2d: a kernel of \(3, 2\) does not fit an input of \(6, 1\)",
    ),
    "no rows": (lambda: conv2d(X[:0], W), r"conv2d: x \(0, 6, 5, 3\) has no rows"),
    "no rows, left to a norm": (
        lambda: conv2d(X[:0, :1, :1], W[:, :1, :1], moments=True, deferred=True),
        r"conv2d: x \(0, 1, 1, 3\) has no rows",
    ),
    "stride 0": (lambda: conv2d(X, W, stride=0), r"conv2d: stride must be an integer of at least 1, found 0"),
    "x not contiguous": (lambda: conv2d(X.transpose(0, 2, 1, 3), W), r"conv2d: x \(2, 5, 6, 3\) is not contiguous"),
    "gy of another size": (
        lambda: conv2d_input_grad(np.zeros((2, 3, 4, 4)), W, (6, 5)),
        r"conv2d_input_grad: gy has shape \(2, 3, 4, 4\), wanted \(2, 4, 4, 4\)",
    ),
    "gy of another channel count": (
        lambda: conv2d_input_grad(np.zeros((2, 4, 4, 3)), W, (6, 5)),
        r"conv2d_input_grad: gy has shape \(2, 4, 4, 3\), wanted \(2, 4, 4, 4\)",
    ),
    "w without its channels": (
        lambda: conv2d_input_grad(np.zeros((2, 4, 4, 4)), W[0], (6, 5)),
        r"conv2d_input_grad: .* w \(3, 2, 3\) must be \(O, kH, kW, C\)",
    ),
    "gy without a batch": (
        lambda: conv2d_weight_grad(X, np.zeros((4, 4, 4)), (3, 2)),
        r"conv2d_weight_grad: gy has shape \(4, 4, 4\), wanted \(N, Ho, Wo, O\)",
    ),
    "x without a batch": (
        lambda: conv2d_weight_grad(X[0], np.zeros((2, 4, 4, 4)), (3, 2)),
        r"conv2d_weight_grad: x \(6, 5, 3\) must be \(N, H, W, C\)",
    ),
    "gy of another batch": (
        lambda: conv2d_weight_grad(X, np.zeros((3, 4, 4, 4)), (3, 2)),
        r"conv2d_weight_grad: gy has shape \(3, 4, 4, 4\), wanted \(2, 4, 4, 4\)",
    ),
    "x of the gradient not contiguous": (
        lambda: conv2d_weight_grad(X.transpose(0, 2, 1, 3), np.zeros((2, 3, 5, 4)), (3, 2)),
        r"conv2d_weight_grad: x \(2, 5, 6, 3\) is not contiguous",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_arguments_are_named(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("stride", [1, 2, np.int64(2)])
def test_a_refused_stride_leaves_no_trace_nor_does_the_same_number_as_an_integer(stride: int) -> None:
    """Checks remember what they were asked, and 2.0 equals 2."""
    check_conv.cache_clear()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"conv2d: stride must be an integer of at least 1, found {stride}.0"):
            conv2d(X, W, stride=float(stride))  # type: ignore[arg-type]
        assert conv2d(X, W, stride=stride)[0].shape == (2, 3 // stride + 1, 3 // stride + 1, 4)


@pytest.mark.parametrize(
    ("w_shape", "size", "stride", "gather"),
    [
        ((32, 5, 5, 3), 32, 1, True),  # GFLOP/s measured, gather / scatter: 47 / 17
        ((64, 4, 4, 32), 28, 2, True),  # 211 / 143
        ((32, 5, 5, 32), 32, 1, True),  # 205 / 135
        ((128, 4, 4, 64), 13, 1, False),  # 151 / 233
        ((256, 4, 4, 128), 10, 2, False),  # 219 / 284
        ((64, 1, 1, 3), 8, 1, False),  # a product without windows
    ],
)
def test_the_form_that_was_measured_faster_is_chosen(w_shape: tuple, size: int, stride: int, gather: bool) -> None:
    assert gather_is_cheaper(w_shape, (size, size), stride) == gather
