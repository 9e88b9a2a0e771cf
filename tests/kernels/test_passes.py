"""The compiled passes give what NumPy's give, element by element; and without Numba the kernels do with NumPy's."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from alikit.kernels.arrays import LINEAR, Activation
from alikit.kernels.cpu import passes
from alikit.kernels.cpu.moments import Moments
from alikit.kernels.cpu.passes import plain, plain_norm

ACTIVATIONS = (LINEAR, Activation("leaky_relu", 0.1), Activation("leaky_relu", 0.0), Activation("sigmoid"))
#: one row, one column, more rows than the loops add up at once
SHAPES = ((1, 1), (1, 7), (5, 1), (37, 12), (600, 3))


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture
def fused() -> ModuleType:
    return pytest.importorskip("alikit.kernels.cpu.passes.fused", reason="needs numba")


@pytest.fixture
def fused_norm() -> ModuleType:
    return pytest.importorskip("alikit.kernels.cpu.passes.fused_norm", reason="needs numba")


@pytest.fixture
def same(dtype: np.dtype, fused: ModuleType, fused_norm: ModuleType) -> Callable[..., None]:
    """same(name, *arguments): both passes, given copies, leave the same in all arrays and return the same."""
    eps = float(np.finfo(dtype).eps)

    def run(modules: tuple[ModuleType, ...], name: str, *arguments: Any) -> list[np.ndarray]:
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        (function,) = {getattr(module, name) for module in modules if hasattr(module, name)}
        returned = function(*copies)
        if name == "moments":
            returned = tuple(part for stretch in returned for part in stretch)
        if isinstance(returned, tuple):
            returned = np.concatenate([np.ravel(part) for part in returned])
        left = [c for c in copies if isinstance(c, np.ndarray)]
        return [*left[name == "maxout" :], np.asarray(0 if returned is None else returned)]  # which may change its x

    def check(name: str, *arguments: Any) -> None:
        twins = (plain, plain_norm), (fused, fused_norm)
        for one, other in zip(*(run(modules, name, *arguments) for modules in twins), strict=True):
            assert one.dtype == other.dtype
            # sums of 600 numbers in another order; elements agree to a rounding or two
            np.testing.assert_allclose(one, other, rtol=100 * eps, atol=300 * eps)

    return check


@pytest.fixture
def matrix(dtype: np.dtype, stream: Callable) -> Callable[..., np.ndarray]:
    """matrix(label, *shape): normal numbers, some of them exactly zero, where leaky ReLU has its kink."""

    def draw(label: str, *shape: int) -> np.ndarray:
        values = stream(label).standard_normal(shape).astype(dtype)
        values[stream(f"{label} zeros").random(shape) < 0.1] = 0
        return values

    return draw


@pytest.fixture(params=[False, True], ids=["all", "dropout"])
def mask(request: pytest.FixtureRequest, stream: Callable) -> Callable[..., np.ndarray | None]:
    return lambda *shape: stream("keep").random(shape) < 0.7 if request.param else None


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_activate(same: Callable, matrix: Callable, shape: tuple, biased: bool, activation: Activation) -> None:
    same("activate", matrix("y", *shape), matrix("bias", shape[1]) if biased else None, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activation_grad(same: Callable, matrix: Callable, mask: Callable, activation: Activation) -> None:
    y = matrix("y", 57)
    y = abs(y) % 1 if activation.name == "sigmoid" else y
    same("activation_grad", matrix("gy", 57), y, activation, mask(57), 0.3, np.empty_like(y))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_maxout(same: Callable, matrix: Callable, pieces: int, biased: bool) -> None:
    x, out, winner = matrix("x", 9, 4 * pieces), matrix("out", 9, 4), np.full((9, 4), 9, np.uint8)
    x[0] = 1.0  # a tie: the first wins
    same("maxout", x, matrix("bias", 4 * pieces) if biased else None, pieces, out, winner)
    same("maxout", x[:, : 2 * pieces].copy(), None, pieces, out, winner, 1)
    x[1, 1] = np.nan
    passes.maxout(x.copy(), None, pieces, out, winner)
    assert not winner[0].any()
    assert np.isnan(out[1, 0])


@pytest.mark.parametrize("pieces", [2, 5])
def test_maxout_grad(same: Callable, matrix: Callable, mask: Callable, stream: Callable, pieces: int) -> None:
    gy, winner = matrix("gy", 31), stream("winner").integers(0, pieces, 31).astype(np.uint8)
    same("maxout_grad", gy, winner, pieces, mask(31), 0.3, np.empty((31, pieces), gy.dtype))


@pytest.mark.parametrize("pieces", [2, 5])
@pytest.mark.parametrize(
    ("rows", "groups", "width"), [(1, 1, 1), (7, 5, 3), (6, 21, 50), (9, 17, 300), (0, 4, 50), (3, 0, 50)]
)
def test_products_of_winners(
    same: Callable,
    matrix: Callable,
    stream: Callable,
    rows: int,
    groups: int,
    width: int,
    pieces: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of more and fewer groups than are worked on at a time, and not a multiple of them; the same of rows; of rows that
    fill no vector, that fill some, and that take more than there are registers; of none of either."""
    monkeypatch.setattr("alikit.kernels.cpu.passes.fused.ROWS_BYTES", 4 * width * 8)
    monkeypatch.setattr("alikit.kernels.cpu.passes.fused.OUT_BYTES", 5 * pieces * width * 8)
    g, winner = matrix("g", rows, groups), stream("winner").integers(0, pieces, (rows, groups)).astype(np.uint8)
    for weights in (None, matrix("weights", rows)):
        same("winner_sums", g, winner, weights, pieces, np.ones(groups * pieces))
    w, x = matrix("w", groups * pieces, width), matrix("x", rows, width)
    same("winner_input_grad", g, winner, w, pieces, np.ones((rows, width), g.dtype))
    same("winner_weight_grad", g, winner, x, pieces, np.ones((groups * pieces, width), g.dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_moments(same: Callable, matrix: Callable, shape: tuple) -> None:
    x = matrix("x", *shape) + 3
    same("column_sums", x)
    same("moments", x)


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_norm(same: Callable, matrix: Callable, mask: Callable, shape: tuple, slope: float) -> None:
    x, gy, y, keep = matrix("x", *shape), matrix("gy", *shape), matrix("y", *shape), mask(*shape)
    vectors = [matrix(name, shape[1]) for name in ("mean", "scale", "shift")]
    same("normalise", x, *vectors, slope, keep, np.empty_like(x))
    same("norm_grad", gy, x, *vectors, matrix("k2", shape[1]), np.empty_like(x))
    for output in (None, y):
        same("through", gy, x, output, *vectors, slope, keep, 0.3, np.empty_like(x), np.ones((2, shape[1])))


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("start", "stop"), [(0, 40), (16, 33), (39, 40)])
def test_a_norm_on_some_channels(same: Callable, matrix: Callable, slope: float, start: int, stop: int) -> None:
    x, g, y = (matrix(name, 300, 40) for name in "xgy")
    gamma, beta, mean, inv_std = (matrix(name, 40) for name in ("gamma", "beta", "mean", "inv_std"))
    same("norm_channels", x + 3, gamma, beta, 1e-4, 1.25, slope, start, stop, mean, inv_std, y)
    same("norm_channels_grad", g, x, y, gamma, mean, inv_std, slope, start, stop, matrix("gammas", 2, 40))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_norm_needs_for_each_channel(same: Callable, matrix: Callable, stream: Callable, shape: tuple) -> None:
    gamma, beta, mean = (matrix(name, shape[1]) for name in ("gamma", "beta", "mean"))
    var = matrix("var", shape[1]) ** 2
    same("norm_vectors", gamma, beta, var, 1e-4, 1.25)
    same("norm_factors", stream("sums").standard_normal((2, 2, shape[1])), gamma, 1 + var, shape[0])
    same("running", mean, 1 + var, matrix("running mean", shape[1]), matrix("deviation", shape[1]) ** 2, 0.05)


@pytest.mark.parametrize("pairs", [1, 17])
def test_adversarial_losses(same: Callable, matrix: Callable, dtype: np.dtype, pairs: int) -> None:
    logits = 5 * matrix("logits", 2, pairs)
    same("adversarial", logits, np.empty(4, dtype), np.empty((2, 2, pairs), dtype))


@pytest.mark.parametrize("size", [1, 8, 23])
def test_box_muller(same: Callable, stream: Callable, dtype: np.dtype, size: int) -> None:
    words = stream("words").integers(0, 2**64, -(-size // 2), np.uint64)
    same("box_muller", words, np.empty(size, dtype))


def test_moments_of_several_blocks(
    matrix: Callable, dtype: np.dtype, fused_norm: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = matrix("x", 47, 7) + 3
    for module, limited in ((plain_norm, plain), (fused_norm, fused_norm)):
        monkeypatch.setattr(limited, "BLOCK", 60)
        found = Moments(7)
        for stretch in module.moments(x):
            found.merge(*stretch)
        wanted = x.astype(float)
        np.testing.assert_allclose(found.mean, wanted.mean(axis=0), rtol=10 * np.finfo(dtype).eps)
        np.testing.assert_allclose(found.m2, 47 * wanted.var(axis=0), rtol=10 * np.finfo(dtype).eps)


def test_drop(same: Callable, matrix: Callable, stream: Callable) -> None:
    same("drop", matrix("y", 41), stream("keep").random(41) < 0.7, 0.3)


@pytest.mark.parametrize("sizes", [[41], [5, 1, 0, 6000], [2, 3] * 9], ids=str)
def test_adam(same: Callable, matrix: Callable, sizes: list[int]) -> None:
    """Of fewer and more gradients than one call of the loop takes."""
    grads = [matrix(f"g{i}", size) for i, size in enumerate(sizes)]
    grads[-1] = np.broadcast_to(grads[-1][:1], sizes[-1:])  # to be read only, a number again and again
    p, m, v = (matrix(name, sum(sizes)) for name in "pmv")
    same("adam", grads, p, m, v**2, 1e-3, 0.5, 0.999, 1e-8, np.ones(len(sizes)))


@pytest.mark.parametrize("name", ["activate", "normalise", "through"])
def test_what_is_not_finite_stays_visible(same: Callable, matrix: Callable, name: str) -> None:
    x, vectors = matrix("x", 5, 3), [matrix(name, 3) for name in "abc"]
    x[1, 1], x[2, 2], x[3, 0] = np.nan, np.inf, -np.inf
    more = {
        "activate": (vectors[0], Activation("leaky_relu", 0.1)),
        "normalise": (*vectors, 0.1, None, np.empty_like(x)),
        "through": (matrix("x", 5, 3), None, *vectors, 0.1, None, 0.0, np.empty_like(x), np.zeros((2, 3))),
    }
    with np.errstate(invalid="ignore"):
        same(name, x, *more[name])
        if name == "through":  # by the output at hand
            same(name, x, matrix("x", 5, 3), matrix("y", 5, 3), *more[name][2:])


@pytest.mark.parametrize("twin", ["plain", "fused"])
def test_a_gradient_is_passed_through_in_place(twin: str, matrix: Callable, request: pytest.FixtureRequest) -> None:
    module = plain_norm if twin == "plain" else request.getfixturevalue("fused_norm")
    gy, x, y = (matrix(name, 37, 12) for name in ("gy", "x", "y"))
    for output in (y, None):
        g, sums, out = gy.copy(), np.zeros((2, 12)), np.empty_like(gy)
        vectors = [matrix(name, 12) for name in ("mean", "scale", "beta")]
        module.through(gy, x, output, *vectors, 0.1, None, 0.0, out, sums)
        module.through(g, x, output, *vectors, 0.1, None, 0.0, g, np.zeros((2, 12)))
        np.testing.assert_array_equal(g, out)


@pytest.mark.parametrize("without", ["the library", "leave"])
def test_without_numba_the_passes_are_numpys(without: str) -> None:
    hide = "import importlib.util as u; u.find_spec = lambda name: None; " if without == "the library" else ""
    ask = "from alikit.kernels.cpu import conv, passes; print(passes.CHOSEN, passes.adam.__module__)"
    leave = {"ALIKIT_PASSES": "plain"} if without == "leave" else {}
    found = subprocess.run(
        [sys.executable, "-c", hide + ask], env={**os.environ, **leave}, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["plain", "alikit.kernels.cpu.passes.plain"]
