"""The three convolutions on the GPU against the CPU's in float64: sizes, strides, pads, tiles of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import device, tiles
from alikit.kernels.cpu import conv as cpu
from alikit.kernels.gpu import conv
from alikit.kernels.gpu.conv_shapes import Tile
from alikit.kernels.launch import recording

BF16 = ml_dtypes.bfloat16


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
    Case(2, 7, 11, 2, 5, 3, 3, 1, "prime sizes, two channels"),
    Case(2, 11, 6, 3, 7, 2, 5, 1, "prime sizes, three channels, wide kernel"),
    Case(2, 6, 5, 7, 3, 1, 1, 1, "1x1 kernel, three channels out"),
    Case(2, 5, 6, 3, 4, 1, 1, 2, "1x1 kernel of stride 2: pixels that no window sees"),
    Case(3, 4, 3, 5, 34, 4, 3, 1, "kernel covers the image"),
    Case(3, 4, 3, 5, 3, 4, 3, 2, "kernel covers the image, and the stride does not matter"),
    Case(2, 5, 4, 16, 6, 4, 4, 2, "kernel nearly covers the image: one window, and a row that it does not see"),
    Case(2, 5, 4, 16, 17, 3, 4, 1, "kernel covers the image one way"),
    Case(3, 1, 1, 37, 70, 1, 1, 1, "1x1 image, no sizes that divide"),
    Case(2, 9, 8, 3, 4, 4, 4, 2, "stride 2 divides the kernel; a row that no window sees"),
    Case(2, 8, 9, 3, 6, 3, 2, 2, "stride 2 does not divide the kernel"),
    Case(1, 13, 14, 4, 6, 5, 2, 3, "stride 3, also above the kernel"),
    Case(1, 6, 6, 16, 32, 4, 2, 2, "steps within an entry of the window"),
    Case(1, 5, 6, 16, 16, 3, 3, 1, "steps within an entry, and neighbours together"),
    Case(1, 1, 31, 16, 31, 1, 1, 1, "one below a tile"),
    Case(1, 4, 8, 16, 32, 1, 1, 1, "a tile"),
    Case(1, 3, 11, 16, 33, 1, 1, 1, "one above a tile"),
]
#: tiles of windows and of weight gradients, whether pixels are padded
FORMS: dict[str, tuple[Tile | None, Tile | None, bool]] = {
    "as the rule says": (None, None, True),
    "unpadded, deep, pairs": (Tile(32, 16, 32, unroll=2), Tile(16, 32, 32, pieces=2), False),
    "padded, shallow, fours": (Tile(32, 32, 16, unroll=4, chunk=16), Tile(32, 16, 16, pieces=5), True),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def close(found: Any, wanted: np.ndarray, rtol: float = 1e-5) -> None:
    """Every element within rtol of the largest."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(device.to_host(found).astype(np.float64), wanted, rtol=0, atol=rtol * abs(wanted).max())


@pytest.fixture
def operands(stream: Callable) -> Callable[..., tuple[np.ndarray, ...]]:
    """operands(case): x, w and an upstream gradient gy, float32."""

    def draw(case: Case, cotangents: int = 1) -> tuple[np.ndarray, ...]:
        x = stream("x").standard_normal(case[:4])
        w = stream("w").standard_normal((case.o, case.kh, case.kw, case.c))
        y, _ = cpu.conv2d(x, w, stride=case.stride)
        gy = stream("gy").standard_normal((cotangents * case.n, *y.shape[1:]))
        return tuple(v.astype(np.float32) for v in (x, w, gy))

    return draw


def double(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(v, np.float64) for v in arrays]


@every_form
@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_equals_the_cpu(case: Case, form: tuple, operands: Callable, put: Callable) -> None:
    x, w, gy = operands(case)
    window, weight, padded = form
    x_on, gy_on = (put(v, activation=padded) for v in (x, gy))
    with tiles.forced(window, weight):
        y, nothing = conv.conv2d(x_on, put(w), stride=case.stride)
        gx, nothing_either = conv.conv2d_input_grad(gy_on, put(w), (case.h, case.w), stride=case.stride)
        gw = conv.conv2d_weight_grad(x_on, gy_on, (case.kh, case.kw), stride=case.stride)
    x, w, gy = double(x, w, gy)
    assert nothing is nothing_either is None
    close(y, cpu.conv2d(x, w, stride=case.stride)[0])
    close(gx, cpu.conv2d_input_grad(gy, w, (case.h, case.w), stride=case.stride)[0])
    close(gw, cpu.conv2d_weight_grad(x, gy, (case.kh, case.kw), stride=case.stride))


SMALL = (Tile(32, 16, 16), Tile(32, 16, 16, pieces=3))
#: each case once with all rows and once with some, once as a convolution and once transposed
BACKWARD = [
    (CASES[1], None, False),
    (CASES[1], slice(1, 3), True),
    (CASES[5], slice(1, 3), False),
    (CASES[5], None, True),
    (CASES[10], None, False),
    (CASES[10], slice(1, 3), True),
    (CASES[13], slice(0, 1), False),
    (CASES[13], None, True),
]


@pytest.mark.parametrize(("case", "rows", "transposed"), BACKWARD)
def test_both_gradients_at_once(
    case: Case, rows: slice | None, transposed: bool, operands: Callable, put: Callable
) -> None:
    """Of two cotangents, of which the first has a weight gradient."""
    x, w, gy = operands(case, 2)
    if transposed:  # the layer's input is what the convolution would give
        x, gy = gy[: case.n], np.concatenate([x, x[::-1] + 1])
    options = {"stride": case.stride, "transposed": transposed, "rows": rows}
    with tiles.forced(*SMALL):
        on_device = put(x, activation=True), put(gy, activation=True), put(w)
        gx, sums, gw = conv.conv2d_backward(*on_device, **options)
        *_, parts = conv.conv2d_backward(*on_device, partials=True, **options)
    wanted = cpu.conv2d_backward(*double(x, gy, w), **options)
    close(gx, wanted[0])
    assert sums is None
    close(gw, wanted[2])
    assert parts.shape == (3, *w.shape)
    assert parts.dtype == np.float32
    close(parts.sum(axis=0), wanted[2])


def test_pieces_of_a_weight_gradient_are_shares_of_the_pixels(operands: Callable, put: Callable) -> None:
    """In the pixels' order; a piece for which no pixels are left is zero."""
    case = CASES[15]
    x, _, gy = operands(case)
    with tiles.forced(weight=Tile(16, 32, 16, pieces=4)):
        parts = conv.conv2d_weight_grad(put(x), put(gy), (1, 1), partials=True)
    for part, pixels in zip(parts.get(), (slice(0, 16), slice(16, 31), slice(0), slice(0)), strict=True):
        wanted = gy[0, 0, pixels].astype(np.float64).T @ x[0, 0, pixels]
        np.testing.assert_allclose(part[:, 0, 0], wanted, rtol=0, atol=1e-5)


def test_padded_weights_are_read_as_they_lie(operands: Callable, put: Callable) -> None:
    case = CASES[2]
    x, w, gy = operands(case)
    padded = put(w, activation=True)
    assert device.pitch(padded) == 4
    with tiles.forced(Tile(32, 16, 16, unroll=2)):
        y, _ = conv.conv2d(put(x, activation=True), padded)
        gx, _ = conv.conv2d_input_grad(put(gy, activation=True), padded, (case.h, case.w))
    x, w, gy = double(x, w, gy)
    close(y, cpu.conv2d(x, w)[0])
    close(gx, cpu.conv2d_input_grad(gy, w, (case.h, case.w))[0])


def test_bfloat16_arrays_and_mixtures(operands: Callable, put: Callable) -> None:
    """Numbers are read in either type and written in the one asked for; weight gradients are float32."""
    case = CASES[2]
    x, w, gy = (v.astype(BF16).astype(np.float32) for v in operands(case))
    low = {"dtype": BF16, "activation": True}
    on = put(x, **low), put(w, **low), put(gy, activation=True)
    options = {"precision": "bf16"}
    y, _ = conv.conv2d(on[0], on[1], **options)
    exact, _ = conv.conv2d(on[0], on[1], dtype=np.float32, **options)
    gx, _, gw = conv.conv2d_backward(on[0], on[2], on[1], **options)
    assert (y.dtype, exact.dtype, gx.dtype, gw.dtype) == (BF16, np.float32, BF16, np.float32)
    assert (device.pitch(y), device.pitch(gx)) == (8, 8)
    x, w, gy = double(x, w, gy)
    wanted = cpu.conv2d(x, w)[0]
    close(exact, wanted)
    close(y, wanted, 2.0**-8)
    close(gx, cpu.conv2d_input_grad(gy, w, (case.h, case.w))[0], 2.0**-8)
    close(gw, cpu.conv2d_weight_grad(x, gy, (case.kh, case.kw)))


def test_tf32_rounds_to_ten_bits(put: Callable) -> None:
    """To nearest, ties away from zero; a tensor core by itself would cut off."""
    x = np.float32([1, 1 + 2.0**-11, 1 + 2.0**-11 - 2.0**-20, -1 - 2.0**-11, 0]).reshape(5, 1, 1, 1)
    y, _ = conv.conv2d(put(x), put(np.ones((1, 1, 1, 1))), precision="tf32")
    np.testing.assert_array_equal(y.get().reshape(-1), np.float32([1, 1 + 2.0**-10, 1, -1 - 2.0**-10, 0]))


def test_an_empty_batch_is_refused(put: Callable) -> None:
    x, w = device.empty_activation((0, 5, 5, 3)), put(np.ones((4, 3, 3, 3)))
    with pytest.raises(ValueError, match=r"conv2d: x \(0, 5, 5, 3\) has no rows"):
        conv.conv2d(x, w)
    with pytest.raises(ValueError, match=r"conv2d_input_grad: x \(0, 5, 5, 3\) has no rows"):
        conv.conv2d_input_grad(device.empty_activation((0, 3, 3, 4)), w, (5, 5))


def test_work_is_what_cannot_be_avoided(operands: Callable, put: Callable) -> None:
    x, w, gy = operands(CASES[1])
    with tiles.forced(*SMALL), recording() as launches:
        conv.conv2d(put(x), put(w))
        conv.conv2d_backward(put(x), put(gy), put(w), partials=True)
    forward, backward = (launch.work for launch in launches)
    macs = 2 * 5 * 9 * 5 * 3 * 3 * 2
    assert forward == (4 * (x.size + w.size), 4 * gy.size, 2 * macs)
    assert backward == (4 * (x.size + gy.size + w.size), 4 * (x.size + w.size), 4 * macs)


def test_errors_name_what_was_found(put: Callable) -> None:
    x, w = put(np.ones((2, 5, 5, 3))), put(np.ones((4, 3, 3, 3)))
    with pytest.raises(ValueError, match=r"conv2d: precision 'fp16': wanted 'fp32' or 'tf32' or 'bf16' here"):
        conv.conv2d(x, w, precision="fp16")
    with pytest.raises(ValueError, match=r"conv2d_weight_grad: gy has shape \(2, 3, 4, 4\)"):
        conv.conv2d_weight_grad(x, put(np.ones((2, 3, 4, 4))), (3, 3))
    with pytest.raises(ValueError, match=r"conv2d_backward: gy .* has 3 rows, wanted 2 or a multiple"):
        conv.conv2d_backward(x, put(np.ones((3, 3, 3, 4))), w)
