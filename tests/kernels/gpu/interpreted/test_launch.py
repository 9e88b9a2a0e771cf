"""The launcher and the guards themselves, on kernels made for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import Counters, array_module
from alikit.kernels.launch import Int64, Work, jit, launch, recording, tl


@jit
def scaled(x_ptr, bias_ptr, y_ptr, n, factor, BIASED: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32) * factor
    if BIASED:
        x += tl.load(bias_ptr + offs, mask=mask, other=0.0)
    tl.store(y_ptr + offs, x.to(y_ptr.dtype.element_ty), mask=mask)


@jit
def gather(table_ptr, y_ptr, n: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    source = tl.load(table_ptr + 2 * tl.program_id(0)).to(tl.pointer_type(tl.float32))
    add = tl.load(table_ptr + 2 * tl.program_id(0) + 1)
    tl.store(y_ptr + tl.program_id(0) * n + offs, tl.load(source + offs, mask=offs < n, other=0.0) + add, mask=offs < n)


@jit
def last_one_sums(x_ptr, y_ptr, part_ptr, counter_ptr, programs, BLOCK: tl.constexpr, PARTS: tl.constexpr):
    pid = tl.program_id(0)
    tl.store(part_ptr + pid, tl.sum(tl.load(x_ptr + pid * BLOCK + tl.arange(0, BLOCK))))
    if tl.atomic_add(counter_ptr, 1) == programs - 1:
        parts = tl.arange(0, PARTS)
        tl.store(y_ptr, tl.sum(tl.load(part_ptr + parts, mask=parts < programs, other=0.0)))
        tl.store(counter_ptr, 0)


@jit
def far(y_ptr, n):
    """Places of signed and of unsigned numbers."""
    tl.store(y_ptr, tl.program_id(0).to(tl.uint32) + 4294967295)
    tl.store(y_ptr + 1, n * 2147483 + tl.program_id(0))


def call(x: Any, bias: Any, y: Any, n: int, factor: float = 2.0) -> None:
    arguments = {"x_ptr": x, "bias_ptr": bias, "y_ptr": y, "n": n, "factor": factor}
    launch(scaled, -(-n // 8), arguments, {"BIASED": bias is not None, "BLOCK": 8}, work=Work(4 * n, 4 * n, n))


def test_runs_on_host_memory_in_place(put: Callable, stream: Callable) -> None:
    x, bias = (stream(name).standard_normal(19).astype(np.float32) for name in ("x", "bias"))
    y = device.empty(19)
    call(put(x), put(bias), y, 19, 0.3)
    np.testing.assert_array_equal(y.get(), x * np.float32(0.3) + bias)
    call(put(x), None, y, 19, 0.3)
    np.testing.assert_array_equal(y.get(), x * np.float32(0.3))


def test_only_unsigned_numbers_may_overflow() -> None:
    """As a GPU's do, silently."""
    y = device.empty(2, np.uint32)
    launch(far, 2, {"y_ptr": y, "n": 999}, {})
    assert y.get().tolist() == [0, 2147483 * 999 + 1]
    with pytest.raises(Exception, match="int32 overflow"):
        launch(far, 1, {"y_ptr": y, "n": 1001}, {})


def test_bfloat16_arrays_are_read_and_written(put: Callable) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    y = device.empty(5, ml_dtypes.bfloat16)
    call(put(np.arange(5.0), ml_dtypes.bfloat16), None, y, 5)
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(y.get().astype(np.float32), 2 * np.arange(5))


def test_pointer_tables_hold_arrays_numbers_and_nothing(put: Callable) -> None:
    table = device.pointer_table([[put(np.arange(3.0)), 10], [put(np.arange(5.0, 8.0)), np.int64(20)]])
    y = device.empty((2, 3))
    launch(gather, 2, {"table_ptr": table, "y_ptr": y}, {"n": 3, "BLOCK": 4})
    np.testing.assert_array_equal(y.get(), [[10, 11, 12], [25, 26, 27]])
    assert device.to_host(device.pointer_table([[None, 7]])).tolist() == [[0, 7]]


def test_content_of_tables_may_come_later(put: Callable) -> None:
    x = put(np.arange(3.0))
    with device.deferred_uploads() as uploads:
        table = device.pointer_table([[x, 4]])
        clock = device.clock_of(Counters(3, 4, 5))
    uploads.upload()
    assert device.to_host(table).tolist() == [[device.address(x), 4]]
    assert device.to_host(clock).tolist() == [3, 4, 0]


def test_the_last_program_finishes_and_leaves_counters_zero(put: Callable, program_order: str) -> None:
    x, y, parts = put(np.arange(24.0)), device.empty(1), device.empty(3)
    constants = {"BLOCK": 8, "PARTS": 4}
    for _ in range(2):
        arguments = {"x_ptr": x, "y_ptr": y, "part_ptr": parts, "counter_ptr": device.counters(1), "programs": 3}
        launch(last_one_sums, 3, arguments, constants)
        assert y.get() == 276


def test_clock_is_the_counters_step_where_that_is_an_array(put: Callable) -> None:
    clock = put(np.array([1, 2, 3], np.int64))
    assert device.clock_of(Counters(0, clock, 9)) is clock
    assert device.to_host(device.clock_of(Counters(2**64 - 1, 7, 9))).tolist() == [-1, 7, 0]


def test_recording_tells_what_ran(put: Callable) -> None:
    x, y = put(np.arange(9.0)), device.empty(9)
    with recording() as launches:
        call(x, None, y, 8)
        call(x[1:], None, y[1:], Int64(8))
    call(x, None, y, 8)
    first, second = launches
    assert first.name == "scaled"
    assert first.grid == (1, 1, 1)
    assert dict(first.signature) == {
        "x_ptr": "*fp32",
        "bias_ptr": "constexpr",
        "y_ptr": "*fp32",
        "n": "i32",
        "factor": "fp32",
        "BIASED": "constexpr",
        "BLOCK": "constexpr",
    }
    assert (first.unaligned, second.unaligned) == ((), ("x_ptr", "y_ptr"))
    assert dict(second.signature)["n"] == "i64"
    assert first.work == Work(32, 32, 8)


def test_recording_tells_what_ran_beside_our_kernels(put: Callable) -> None:
    x = put(np.arange(6.0), out=True)
    xp = array_module(x)
    with recording() as launches:
        xp.empty(3)
        x.reshape(2, 3)[:, :2]
        xp.ascontiguousarray(x)
    assert launches.foreign == []
    with recording() as launches:
        x + 1
        x[2:] = 3
        x.sum()
        xp.concatenate([x, x])
        xp.zeros(3)
        device.to_host(x)
        float(x[0])
        x.astype(np.float16)
    assert launches.foreign == ["add", "assignment", "add", "concatenate", "zeros", "get", "get", "astype"]
    x + 1
    assert len(launches.foreign) == 8


def test_arrays_bring_their_module(put: Callable) -> None:
    x = put(np.arange(6.0))
    xp = array_module(x)
    made = [xp.empty(3), xp.zeros_like(x), xp.concatenate([x, x]), x.reshape(2, 3)[:, 1:], x + 1, xp.asarray([1, 2])]
    assert {type(a) for a in made} == {device.DeviceArray}
    assert all(array_module(a) is xp for a in made)
    assert type(x.get()) is np.ndarray
    with pytest.raises(TypeError, match="host memory"):
        x + np.arange(6.0)


@pytest.mark.parametrize(("channels", "expected"), [(3, 4), (4, 4), (5, 8), (1, 4)])
def test_pitch_of_an_activation(channels: int, expected: int, put: Callable, stream: Callable) -> None:
    host = stream("x").standard_normal((2, 3, 5, channels)).astype(np.float32)
    x = put(host, activation=True)
    assert device.pitch(x) == expected
    assert device.pitch(x[:1]) == device.pitch(x.reshape(30, channels)) == expected
    np.testing.assert_array_equal(x.get(), host)
    assert device.pitch(put(host)) == channels
    if channels > 1:
        with pytest.raises(ValueError, match="evenly spaced"):
            device.pitch(put(host)[:, :, ::2])


def test_names_must_fit(put: Callable) -> None:
    x = put(np.arange(3.0))
    with pytest.raises(TypeError, match="not its parameters"):
        launch(scaled, 1, {"x_ptr": x}, {"BLOCK": 8})
    with pytest.raises(TypeError, match="host memory"):
        call(np.arange(3.0), None, x, 3)


@jit
def careless(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    tl.store(y_ptr + offs, tl.load(x_ptr + offs, mask=offs < n))


def test_lanes_that_are_off_are_not_zero(put: Callable) -> None:
    y = device.empty(8)
    launch(careless, 1, {"x_ptr": put(np.arange(5.0)), "y_ptr": y, "n": 5}, {"BLOCK": 8})
    assert np.isnan(y.get()[5:]).all()


def test_guards_see_what_is_written_outside_and_pads_that_are_left(put: Callable) -> None:
    with pytest.raises(AssertionError, match="behind an array"), device.guarded():
        launch(careless, 1, {"x_ptr": put(np.arange(8.0)), "y_ptr": device.empty(7), "n": 8}, {"BLOCK": 8})
    with pytest.raises(AssertionError, match="pads"), device.guarded():
        device.empty_activation((2, 3))[...] = 1
    with pytest.raises(AssertionError, match="counters"), device.guarded():
        device.counters(2)[1] = 1
