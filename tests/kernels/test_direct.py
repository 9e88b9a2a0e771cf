"""Convolution on tiles of registers gives what windows laid out give, which `test_conv.py` holds against loops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from alikit.kernels.arrays import Activation, Counters, Dropout
from alikit.kernels.cpu import direct
from alikit.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from alikit.kernels.cpu.direct import Forward, InputGrad, WeightGrad, tiling

vectors = pytest.importorskip("alikit.kernels.cpu.passes.vectors", reason="needs numba")
rows = pytest.importorskip("alikit.kernels.cpu.passes.rows", reason="needs numba")


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
    Case(3, 8, 9, 32, 32, 3, 3, 1, "one tile a line"),
    Case(2, 12, 13, 3, 32, 5, 5, 1, "9 pixels a line, the last tile over the one before; channels that fill no vector"),
    Case(3, 11, 12, 32, 64, 4, 4, 2, "stride 2; the last row of pixels unseen"),
    Case(2, 10, 13, 48, 16, 2, 3, 3, "stride 3, larger than the kernel is tall; a single vector of channels"),
    Case(1, 10, 10, 64, 32, 1, 1, 1, "1x1; fewer images than threads"),
    Case(7, 9, 10, 224, 32, 3, 3, 1, "lines of windows of five segments, of unlike length"),
    Case(2, 7, 8, 32, 352, 4, 4, 1, "channels of gy of three segments, of unlike length"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], tuple[Any, Any]]:
    """forms(fn): what fn gives directly, however small the layer is, and by windows laid out."""

    def both(fn: Callable[[], Any]) -> tuple[Any, Any]:
        found = []
        for worth in (0, float("inf")):
            monkeypatch.setattr(direct, "WORTH", worth)
            found.append(fn())
        return found[0], found[1]

    monkeypatch.setattr(direct, "PIXELS", 0)
    monkeypatch.setattr(direct, "STRETCH", 100)
    return both


@pytest.fixture(params=[np.float32, np.float64])
def draw(request: pytest.FixtureRequest, stream: Callable) -> Callable[[Case], tuple[np.ndarray, ...]]:
    """draw(case): independent x, w and gy."""

    def arrays(case: Case) -> tuple[np.ndarray, ...]:
        n, h, w, c, o, kh, kw, s, _ = case
        shapes = {"x": (n, h, w, c), "w": (o, kh, kw, c), "gy": (n, (h - kh) // s + 1, (w - kw) // s + 1, o)}
        return tuple(stream(name).standard_normal(shape).astype(request.param) for name, shape in shapes.items())

    return arrays


def near(found: np.ndarray, wanted: np.ndarray, terms: int) -> None:
    """Sums of so many products, in another order: rounding errors walk at random, each at most eps / 2 of a sum."""
    assert found.dtype == wanted.dtype
    atol = 2 * terms**0.5 * np.finfo(wanted.dtype).eps * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@every_case
@pytest.mark.usefixtures("splitting")
def test_equals_windows_laid_out(case: Case, draw: Callable, forms: Callable) -> None:
    x, w, gy = draw(case)
    near(*forms(lambda: conv2d(x, w, stride=case.stride)[0]), w[0].size)
    near(*forms(lambda: conv2d_input_grad(gy, w, x.shape[1:3], stride=case.stride)[0]), w[..., 0].size)
    found, wanted = forms(lambda: conv2d_weight_grad(x, gy, w.shape[1:3], stride=case.stride))
    near(found, wanted, gy[..., 0].size)
    assert found.flags.c_contiguous


@every_case
def test_the_cases_have_direct_forms(case: Case, draw: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "WORTH", 0)
    monkeypatch.setattr(direct, "PIXELS", 0)
    x, w, gy = draw(case)
    assert Forward.of(w, case.stride, gy.shape) is not None
    assert WeightGrad.of(x, gy, w.shape[1:3], case.stride) is not None
    assert (InputGrad.of(w, x.shape[1:3], case.stride, gy.shape) is None) == (case.c == 3)


def test_any_number_of_threads_gives_the_same_images(
    draw: Callable, split_as: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, each sum being taken in one order; a weight gradient is only the same for the same threads."""
    monkeypatch.setattr(direct, "WORTH", 0)
    x, w, gy = draw(CASES[0])
    found = []
    for splitting in ("one-thread", "two-threads-in-pieces"):
        split_as(splitting)
        found.append((conv2d(x, w)[0].tobytes(), conv2d_input_grad(gy, w, x.shape[1:3])[0].tobytes()))
    assert found[0] == found[1]


RIDERS = {
    "bias, leaky ReLU, dropout": {
        "activation": Activation("leaky_relu", 0.1),
        "dropout": Dropout(0.3, Counters(1, 2, 3)),
    },
    "moments": {"moments": True},
    "maxout": {"activation": Activation("maxout", 4)},
}


@pytest.mark.parametrize("riders", RIDERS.values(), ids=RIDERS.keys())
@pytest.mark.usefixtures("splitting")
def test_the_epilogue_follows(riders: dict, draw: Callable, forms: Callable, stream: Callable) -> None:
    x, w, _ = draw(CASES[0])
    bias = stream("bias").standard_normal(len(w)).astype(x.dtype)
    (found, extra), (wanted, wanted_extra) = forms(lambda: conv2d(x, w, bias, **riders))
    near(found, wanted, w[0].size)
    for a, b in zip(extra or (), wanted_extra or (), strict=True) if "moments" in riders else ():
        near(a, b, x[..., 0].size)


def test_arrays_that_are_not_contiguous(draw: Callable, forms: Callable) -> None:
    x, w, gy = draw(CASES[2])
    turned = np.ascontiguousarray(gy.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    near(*forms(lambda: conv2d_input_grad(turned, w, x.shape[1:3], stride=2)[0]), w[..., 0].size)
    near(*forms(lambda: conv2d_weight_grad(x, turned, w.shape[1:3], stride=2)), gy[..., 0].size)


def test_not_a_number_stays_where_it_belongs(draw: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "WORTH", 0)
    x, w, _ = draw(CASES[0])
    x[1, 2, 3, 4] = np.nan
    lost = np.isnan(conv2d(x, w)[0]).all(axis=-1)
    wanted = np.zeros_like(lost)
    wanted[1, 0:3, 1:4] = True
    np.testing.assert_array_equal(lost, wanted)


@pytest.mark.parametrize("registers", [(64, 32), (32, 16), (16, 32), (16, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_fit_into_the_registers(registers: tuple, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BYTES", registers[0])
    monkeypatch.setattr(vectors, "REGISTERS", registers[1])
    width = registers[0] // np.dtype(dtype).itemsize
    choose = tiling.__wrapped__  # not the remembered ones
    for pixels in range(4, 70):
        for channels in (width, 2 * width, 3 * width):
            tile = choose(pixels, channels, np.dtype(dtype))
            assert 2 <= tile.rows <= pixels
            assert tile.rows * tile.vectors + tile.vectors + 1 <= registers[1]
            assert channels % (tile.vectors * width) == 0
    assert choose(3, width, np.dtype(dtype)) is choose(9, width + 1, np.dtype(dtype)) is None
    assert choose(9, width, np.dtype(np.float16)) is None


@pytest.mark.parametrize("registers", [64, 32, 16])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_stretches_of_a_row_are_vectors_at_least(
    registers: int, itemsize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BYTES", registers)
    width = registers // itemsize
    assert rows.stretches(width - 1, itemsize, 7) == (0, 0)
    for channels in range(width, 3000):
        stretch, last = rows.stretches(channels, itemsize, 7)
        assert stretch == 7 * width
        assert width <= last < stretch + width
        assert (channels - last) % stretch == 0
