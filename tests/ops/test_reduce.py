"""Sums and means over any axes."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck

AXES = [None, 0, 1, -1, (0,), (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize(("op", "function"), [(ops.sum, np.sum), (ops.mean, np.mean)], ids=["sum", "mean"])
def test_values_and_gradients(op: Callable, function: Callable, axes: object, keepdims: bool, stream: Callable) -> None:
    x = stream("x").standard_normal((3, 5, 2))
    y = op(Tensor(x), axes, keepdims)
    wanted = function(x, axis=axes, keepdims=keepdims)
    assert y.shape == wanted.shape
    np.testing.assert_allclose(y.data, wanted, rtol=1e-14)
    gradcheck(lambda t: op(t, axes, keepdims), [x])


def test_methods_and_dtype() -> None:
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3), requires_grad=True)
    assert (x.sum().item(), x.mean().item()) == (15, 2.5)
    assert x.sum().dtype == x.mean(0).dtype == np.float32
    ((g,),) = grad([x.mean()], [[x]])
    assert g.dtype == np.float32
    np.testing.assert_allclose(g, np.full((2, 3), 1 / 6), rtol=1e-7)


def test_gradients_may_be_written_to() -> None:
    """A broadcast view would be read-only, and several elements one."""
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    x.sum().backward()
    x.grad[0, 0] = 7
    np.testing.assert_array_equal(x.grad, [[7, 1, 1], [1, 1, 1]])
