"""Random words and dropout's factors inside a kernel are the CPU's, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu.activation import keep_mask
from alikit.kernels.cpu.sampling import random_uint16, random_words
from alikit.kernels.gpu.philox import (
    dropout_arguments,
    keep_scale,
    keep_scale_at,
    keep_scale_span,
    philox_words,
)
from alikit.kernels.gpu.table import Table, keep_tile
from alikit.kernels.launch import Int64, jit, launch, tl

COUNTERS = {
    "small": Counters(1, 2, 3),
    "zeros": Counters(0, 0, 0),
    "every bit of the seed": Counters(2**64 - 1, 2**63 - 1, 2**32 - 1),
    "a negative seed": Counters(-12345, 7, 0xDEADBEEF12345678),
}
every_counter = pytest.mark.parametrize("counters", COUNTERS.values(), ids=COUNTERS.keys())


@jit
def words_kernel(clock_ptr, stream, y_ptr, first, N: tl.constexpr):
    w0, w1, w2, w3 = philox_words(clock_ptr, stream, first + tl.arange(0, N))
    y_ptr += 4 * tl.arange(0, N)
    tl.store(y_ptr, w0)
    tl.store(y_ptr + 1, w1)
    tl.store(y_ptr + 2, w2)
    tl.store(y_ptr + 3, w3)


@jit
def factors_kernel(
    clock_ptr, stream, y_ptr, row0, COLUMNS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, WAY: tl.constexpr,
    KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr,
):  # fmt: skip
    """One row of tiles, BM rows from row0 on, each drawn the same way."""
    n0 = tl.program_id(0) * BN
    n = (n0 + tl.arange(0, BN))[None, :]
    row = row0 + tl.arange(0, BM)
    if WAY == "tile":
        factor = keep_scale(clock_ptr, stream, row * COLUMNS + n0, BN, COLUMNS, KEEP_FROM, KEEP_SCALE)
    else:
        factor = keep_scale_at(clock_ptr, stream, row[:, None] * COLUMNS + n, KEEP_FROM, KEEP_SCALE)
    tl.store(y_ptr + tl.arange(0, BM)[:, None] * COLUMNS + n, factor, mask=(n < COLUMNS) & (row[:, None] >= 0))


@jit
def span_kernel(clock_ptr, stream, y_ptr, first, SIZE: tl.constexpr, KEEP_FROM: tl.constexpr, KEEP_SCALE: tl.constexpr):
    factor = keep_scale_span(clock_ptr, stream, first, SIZE, KEEP_FROM, KEEP_SCALE)
    tl.store(y_ptr + tl.arange(0, SIZE), factor)


@jit
def table_kernel(
    clock_ptr, stream, y_ptr, first, row0, T: tl.constexpr, ALIGNED: tl.constexpr, KEEP_FROM: tl.constexpr,
    KEEP_SCALE: tl.constexpr,
):  # fmt: skip
    n0 = tl.program_id(0) * T.BN
    factor = keep_tile(clock_ptr, stream, first, row0, n0, T, ALIGNED, KEEP_FROM, KEEP_SCALE)
    n = (n0 + tl.arange(0, T.BN))[None, :]
    tl.store(y_ptr + tl.arange(0, T.BM)[:, None] * T.columns + n, factor, mask=(n < T.columns) & (factor >= 0))


def factors(dropout: Dropout, first: int, count: int) -> np.ndarray:
    """The factors of elements [first, first + count)."""
    return keep_mask(dropout, first + count)[first:] * np.float32(1 / (1 - dropout.rate))


@every_counter
def test_words(counters: Counters, put: Callable) -> None:
    y = device.empty((8, 4), np.uint64)
    arguments, _ = dropout_arguments(Dropout(0.5, counters))
    launch(words_kernel, 1, {**arguments, "y_ptr": y, "first": 5}, {"N": 8})
    np.testing.assert_array_equal(y.get().reshape(-1), random_words(counters, 20, 32))


def test_words_beyond_32_bits(put: Callable) -> None:
    y, counters, block = device.empty((2, 4), np.uint64), COUNTERS["small"], 2**40 + 2**31
    arguments, _ = dropout_arguments(Dropout(0.5, counters))
    launch(words_kernel, 1, {**arguments, "y_ptr": y, "first": Int64(block)}, {"N": 2})
    np.testing.assert_array_equal(y.get().reshape(-1), random_words(counters, 4 * block, 8))


def test_the_clock_is_read(put: Callable) -> None:
    """Where the counters' step is the clock, seed and step are the clock's."""
    clock = put(np.array([9, 4, 77], np.int64))
    y = device.empty((2, 4), np.uint64)
    arguments, _ = dropout_arguments(Dropout(0.5, Counters(0, clock, 3)))
    launch(words_kernel, 1, {**arguments, "y_ptr": y, "first": 0}, {"N": 2})
    np.testing.assert_array_equal(y.get().reshape(-1), random_words(Counters(9, 4, 3), 0, 8))


@pytest.mark.parametrize(("columns", "width"), [(3, 4), (2, 2), (8, 8), (24, 8), (16, 16), (48, 32), (17, 16), (1, 1)])
@pytest.mark.parametrize("way", ["tile", "one by one"])
def test_a_tile(columns: int, width: int, way: str, put: Callable) -> None:
    dropout, rows, row0 = Dropout(0.2, COUNTERS["small"]), 4, 5
    y = device.empty((rows, columns))
    arguments, constants = dropout_arguments(dropout)
    constants |= {"COLUMNS": columns, "BM": rows, "BN": width, "WAY": way}
    launch(factors_kernel, -(-columns // width), {**arguments, "y_ptr": y, "row0": row0}, constants)
    np.testing.assert_array_equal(y.get().reshape(-1), factors(dropout, row0 * columns, rows * columns))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1 - 2**-17], ids=["none", "fifth", "half", "all but all"])
def test_a_span_at_each_rate(rate: float, put: Callable) -> None:
    dropout, y = Dropout(rate, COUNTERS["small"]), device.empty(64)
    arguments, constants = dropout_arguments(dropout)
    launch(span_kernel, 1, {**arguments, "y_ptr": y, "first": 48}, {**constants, "SIZE": 64})
    np.testing.assert_array_equal(y.get(), factors(dropout, 48, 64))


def test_an_element_at_the_threshold_is_kept(put: Callable) -> None:
    lanes = random_uint16(COUNTERS["small"], 0, 16)
    dropout, y = Dropout(int(lanes[5]) / 65536, COUNTERS["small"]), device.empty(16)
    arguments, constants = dropout_arguments(dropout)
    launch(span_kernel, 1, {**arguments, "y_ptr": y, "first": 0}, {**constants, "SIZE": 16})
    np.testing.assert_array_equal(y.get() > 0, lanes >= lanes[5])


TABLES = {
    "whole pixels": (Table(1, 32, 32, 4, 16), 0),
    "beginning within a block": (Table(1, 32, 32, 4, 16), 5),
    "three channels, padded": (Table(1, 3, 8, 32, 8), 0),
    "three channels": (Table(1, 3, 3, 32, 4), 48),
    "three channels, beginning within a block": (Table(1, 3, 4, 16, 4), 21),
    "one channel": (Table(1, 1, 1, 32, 1), 0),
    "images of padded pixels": (Table(5, 3, 4, 4, 16), 0),
    "images": (Table(5, 3, 3, 4, 8), 0),
    "padded, more than a block": (Table(1, 20, 24, 4, 16), 16),
}


@pytest.mark.parametrize(("table", "first"), TABLES.values(), ids=TABLES.keys())
def test_a_tile_of_a_table(table: Table, first: int, put: Callable) -> None:
    """Every element that exists; pads may hold anything."""
    dropout, row0 = Dropout(0.3, COUNTERS["small"]), 2 * table.BM
    y = device.empty((table.BM, table.pixels, table.pitch))
    arguments, constants = dropout_arguments(dropout)
    constants |= {"T": table, "ALIGNED": first % 16 == 0}
    launch(table_kernel, table.blocks, {**arguments, "y_ptr": y, "first": first, "row0": row0}, constants)
    expected = factors(dropout, first + row0 * table.size, table.BM * table.size)
    np.testing.assert_array_equal(y.get()[..., : table.channels].reshape(-1), expected)


def test_no_dropout_is_said_by_a_constant() -> None:
    arguments, constants = dropout_arguments(None)
    assert (arguments["clock_ptr"], constants["KEEP_FROM"] < 0) == (None, True)


def test_rates_are_rounded_as_on_the_cpu() -> None:
    def found(rate: float) -> Any:
        return dropout_arguments(Dropout(rate, COUNTERS["small"]))[1]["KEEP_FROM"]

    assert [found(0.2), found(0.0), found(1 - 2**-20)] == [13107, 0, 65535]
