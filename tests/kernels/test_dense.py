"""Products of dense layers on tiles of registers are products of matrices, however they are cut."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.arrays import Activation, Counters, Dropout
from alikit.kernels.cpu import dense
from alikit.kernels.cpu.activation import apply_activation
from alikit.kernels.cpu.conv import conv2d, conv2d_input_grad
from alikit.kernels.cpu.dense import multiply

SHAPES = [
    pytest.param(10, 16, 32, id="one tile, one panel"),
    pytest.param(23, 37, 64, id="the last tile over the one before; steps that fill no vector"),
    pytest.param(8, 5, 48, id="a single vector behind a pair; fewer steps than a vector"),
    pytest.param(12, 20, 57, id="the last vector over the one before"),
    pytest.param(100, 64, 33, id="a pair and one number"),
]


@pytest.fixture(params=["float32", "float64"])
def draw(request: pytest.FixtureRequest, stream: Callable) -> Callable[..., np.ndarray]:
    return lambda label, *shape: stream(label).standard_normal(shape).astype(request.param)


def near(found: np.ndarray, wanted: np.ndarray, terms: int) -> None:
    """Sums of so many products: rounding errors walk at random, each at most eps / 2 of a sum."""
    atol = 2 * terms**0.5 * np.finfo(found.dtype).eps * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize(("count", "steps", "columns"), SHAPES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_product(count: int, steps: int, columns: int, turned: bool, draw: Callable, tiles: list[int]) -> None:
    a, b = draw("a", count, steps), draw("b", steps, columns)
    b = np.ascontiguousarray(b.T).T if turned else b
    out = np.full((count, columns + 3), 7, a.dtype)
    multiply(a, b, 0, columns, out, 2)
    near(out[:, 2:-1], a.astype(float) @ b.astype(float), steps)
    assert (out[:, [0, 1, -1]] == 7).all()  # and nothing beside it
    assert tiles == [columns]


@pytest.mark.parametrize("turned", [False, True])
def test_the_same_bits_however_it_is_cut(
    turned: bool, draw: Callable, tiles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = draw("a", 20, 40), draw("b", 40, 150)
    b = np.ascontiguousarray(b.T).T if turned else b
    whole, cut = np.empty((2, 20, 150), a.dtype)
    multiply(a, b, 0, 150, whole, 0)
    monkeypatch.setattr(dense, "PANELS_BYTES", b.nbytes // 4)
    multiply(a, b, 0, 70, cut, 0)
    multiply(a, b, 70, 150, cut, 70)
    assert tiles == [150, 32, 38, 32, 48]
    assert cut.tobytes() == whole.tobytes()


@pytest.mark.usefixtures("tiles")
def test_what_is_no_number_goes_where_it_belongs(draw: Callable) -> None:
    a, b = draw("a", 12, 20), draw("b", 20, 40)
    a[3, 5], b[7, 11] = np.inf, np.nan
    out = np.empty((12, 40), a.dtype)
    multiply(a, b, 0, 40, out, 0)
    assert np.isinf(out[3, [0, 10, 39]]).all()
    assert np.isnan(out[:, 11]).all()
    assert np.isfinite(np.delete(np.delete(out, 3, 0), 11, 1)).all()


@pytest.mark.parametrize("case", ["few rows", "few columns", "another dtype", "strides", "plain"])
def test_the_rest_is_left_to_blas(case: str, draw: Callable, tiles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw("a", 7 if case == "few rows" else 12, 20), draw("b", 20, 16 if case == "few columns" else 40)
    if case == "another dtype":
        b = b.astype(np.float64 if a.dtype == np.float32 else np.float32)
    if case == "strides":
        b = np.repeat(b, 2, axis=1)[:, ::2]
    if case == "plain":
        monkeypatch.setattr(dense.passes, "CHOSEN", "plain")
    out = np.empty((len(a), b.shape[1]), a.dtype)
    multiply(a, b, 0, b.shape[1], out, 0)
    near(out, a.astype(float) @ b.astype(float), 20)
    assert tiles == []


@pytest.mark.parametrize(("count", "rows"), [(7, None), (8, 8), (11, 11), (16, 8), (23, 12), (100, 10), (200, 12)])
@pytest.mark.usefixtures("tiles")
def test_tiles_are_as_high_as_makes_the_least_of_them(count: int, rows: int | None) -> None:
    """Each costs what two rows more do: 100 rows are 10 tiles of 12, not 13 of 10 nor 9 of 14."""
    assert dense._tile_rows(count, np.dtype(np.float32)) == rows
    assert dense._tile_rows(count, np.dtype(np.int32)) is None


@pytest.mark.parametrize(
    ("count", "steps", "columns", "worth"), [(100, 400, 400, True), (200, 200, 1000, True), (100, 99, 100, False)]
)
def test_what_is_worth_tiles(
    count: int, steps: int, columns: int, worth: bool, draw: Callable, pieces: list[int]
) -> None:
    """With the limits that were measured."""
    from alikit.kernels.cpu.passes.vectors import BYTES

    if BYTES < 64:
        pytest.skip(f"vectors of {BYTES} bytes: BLAS is ahead")
    a, b = draw("a", count, steps), draw("b", steps, columns)
    out = np.empty((count, columns), a.dtype)
    multiply(a, b, 0, columns, out, 0)
    near(out, a.astype(float) @ b.astype(float), steps)
    assert sum(pieces) == (columns if worth else 0)


def test_long_sums_are_left_to_blas(draw: Callable, tiles: list[int]) -> None:
    """Which takes them in blocks, and so errs less."""
    for steps, pieces in ((dense.LONGEST, [40]), (dense.LONGEST + 1, [])):
        a, b = draw("a", 12, steps), draw("b", steps, 40)
        out = np.empty((12, 40), a.dtype)
        tiles.clear()
        multiply(a, b, 0, 40, out, 0)
        near(out, a.astype(float) @ b.astype(float), steps)
        assert tiles == pieces


def test_a_single_step_is_no_sum(draw: Callable, tiles: list[int]) -> None:
    a, b = draw("a", 12, 1), draw("b", 1, 40)
    out = np.empty((12, 40), a.dtype)
    multiply(a, b, 0, 40, out, 0)
    np.testing.assert_array_equal(out, a * b)
    assert tiles == []


@pytest.mark.usefixtures("splitting")
def test_layers_of_any_share(draw: Callable, tiles: list[int]) -> None:
    """Forward under maxout, with bias and dropout, and the gradient of the input: each thread has some channels."""
    x, w, b = draw("x", 12, 1, 1, 80), draw("w", 200, 1, 1, 80), draw("b", 200)
    maxout, dropout = Activation("maxout", 5), Dropout(0.3, Counters(1, 2, 3))
    y, winner = conv2d(x, w, b, activation=maxout, dropout=dropout)
    wanted = (x.reshape(12, 80) @ w.reshape(200, 80).T).reshape(12, 1, 1, 200)
    wanted_y, wanted_winner = apply_activation(wanted, b, maxout, dropout=dropout)
    near(y, wanted_y, 80)
    np.testing.assert_array_equal(winner, wanted_winner)
    gy = draw("gy", 12, 1, 1, 200)
    near(conv2d_input_grad(gy, w, (1, 1))[0], (gy.reshape(12, 200) @ w.reshape(200, 80)).reshape(12, 1, 1, 80), 200)
    assert sum(tiles) == 280
