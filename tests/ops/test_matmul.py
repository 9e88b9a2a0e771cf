"""Matrix product."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, gradcheck


@pytest.mark.parametrize(("m", "k", "n"), [(3, 5, 7), (1, 1, 1), (4, 1, 3), (1, 6, 1)])
def test_values_and_gradients(m: int, k: int, n: int, stream: Callable) -> None:
    a, b = stream("a").standard_normal((m, k)), stream("b").standard_normal((k, n))
    np.testing.assert_array_equal((Tensor(a) @ Tensor(b)).data, a @ b)
    gradcheck(ops.matmul, [a, b])


def test_meaning() -> None:
    y = Tensor(np.array([[1.0, 2.0]])) @ Tensor(np.array([[3.0, 5.0], [7.0, 11.0]]))
    np.testing.assert_array_equal(y.data, [[17, 27]])


def test_an_operand_is_saved_only_for_the_other() -> None:
    a, b = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 2)), requires_grad=True)
    node = ops.matmul(a, b).creator
    assert node.a is a.data
    assert node.b is None
    assert node.backward(np.ones((2, 2)))[0] is None


@pytest.mark.parametrize(("a", "b"), [((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 2, 3), (3, 2))])
def test_wrong_shapes_are_named(a: tuple, b: tuple) -> None:
    with pytest.raises(ValueError, match=r"matmul: wanted \(M, K\) @ \(K, N\), found \(.*\) @ \(.*\)"):
        ops.matmul(Tensor(np.ones(a)), Tensor(np.ones(b)))
