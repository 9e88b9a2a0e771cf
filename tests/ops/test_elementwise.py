"""Arithmetic: gradients, broadcasting either way, constants on either side, dtypes, operators."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck

SHAPES = {
    "equal": ((3, 5), (3, 5)),
    "a missing axis": ((3, 5), (5,)),
    "a missing axis on the left": ((5,), (3, 5)),
    "an axis of one": ((3, 5), (3, 1)),
    "both repeated": ((3, 1, 5), (7, 1)),
    "a number": ((3, 5), ()),
    "size one all along": ((1, 1), (1,)),
}
BINARY = {"add": ops.add, "sub": ops.sub, "mul": ops.mul, "div": ops.div}
SIGNS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}

every_shape = pytest.mark.parametrize(("left", "right"), SHAPES.values(), ids=SHAPES.keys())
every_operation = pytest.mark.parametrize("name", BINARY)


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[[str, tuple[int, ...]], np.ndarray]:
    """Numbers of both signs, away from 0, so that they can be divided by."""

    def away_from_zero(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(stream(name).uniform(0.5, 2, shape) * stream(name + " sign").choice([-1.0, 1.0], shape))

    return away_from_zero


@every_shape
@every_operation
def test_values_and_gradients_of_two_tensors(name: str, left: tuple, right: tuple, draw: Callable) -> None:
    x, y = draw("x", left), draw("y", right)
    np.testing.assert_array_equal(BINARY[name](Tensor(x), Tensor(y)).data, SIGNS[name](x, y))
    gradcheck(BINARY[name], [x, y])


@every_shape
@every_operation
def test_values_and_gradients_with_a_constant_array(name: str, left: tuple, right: tuple, draw: Callable) -> None:
    x, c = draw("x", left), draw("c", right)
    np.testing.assert_allclose(BINARY[name](Tensor(x), c).data, SIGNS[name](x, c), rtol=1e-15)
    np.testing.assert_allclose(BINARY[name](c, Tensor(x)).data, SIGNS[name](c, x), rtol=1e-15)
    gradcheck(lambda t: BINARY[name](t, c), [x])
    gradcheck(lambda t: BINARY[name](c, t), [x])


@every_operation
def test_operators_with_tensors_numbers_and_arrays_on_either_side(name: str, draw: Callable) -> None:
    x, y = draw("x", (3, 5)), draw("y", (3, 5))
    sign = SIGNS[name]
    for left, right in [(Tensor(x), Tensor(y)), (Tensor(x), y), (x, Tensor(y)), (Tensor(x), 4.0), (4, Tensor(y))]:
        wanted = sign(*(t.data if isinstance(t, Tensor) else t for t in (left, right)))
        found = sign(left, right)
        assert isinstance(found, Tensor)
        np.testing.assert_allclose(found.data, wanted, rtol=1e-15)


@pytest.mark.parametrize("constant", [2, 2.0, np.float32(2), np.ones(3, np.float32)], ids=lambda c: type(c).__name__)
@every_operation
def test_float32_stays_float32(name: str, constant: Any) -> None:
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    for y in (BINARY[name](x, constant), BINARY[name](constant, x), BINARY[name](x, Tensor(np.ones(3, np.float32)))):
        assert y.dtype == np.float32
        assert grad([y], [[x]])[0][0].dtype == np.float32


@every_operation
def test_bytes_are_numbers_between_0_and_255(name: str) -> None:
    """An image as it lies in a data set: unsigned, so that its own negative would wrap around."""
    x, image = np.array([0.5, 2.0, 3.0], np.float32), np.array([1, 2, 200], np.uint8)
    np.testing.assert_allclose(BINARY[name](Tensor(x), image).data, SIGNS[name](x, image), rtol=1e-6)
    np.testing.assert_allclose(BINARY[name](image, Tensor(x)).data, SIGNS[name](image, x), rtol=1e-6)


UNARY = {
    "neg": (ops.neg, np.negative),
    "exp": (ops.exp, np.exp),
    "log": (ops.log, np.log),
    "square": (lambda x: ops.power(x, 2), np.square),
    "cube": (lambda x: ops.power(x, 3), lambda x: x**3),
    "root": (lambda x: ops.power(x, 0.5), np.sqrt),
    "reciprocal": (lambda x: ops.power(x, -1.0), lambda x: 1 / x),
    "first power": (lambda x: ops.power(x, 1), lambda x: x),
}


@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 2)])
@pytest.mark.parametrize(("op", "function"), UNARY.values(), ids=UNARY.keys())
def test_functions_of_one_tensor(op: Callable, function: Callable, shape: tuple, stream: Callable) -> None:
    x = np.asarray(stream("x").uniform(0.5, 2, shape))
    np.testing.assert_allclose(op(Tensor(x)).data, function(x), rtol=1e-15)
    gradcheck(op, [x])
    assert op(Tensor(x.astype(np.float32))).dtype == np.float32


def test_operators_of_one_tensor() -> None:
    x = Tensor(np.array([2.0, -3.0]))
    np.testing.assert_array_equal((-x).data, [-2, 3])
    np.testing.assert_array_equal((x**2).data, [4, 9])


def test_powers_at_zero() -> None:
    x = Tensor(np.zeros(1), requires_grad=True)
    assert grad([x**2], [[x]])[0][0] == 0
    assert grad([x**1], [[x]])[0][0] == 1


@every_operation
def test_only_the_gradients_asked_for_are_computed(name: str) -> None:
    x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    node = BINARY[name](x, y).creator
    for needs in ((True, False), (False, True)):
        node.needs = needs
        assert tuple(g is not None for g in node.backward(np.ones(3))) == needs


def test_a_product_saves_an_operand_only_for_the_other() -> None:
    x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3))
    node = (x * y).creator
    assert node.x is None
    assert node.y is y.data


def test_the_zeroth_power_is_constant_also_at_zero() -> None:
    x = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    ops.sum(ops.power(x, 0)).backward()
    np.testing.assert_array_equal(x.grad, [0, 0])
