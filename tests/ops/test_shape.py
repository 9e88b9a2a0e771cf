"""Rearrangements: where each number goes, and that its gradient comes back to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck


@pytest.mark.parametrize("shape", [(30,), (5, 6), (-1, 3), (2, 3, 5), (1, 30, 1)])
def test_reshape(shape: tuple[int, ...], stream: Callable) -> None:
    x = stream("x").standard_normal((2, 3, 5))
    np.testing.assert_array_equal(Tensor(x).reshape(*shape).data, x.reshape(shape))
    gradcheck(lambda t: ops.reshape(t, *shape), [x])


@pytest.mark.parametrize("axes", [(), (0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (-1, 0, 1), (0, -1, -2)], ids=str)
def test_transpose(axes: tuple[int, ...], stream: Callable) -> None:
    """On a cube, where a wrong way back would still have the right shape."""
    x = stream("x").standard_normal((4, 4, 4))
    y = Tensor(x).transpose(*axes)
    np.testing.assert_array_equal(y.data, x.transpose(*axes))
    assert y.data.flags.c_contiguous
    gradcheck(lambda t: ops.transpose(t, *axes), [x])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat(axis: int, stream: Callable) -> None:
    shapes = [[2, 3, 5], [2, 3, 5], [2, 3, 5]]
    for shape, size in zip(shapes, (1, 4, 2), strict=True):
        shape[axis] = size
    xs = [stream(f"x{i}").standard_normal(shape) for i, shape in enumerate(shapes)]
    np.testing.assert_array_equal(ops.concat([Tensor(x) for x in xs], axis).data, np.concatenate(xs, axis))
    gradcheck(lambda *ts: ops.concat(ts, axis), xs)


def test_concat_sends_a_gradient_only_to_those_who_need_it() -> None:
    """The stacked batch [x; x~]: the images are data, the samples are not."""
    images, samples = Tensor(np.ones((2, 3))), Tensor(np.ones((4, 3)), requires_grad=True)
    stacked = ops.concat([images, samples])
    first, second = stacked.creator.backward(np.arange(18.0).reshape(6, 3))
    assert first is None
    np.testing.assert_array_equal(second, np.arange(6.0, 18).reshape(4, 3))
    assert second.flags.c_contiguous


KEYS = {
    "row": 1,
    "last row": -1,
    "rows": slice(1, 3),
    "every other row, backwards": slice(None, None, -2),
    "a number": (2, 1, 0),
    "columns": (slice(None), slice(0, 2)),
    "new axis": (slice(None), None, 1),
    "ellipsis": (..., 0),
    "index array, one row twice": np.array([3, 0, 3]),
    "pairs of indices, one twice": (np.array([0, 2, 0]), np.array([1, 1, 1])),
    "mask": np.arange(24).reshape(4, 3, 2) % 5 == 0,
    "nothing": slice(0, 0),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_getitem(key: Any, stream: Callable) -> None:
    x = stream("x").standard_normal((4, 3, 2))
    y = Tensor(x)[key]
    assert y.shape == x[key].shape
    np.testing.assert_array_equal(y.data, x[key])
    assert y.data.flags.c_contiguous
    gradcheck(lambda t: t[key], [x])


def test_gradients_keep_float32() -> None:
    x = Tensor(np.ones((4, 3), np.float32), requires_grad=True)
    for y in (x[1:3], x.reshape(12), x.transpose(), ops.concat([x, x], axis=1)):
        assert y.dtype == np.float32
        assert grad([y], [[x]])[0][0].dtype == np.float32
