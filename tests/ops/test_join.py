"""Parts end to end with dropout on the whole: where each number goes, and that gradients come back."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck
from alikit.ops import Counters, Dropout

DROPOUT = Dropout(0.3, Counters(seed=7, step=1, stream=4))


@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("axis", [0, -1])
def test_gradients(axis: int, dropout: Dropout | None, stream: Callable) -> None:
    shapes = [[2, 3, 5], [2, 3, 5], [2, 3, 5]]
    for shape, size in zip(shapes, (1, 4, 2), strict=True):
        shape[axis] = size
    xs = [stream(f"x{i}").standard_normal(shape) for i, shape in enumerate(shapes)]
    whole = Tensor(np.concatenate(xs, axis))
    wanted = whole if dropout is None else ops.dropout(whole, *dropout)
    np.testing.assert_array_equal(ops.join([Tensor(x) for x in xs], axis, dropout).data, wanted.data)
    gradcheck(lambda *ts: ops.join(ts, axis, dropout), xs)


@pytest.mark.parametrize("asked", [(0,), (1,), (0, 2)], ids=str)
@pytest.mark.parametrize("axis", [0, -1])
def test_only_those_who_need_one_get_a_gradient(axis: int, asked: tuple[int, ...], stream: Callable) -> None:
    """The stacked batch [x; x~]: the images are data, the samples are not."""
    leaves = [Tensor(stream(f"x{i}").standard_normal((2, 3)), requires_grad=i in asked) for i in range(3)]
    y = ops.join(leaves, axis, DROPOUT)
    gy = stream("gy").standard_normal(y.shape)
    given = y.creator.backward(gy)
    assert [g is not None for g in given] == [i in asked for i in range(3)]
    (found,) = grad([y], [[leaves[i] for i in asked]], gys=[gy])
    dropped = np.split(ops.dropout(Tensor(gy), *DROPOUT).data, 3, axis)
    for i, g in zip(asked, found, strict=True):
        np.testing.assert_array_equal(g, dropped[i])
        assert g.flags.c_contiguous


def test_float32_stays_float32() -> None:
    x = Tensor(np.ones((4, 3), np.float32), requires_grad=True)
    y = ops.join([x, x], dropout=DROPOUT)
    assert y.dtype == np.float32
    assert grad([y], [[x]])[0][0].dtype == np.float32


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"join: parts of shapes \(4, 3\), \(4, 2\) do not fit along axis 0"):
        ops.join([Tensor(np.ones((4, 3))), Tensor(np.ones((4, 2)))])
