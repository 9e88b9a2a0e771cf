"""Programs: their source, what they leave out, when arrays are freed, and what cannot be one."""

import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.cpu import parallel
from alikit.ops import _dispatch
from alikit.ops._dispatch import Activation, Counters, Dropout, NormState, kernel
from alikit.ops.program import Program, trace

W = np.arange(6, dtype=np.float32).reshape(2, 1, 1, 3)
STEEP = Activation("leaky_relu", 0.5)


def layer(x: np.ndarray) -> Any:
    return kernel("conv2d", x)(x, W, activation=STEEP)[0]


@pytest.fixture
def x(stream) -> np.ndarray:
    return stream("x").standard_normal((4, 1, 1, 3)).astype(np.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """fake(name=function, ...): all kernels that there are."""
    return lambda **kernels: monkeypatch.setattr(_dispatch, "_CPU", kernels)


def traced(fn: Callable[[np.ndarray], Any], x: np.ndarray, names: dict[str, np.ndarray] | None = None) -> Program:
    _, program = trace(lambda: fn(x), {"x": x}, names or {})
    assert program is not None
    return program


def test_source(x: np.ndarray) -> None:
    """By names; every result is freed behind its last use, which may be none."""

    def fn(x: np.ndarray) -> Any:
        y = layer(x)
        kernel("scale_rows", x)(y, y[:, :, :, :1])
        return kernel("join", x)([y, layer(x)], axis=-1, dropout=None)

    program = traced(fn, x, {"decoder.0.weight": W})
    assert program.source == (
        "def program(x):\n"
        "    r0_0, r0_1 = conv2d(x, decoder_0_weight, activation=activation)\n"
        "    del r0_1\n"
        "    r1 = scale_rows(r0_0, ndarray((4, 1, 1, 1), float32, r0_0, 0, (8, 8, 8, 4)))\n"
        "    del r1\n"
        "    r2_0, r2_1 = conv2d(x, decoder_0_weight, activation=activation)\n"
        "    del r2_1\n"
        "    r3 = join([r0_0, r2_0], axis=-1, dropout=None)\n"
        "    del r0_0, r2_0\n"
        "    return r3\n"
    )
    assert program.constants["activation"] == STEEP


def test_it_reads_what_is_then_in_its_inputs_and_in_what_stays(x: np.ndarray, stream) -> None:
    weight = W.copy()
    program = traced(lambda x: kernel("conv2d", x)(x, weight)[0], x)
    other = stream("other").standard_normal((4, 1, 1, 3)).astype(np.float32)
    weight *= 2
    np.testing.assert_array_equal(program.run(other), kernel("conv2d", x)(other, 2 * W)[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda y: y[1:3],
        lambda y: y.reshape(2, 2, 1, 2),
        lambda y: y[::-1, :, :, 1:],
        lambda y: y.transpose(3, 1, 2, 0)[1:],
        lambda y: y.view(np.int32),
        lambda y: y[1:2].view(np.int32),
        lambda y: y[2:2],
        lambda y: y.reshape(-1)[3:4].reshape(()),
    ],
)
@pytest.mark.parametrize("of", ["input", "result", "part of a result"])
def test_views(view: Any, of: str, stream) -> None:
    """Of other inputs they show other numbers. The array that they are a view of may be gone."""

    def fn(x: np.ndarray) -> Any:
        if of == "part of a result":
            return view(kernel("join_grad", x)(x, [1, 1], axis=0, needs=[False, True], rows=2)[1].reshape(4, 1, 1, 2))
        return view(x if of == "input" else kernel("scale_rows", x)(x, np.ones((4, 1, 1, 1), np.float32)))

    shape = (2, 2, 1, 4) if of == "part of a result" else (4, 1, 1, 2)
    first, other = (stream(name).random(shape, np.float32) for name in ("first", "other"))
    program = traced(fn, first)
    wanted, found = fn(other), program.run(other)
    np.testing.assert_array_equal(found, wanted)
    assert (found.dtype, found.strides) == (wanted.dtype, wanted.strides) or not found.size


def test_views_of_one_of_several_results_in_one_array(x: np.ndarray, fake: Callable) -> None:
    """Which of them it lies in, not which came first."""
    fake(join=lambda x: tuple(np.concatenate([x, 2 * x, 3 * x]).reshape(3, 4, 3)))
    program = traced(lambda x: kernel("join", x)(x)[1][1:3], x)
    np.testing.assert_array_equal(program.run(x), 2 * x[1:3].reshape(2, 3))


def test_records(x: np.ndarray, fake: Callable) -> None:
    """What a call has returned is handed on whole; others are made anew if a result is in them, else they stay."""
    fake(join=lambda x: (x + 1, (x + 2, x + 3)), join_grad=lambda pair, *_: pair[0] + 4)

    def fn(x: np.ndarray) -> Any:
        y, pair = kernel("join", x)(x)
        mask, steep = Dropout(0.5, Counters(1, 2, 3)), Activation("leaky_relu", 0.5)
        several = pair[::-1], list(pair), pair[:1], (*pair, y), [y], (y,)
        return kernel("join_grad", x)(pair, *several, NormState(x, pair[0]), mask, steep)

    program = traced(fn, x)
    assert (
        "r1 = join_grad(r0_1, (r0_1[1], r0_1[0]), [r0_1[0], r0_1[1]], (r0_1[0],), (r0_1[0], r0_1[1], r0_0), [r0_0], "
        "(r0_0,), NormState(x, r0_1[0], None, None, None, 1.0, None), dropout, activation)\n"
    ) in program.source


def test_what_is_handed_through_keeps_its_name(x: np.ndarray, fake: Callable) -> None:
    """It is freed when its last name is, and known by its first."""
    fake(join=lambda x: (x, x + 1), join_grad=lambda x: x * 2)
    program = traced(lambda x: kernel("join_grad", x)(kernel("join", x)(x)[0]), x)
    assert "    r1 = join_grad(x)\n" in program.source


def test_calls_change_what_they_changed(x: np.ndarray) -> None:
    average = np.zeros(12, np.float32)

    def fn(x: np.ndarray) -> Any:
        kernel("moving_average", x)(x.reshape(-1), out=average, rate=0.5)
        return layer(x)

    _, program = trace(lambda: fn(x), {"x": x}, {"average": average})
    assert "moving_average(x.reshape((12,)), out=average, rate=0.5)" in program.source
    average[:] = 0
    program.run(x)
    np.testing.assert_array_equal(average, x.reshape(-1) / 2)


def test_arrays_die_behind_their_last_use(x: np.ndarray, fake: Callable) -> None:
    """And none is kept by the program."""
    alive: list[Any] = []
    counts: list[int] = []

    def seen(x: np.ndarray) -> np.ndarray:
        counts.append(sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(y := x + 1))
        return y

    fake(join=seen)

    def fn(x: np.ndarray) -> Any:
        for _ in range(5):
            x = kernel("join", x)(x)
        return x

    program = traced(fn, x)
    counts.clear(), alive.clear()
    result = program.run(x)
    assert counts == [0, 1, 1, 1, 1]
    assert [ref() is not None for ref in alive] == [False] * 4 + [True]
    del result
    assert alive[-1]() is None


def counted(x: np.ndarray) -> Any:
    steps.append(len(steps))
    return kernel("scale_rows", x)(x, x[:, :, :, :1]) if len(steps) % 2 else layer(x)


def graded(x: np.ndarray) -> Any:
    steps.append(len(steps))
    return kernel("conv2d", x)(x, W, activation=Activation("leaky_relu", 1 / len(steps)))[0]


steps: list[int] = []


@pytest.mark.parametrize("fn", [lambda x: layer(2 * x), lambda x: kernel("conv2d", x)(x, W.copy())[0], counted, graded])
def test_what_is_computed_between_kernels_shows_in_a_second_pass(fn: Any, x: np.ndarray) -> None:
    programs = [traced(fn, x) for _ in range(2)]
    assert not programs[0].same(programs[1])


def test_passes_that_do_the_same_have_the_same_program(x: np.ndarray) -> None:
    """Though their records are other objects."""
    mask = Dropout(0.25, Counters(1, np.array([1, 0, 0]), 3))

    def fn(x: np.ndarray) -> Any:
        dropout = mask._replace(counters=Counters(*mask.counters))
        return kernel("conv2d", x)(x, W, activation=Activation("leaky_relu", 0.1), dropout=dropout)[0]

    programs = [traced(fn, x + number) for number in range(2)]
    assert programs[0].same(programs[1])


def test_an_array_is_not_taken_for_one_that_lay_there_before(x: np.ndarray) -> None:
    """A result's memory and id are given to the next array of its size."""

    def fn(x: np.ndarray) -> Any:
        ids = set()
        for _ in range(20):
            y = layer(x)
            ids.add(id(y))
            del y
            z = np.ones((4, 1, 1, 3), np.float32)
            if id(z) in ids:
                return layer(z)
        return pytest.skip("no id was used again")

    assert "array" in traced(fn, x).source.splitlines()[-3]


@pytest.mark.parametrize("number", [math.inf, np.float64(0.5), np.float32(0.5), np.int64(3)])
def test_numbers_without_a_source_are_constants(number: Any, x: np.ndarray, fake: Callable) -> None:
    fake(normal=lambda x, number: (x, number))
    program = traced(lambda x: kernel("normal", x)(x, number), x)
    again = program.run(x)[1]
    assert (again, type(again)) == (number, type(number))


@pytest.mark.parametrize("name", ["x", "r0_0", "r1", "conv2d", "class", "ndarray", "program", "0.weight", "a b", ""])
def test_names_meet_no_others(name: str, x: np.ndarray) -> None:
    """A parameter may be called like an input, an earlier or later result, a kernel, or as nothing in Python is."""

    def fn(x: np.ndarray) -> Any:
        y = kernel("conv2d", x)(x, weight)[0]
        return kernel("scale_rows", x)(y[1:], y[1:, :, :, :1])

    weight = W + 1
    np.testing.assert_array_equal(traced(fn, x, {name: weight}).run(x + 1), fn(x + 1))


def test_a_weight_may_be_called_like_what_the_text_uses(x: np.ndarray) -> None:
    def fn(x: np.ndarray) -> Any:
        return kernel("conv2d_backward", x)(x, x[:, :, :, :2].copy(), W, rows=slice(1, None))[0]

    np.testing.assert_array_equal(traced(fn, x, {"slice": W}).run(x), fn(x))


def test_a_constant_beside_an_input_in_its_memory(stream) -> None:
    """Is known by its name, not by its place."""
    rows = stream("rows").random((8, 3), np.float32)
    x, fixed = rows[:4], rows[:2]
    _, program = trace(lambda: kernel("join", x)([x, fixed], axis=0), {"x": x}, {"fixed": fixed})
    np.testing.assert_array_equal(program.run(rows[4:]), np.concatenate([rows[4:], rows[:2]]))


def test_inputs_that_share_memory(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^trace: a and c share memory: wanted inputs that can differ$"):
        trace(lambda: None, {"a": x[:2], "b": W, "c": x[1:]}, {})


def test_nothing_is_left_to_other_threads(stream) -> None:
    """A weight's gradient is there when a program ends, as `settle` would see to behind a walk."""
    x, gy = (stream(name).random((300, 1, 1, 200), np.float32) for name in ("x", "gy"))
    parallel.resize_pool(2)
    try:
        given = {"x": x, "gy": gy}
        _, program = trace(lambda: kernel("conv2d_weight_grad", x)(x, gy, (1, 1), partials=True), given, {})
        parallel.settle()
        for _ in range(5):
            found = program.run(x, gy).reshape(200, 200).copy()
            np.testing.assert_allclose(found, gy[:, 0, 0].T @ x[:, 0, 0], rtol=1e-5)
    finally:
        parallel.resize_pool(1)


def test_a_trace_at_a_time(x: np.ndarray) -> None:
    """What another thread does is no part of it, and there is none within another."""
    inner: list[Any] = []

    def fn() -> Any:
        elsewhere = threading.Thread(target=lambda: inner.append(trace(lambda: layer(x + 1), {"x": x}, {})))
        elsewhere.start(), elsewhere.join()
        inner.append(trace(lambda: layer(x), {"x": x}, {}))
        return layer(x)

    found, program = trace(fn, {"x": x}, {})
    assert [each for _, each in inner] == [None, None]
    np.testing.assert_array_equal(inner[1][0], found)
    assert program.source.count("conv2d") == 2  # here, within another and not


def test_kernels_are_themselves_again(x: np.ndarray) -> None:
    before = kernel("conv2d", x)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            trace(lambda: 1 / 0, {}, {})
    assert kernel("conv2d", x) is before
    assert trace(lambda: layer(x), {"x": x}, {})[1] is not None
