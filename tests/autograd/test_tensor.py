"""Tensor and Function: what is recorded, and what is not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Function, Tensor, is_grad_enabled, no_grad


def test_a_tensor_tells_about_its_array() -> None:
    x = Tensor(np.zeros((3, 5), np.float32))
    assert (x.shape, x.dtype, x.ndim, len(x)) == ((3, 5), np.float32, 2, 3)
    assert repr(x) == "Tensor(shape=(3, 5), dtype=float32)"
    assert repr(Tensor(np.zeros(2), requires_grad=True)) == "Tensor(shape=(2,), dtype=float64, Leaf)"


@pytest.mark.parametrize("data", [[1, 2], (1.0,), 2.5, None])
def test_an_array_is_wanted(data: Any) -> None:
    with pytest.raises(TypeError, match=rf"^Tensor: an array is wanted, not {type(data).__name__}$"):
        Tensor(data)


def test_repr_names_the_function_that_made_it(graph: Callable) -> None:
    y = graph("y", (Tensor(np.zeros(2), requires_grad=True), 1.0))
    assert repr(y) == "Tensor(shape=(2,), dtype=float64, Weighted)"


@pytest.mark.parametrize("array", [np.array(2.5), np.array([[2.5]]), np.float32(2.5)])
def test_item_is_a_plain_number(array: Any) -> None:
    value = Tensor(array).item()
    assert (value, type(value)) == (2.5, float)


def test_item_of_several_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        Tensor(np.zeros(2)).item()


def test_results_require_gradients_if_an_input_does(graph: Callable) -> None:
    x, c = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))
    assert graph("y", (c, 1.0), (x, 1.0)).requires_grad
    assert not graph("y", (c, 1.0), (c, 1.0)).requires_grad


def test_detach_shares_the_array_and_forgets_the_history(graph: Callable) -> None:
    y = graph("y", (Tensor(np.ones(2), requires_grad=True), 1.0))
    detached = y.detach()
    assert detached.data is y.data
    assert not detached.requires_grad


def test_no_grad_records_nothing_and_ends_where_it_began(graph: Callable) -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    with no_grad():
        assert not is_grad_enabled()
        assert not graph("y", (x, 1.0)).requires_grad
        with no_grad():
            pass
        assert not is_grad_enabled()
    assert is_grad_enabled()
    assert graph("y", (x, 1.0)).requires_grad


def test_no_grad_ends_after_an_error() -> None:
    def fail() -> None:
        with no_grad():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert is_grad_enabled()


def test_forward_sees_arrays_and_which_inputs_need_gradients() -> None:
    seen = []

    class Spy(Function):
        def forward(self, x: Any, y: Any) -> Any:
            seen.append((type(x), self.needs))
            return x + y

    x, c = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2))
    Spy()(c, x)
    Spy()(c, c)
    with no_grad():
        Spy()(c, x)
    assert seen == [(np.ndarray, (False, True)), (np.ndarray, ()), (np.ndarray, ())]
