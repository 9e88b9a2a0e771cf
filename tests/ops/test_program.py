"""Programs: their source, what they leave out, when arrays are freed, and what cannot be one."""

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest

from alikit.ops._dispatch import Activation, Counters, Dropout, NormState, kernel, noted
from alikit.ops.program import Program, trace

W = np.arange(6, dtype=np.float32).reshape(2, 1, 1, 3)
STEEP = Activation("leaky_relu", 0.5)


def layer(x: np.ndarray) -> Any:
    return kernel("conv2d", x)(x, W, activation=STEEP)[0]


@pytest.fixture
def x(stream) -> np.ndarray:
    return stream("x").standard_normal((4, 1, 1, 3)).astype(np.float32)


def traced(fn: Any, x: np.ndarray, **names: np.ndarray) -> Program:
    found, program = trace(lambda: fn(x), {"x": x}, names)
    again = program.run(x)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(found))
    return program


def test_source(x: np.ndarray) -> None:
    """By names, results freed behind their last use, what is looked at by others left out."""

    def fn(x: np.ndarray) -> Any:
        y = layer(x)
        kernel("scale_rows", x)(y, y[:, :, :, :1])
        return kernel("join", x)([y, layer(x)], axis=-1, dropout=None)

    program = traced(fn, x, **{"decoder.0.weight": W})
    assert program.source == (
        "def program(x):\n"
        "    r0_0, r0_1 = conv2d(x, decoder_0_weight, activation=activation)\n"
        "    del r0_1\n"
        "    r2_0, r2_1 = conv2d(x, decoder_0_weight, activation=activation)\n"
        "    del r2_1\n"
        "    r3 = join([r0_0, r2_0], axis=-1, dropout=None)\n"
        "    del r0_0, r2_0\n"
        "    return r3\n"
    )
    assert program.constants["activation"] == STEEP


def test_it_reads_what_is_then_in_its_inputs_and_in_what_stays(x: np.ndarray, stream) -> None:
    weight = W.copy()
    _, program = trace(lambda: kernel("conv2d", x)(x, weight)[0], {"x": x}, {})
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
    _, program = trace(lambda: fn(first), {"x": first}, {})
    wanted, found = fn(other), program.run(other)
    np.testing.assert_array_equal(found, wanted)
    assert (found.dtype, found.strides) == (wanted.dtype, wanted.strides) or not found.size


def test_views_of_one_of_several_results_in_one_array(x: np.ndarray) -> None:
    """Which of them it lies in, not which came first."""

    def fake(name: str, _: Any) -> Any:
        return lambda x: tuple(np.concatenate([x, 2 * x, 3 * x]).reshape(3, 4, 3))

    with noted(fake):
        _, program = trace(lambda: kernel("join", x)(x)[1][1:3], {"x": x}, {})
        np.testing.assert_array_equal(program.run(x), 2 * x[1:3].reshape(2, 3))


def test_records(x: np.ndarray) -> None:
    """What a call has returned is handed on whole; others are made anew if a result is in them, else they stay."""

    def fake(name: str, _: Any) -> Any:
        return lambda x, *records: (x + 1, (x + 2, x + 3)) if name == "join" else x[0] + 4

    def fn(x: np.ndarray) -> Any:
        y, pair = kernel("join", x)(x)
        mask, steep = Dropout(0.5, Counters(1, 2, 3)), Activation("leaky_relu", 0.5)
        return kernel("join_grad", x)(pair, pair[::-1], [y], (y,), NormState(x, pair[0]), mask, steep)

    with noted(fake):
        _, program = trace(lambda: fn(x), {"x": x}, {})
    assert (
        "r1 = join_grad(r0_1, (r0_1[1], r0_1[0]), [r0_0], (r0_0,), "
        "NormState(x, r0_1[0], None, None, None, 1.0, None), dropout, activation)\n"
    ) in program.source


def test_calls_that_change_something_stay(x: np.ndarray) -> None:
    average = np.zeros(12, np.float32)

    def fn(x: np.ndarray) -> Any:
        kernel("moving_average", x)(x.reshape(-1), out=average, rate=0.5)
        return layer(x)

    _, program = trace(lambda: fn(x), {"x": x}, {"average": average})
    assert "moving_average(x.reshape((12,)), out=average, rate=0.5)" in program.source
    average[:] = 0
    program.run(x)
    np.testing.assert_array_equal(average, x.reshape(-1) / 2)


def test_arrays_die_behind_their_last_use(x: np.ndarray) -> None:
    """And none is kept by the program."""
    alive: list[Any] = []

    def seen(name: str, fn: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            count = sum(ref() is not None for ref in alive)
            y = fn(*args, **options)
            alive.append(weakref.ref(y[0]))
            counts.append(count)
            return y

        return call

    counts: list[int] = []
    square = np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3)

    def fn(x: np.ndarray) -> Any:
        for _ in range(5):
            x = kernel("conv2d", x)(x, square)[0]
        return x

    with noted(seen):
        _, program = trace(lambda: fn(x), {"x": x}, {})
    counts.clear(), alive.clear()
    result = program.run(x)
    assert counts == [0, 1, 1, 1, 1]
    del result
    gc.collect()
    assert not any(ref() is not None for ref in alive)


def doubled(x: np.ndarray) -> Any:
    return layer(2 * x)


def counted(x: np.ndarray) -> Any:
    steps.append(len(steps))
    return kernel("scale_rows", x)(x, x[:, :, :, :1]) if len(steps) % 2 else layer(x)


def graded(x: np.ndarray) -> Any:
    steps.append(len(steps))
    return kernel("conv2d", x)(x, W, activation=Activation("leaky_relu", 1 / len(steps)))[0]


def made(x: np.ndarray) -> Any:
    return kernel("conv2d", x)(x, W.copy())[0]


steps: list[int] = []


@pytest.mark.parametrize("fn", [doubled, counted, graded, made])
def test_what_is_computed_between_kernels_shows_in_a_second_pass(fn: Any, x: np.ndarray) -> None:
    programs = [trace(lambda: fn(x), {"x": x}, {})[1] for _ in range(2)]
    assert not programs[0].same(programs[1])


def test_passes_that_do_the_same_have_the_same_program(x: np.ndarray) -> None:
    """Though their records are other objects."""
    mask = Dropout(0.25, Counters(1, np.array([1, 0, 0]), 3))

    def fn(x: np.ndarray) -> Any:
        dropout = mask._replace(counters=Counters(*mask.counters))
        return kernel("conv2d", x)(x, W, activation=Activation("leaky_relu", 0.1), dropout=dropout)[0]

    programs = []
    for number in range(2):
        given = x + number
        programs.append(trace(lambda given=given: fn(given), {"x": given}, {})[1])
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

    _, program = trace(lambda: fn(x), {"x": x}, {})
    assert "array" in program.source.splitlines()[-3]


@pytest.mark.parametrize("number", [math.inf, np.float64(0.5), np.float32(0.5), np.int64(3)])
def test_numbers_without_a_source_are_constants(number: Any, x: np.ndarray) -> None:
    with noted(lambda name, fn: lambda x, number: (x, number)):
        _, program = trace(lambda: kernel("normal", x)(x, number), {"x": x}, {})
        again = program.run(x)[1]
    assert again == number
    assert type(again) is type(number)


def test_names_meet_no_others(x: np.ndarray) -> None:
    """A parameter called like an input, a result or a kernel gets a number."""
    names = {"x": W, "r0": W + 1, "conv2d": W + 2}
    for weight in names.values():
        _, program = trace(lambda weight=weight: kernel("conv2d", x)(x, weight)[0], {"x": x}, names)
        np.testing.assert_array_equal(program.run(x), kernel("conv2d", x)(x, weight)[0])


def test_kernels_are_themselves_again(x: np.ndarray) -> None:
    before = kernel("conv2d", x)
    with pytest.raises(ZeroDivisionError):
        trace(lambda: 1 / 0, {}, {})
    assert kernel("conv2d", x) is before
