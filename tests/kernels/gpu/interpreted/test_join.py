"""Joining and splitting on the GPU against the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu import join as cpu
from alikit.kernels.gpu.join import join, join_grad
from alikit.kernels.launch import recording

BF16 = ml_dtypes.bfloat16
DROPOUT = Dropout(0.2, Counters(3, 11, 2**32 - 7))
# shape but for the axis, axis, sizes of the parts along it
CASES = {
    "rows of images": ((0, 3, 3, 3), 0, (2, 3)),
    "rows, wide": ((0, 1, 5, 32), 0, (3, 11)),
    "rows of two channels": ((0, 1, 1, 2), 0, (33, 20)),
    "three parts of rows": ((0, 2, 1, 16), 0, (1, 2, 3)),
    "one part": ((0, 1, 1, 5), 0, (4,)),
    "channels": ((5, 1, 1, 0), -1, (32, 48)),
    "channels of odd numbers": ((5, 2, 1, 0), -1, (3, 7)),
    "channels that begin within a block": ((5, 1, 1, 0), -1, (8, 24)),
    "three parts of channels": ((3, 1, 2, 0), -1, (16, 5, 8)),
    "one part of channels": ((3, 1, 2, 0), -1, (5,)),
}
every_case = pytest.mark.parametrize(("rest", "axis", "sizes"), CASES.values(), ids=CASES.keys())


def shape_of(rest: tuple, axis: int, size: int) -> tuple:
    shape = list(rest)
    shape[axis] = size
    return tuple(shape)


@every_case
@pytest.mark.parametrize(
    ("dropout", "dtype"),
    [(None, np.float32), (DROPOUT, np.float32), (DROPOUT, BF16)],
    ids=["as is", "drop", "bfloat16"],
)
def test_join(
    rest: tuple, axis: int, sizes: tuple, dropout: Dropout | None, dtype: Any, put: Callable, stream: Callable
) -> None:
    parts = [stream(f"{i}").standard_normal(shape_of(rest, axis, n)).astype(dtype) for i, n in enumerate(sizes)]
    with recording() as launches:
        y = join([put(part, dtype, activation=True) for part in parts], axis=axis, dropout=dropout)
    assert len(launches) == max(1, len(sizes) - 1)
    assert y.dtype == dtype
    expected = cpu.join([part.astype(np.float32) for part in parts], axis=axis, dropout=dropout)
    np.testing.assert_array_equal(y.get(), expected.astype(dtype))


def test_parts_of_other_types_and_pitches(put: Callable, stream: Callable) -> None:
    a, b = (stream(name).standard_normal((2, 3, 1, 3)).astype(BF16) for name in "ab")
    for axis in (0, -1):
        y = join([put(a, BF16, activation=True), put(b, np.float32)], axis=axis)
        assert y.dtype == BF16
        np.testing.assert_array_equal(y.get(), np.concatenate([a, b], axis=axis))


@every_case
@pytest.mark.parametrize("drops", [False, True], ids=["as is", "drop"])
@pytest.mark.parametrize("only", [None, -1], ids=["all", "the last"])
def test_gradient(
    rest: tuple, axis: int, sizes: tuple, drops: bool, only: int | None, put: Callable, stream: Callable
) -> None:
    """Along the channels two cotangents at once."""
    dropout = DROPOUT if drops else None
    shape = shape_of(rest, axis, sum(sizes))
    count = 2 if axis == -1 else 1
    gy = stream("gy").standard_normal((count * shape[0], *shape[1:])).astype(np.float32)
    needs = [True] * len(sizes) if only is None else [False] * (len(sizes) - 1) + [True]
    with recording() as launches:
        grads = join_grad(put(gy, activation=True), sizes, axis=axis, needs=needs, rows=shape[0], dropout=dropout)
    assert len(launches) == (int(drops) if axis == 0 else -(-sum(needs) // 2))
    expected = cpu.join_grad(gy, sizes, axis=axis, needs=needs, rows=shape[0], dropout=dropout)
    for got, wanted, need in zip(grads, expected, needs, strict=True):
        if need:
            np.testing.assert_array_equal(got.get(), wanted)
        else:
            assert got is None


def test_nothing_is_wanted(put: Callable) -> None:
    with recording() as launches:
        assert join_grad(put(np.ones((4, 3))), (1, 3), axis=0, needs=(False, False)) == (None, None)
        assert join_grad(put(np.ones((4, 3))), (1, 2), axis=-1, needs=(False, False)) == (None, None)
    assert not launches


def test_wrong_arguments_are_named(put: Callable) -> None:
    x = put(np.ones((4, 3)))
    with pytest.raises(ValueError, match="join: axis must be 0"):
        join([x, x], axis=1)
    with pytest.raises(ValueError, match="join: parts of shapes"):
        join([x, x[:, :2]], axis=0)
    with pytest.raises(ValueError, match=r"join_grad: gy \(4, 3\) is not made of parts"):
        join_grad(x, (1, 1), axis=-1, needs=(True, True))
    with pytest.raises(ValueError, match="join_grad: the 4 rows of gy are no multiple of 3"):
        join_grad(x, (1, 2), axis=-1, needs=(True, True), rows=3)
