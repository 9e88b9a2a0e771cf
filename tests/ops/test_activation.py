"""Nonlinearities and dropout as differentiable functions; their numbers are tested in tests/kernels."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import KinkError, Tensor, grad, gradcheck
from alikit.ops import Counters

COUNTERS = Counters(seed=1, step=2, stream=3)
OPS = {
    "leaky ReLU": lambda x: ops.leaky_relu(x, 0.2),
    "ReLU": lambda x: ops.leaky_relu(x, 0.0),
    "slope 1": lambda x: ops.leaky_relu(x, 1.0),
    "sigmoid": ops.sigmoid,
    "maxout of 2": lambda x: ops.maxout(x, 2),
    "maxout of 3": lambda x: ops.maxout(x, 3),
    "dropout": lambda x: ops.dropout(x, 0.3, COUNTERS),
}


@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (5, 6), (1, 6)])
@pytest.mark.parametrize("op", OPS.values(), ids=OPS.keys())
def test_gradients(op: Callable, shape: tuple, stream: Callable) -> None:
    gradcheck(op, [stream("x").standard_normal(shape)])


def test_meanings() -> None:
    x = Tensor(np.array([[-2.0, 0.0, 3.0, 1.0]]))
    np.testing.assert_array_equal(ops.leaky_relu(x, 0.5).data, [[-1, 0, 3, 1]])
    np.testing.assert_allclose(ops.sigmoid(x).data, 1 / (1 + np.exp(-x.data)), rtol=1e-15)
    np.testing.assert_array_equal(ops.maxout(x, 2).data, [[0, 3]])
    dropped = ops.dropout(Tensor(np.ones((100, 100))), 0.25, COUNTERS).data
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3])


def test_at_the_kink_the_check_objects_and_the_gradient_is_the_slope() -> None:
    x = np.array([[1.0, 0.0, -1.0]])
    with pytest.raises(KinkError):
        gradcheck(OPS["leaky ReLU"], [x])
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(grad([ops.leaky_relu(t, 0.2)], [[t]])[0][0], [[1, 0.2, 0.2]])


def test_at_a_tie_the_check_objects_and_the_first_piece_has_the_gradient() -> None:
    x = np.array([[1.0, 1.0, 3.0, 2.0]])
    with pytest.raises(KinkError):
        gradcheck(OPS["maxout of 2"], [x])
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(grad([ops.maxout(t, 2)], [[t]])[0][0], [[1, 0, 1, 0]])


@pytest.mark.parametrize("op", OPS.values(), ids=OPS.keys())
def test_float32_stays_float32(op: Callable) -> None:
    x = Tensor(np.ones((2, 6), np.float32), requires_grad=True)
    y = op(x)
    assert y.dtype == np.float32
    assert grad([y], [[x]])[0][0].dtype == np.float32
