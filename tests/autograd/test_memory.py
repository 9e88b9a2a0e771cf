"""The graph's memory is behaviour: an array lives while somebody holds it or backward needs it, and no longer.

The garbage collector is off throughout, so that a reference cycle shows as an array that does not die.
"""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Function, Tensor, grad, no_grad


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Alive:
    """Counts the arrays it was shown that still live."""

    def __init__(self) -> None:
        self.references: list[weakref.ref] = []

    def watch(self, array: np.ndarray) -> np.ndarray:
        self.references.append(weakref.ref(array))
        return array

    def count(self) -> int:
        return sum(reference() is not None for reference in self.references)


@pytest.fixture
def alive() -> Alive:
    return Alive()


class Double(Function):
    """y = 2 x; saves nothing. Shows its outputs and its gradients to the watcher."""

    def __init__(self, alive: Alive):
        self.alive = alive

    def forward(self, x: Any) -> Any:
        return self.alive.watch(2 * x)

    def backward(self, gy: Any) -> Any:
        self.most = self.alive.count()
        return self.alive.watch(2 * gy)


class Square(Double):
    """y = x^2; saves x."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return self.alive.watch(x * x)

    def backward(self, gy: Any) -> Any:
        return self.alive.watch(2 * self.x * gy)


def chain(kind: type[Double], length: int, alive: Alive) -> tuple[Tensor, Tensor]:
    x = y = Tensor(np.ones(3), requires_grad=True)
    for _ in range(length):
        y = kind(alive)(y)
    return x, y


def test_what_nobody_saved_dies_right_after_forward(alive: Alive) -> None:
    _, y = chain(Double, 20, alive)
    assert alive.count() == 1  # y itself
    assert y.requires_grad


def test_what_backward_needs_lives_until_then(alive: Alive) -> None:
    x, y = chain(Square, 20, alive)
    assert alive.count() == 20
    grad([y], [[x]], retain=True)
    assert alive.count() == 20
    grad([y], [[x]])
    assert alive.count() == 1


def test_saved_arrays_are_freed_and_gradients_dropped_during_the_walk() -> None:
    """At the k-th backward from the end all later saved arrays are gone, and of the gradients only one is left."""
    outputs, gradients, counts = Alive(), Alive(), []

    class Watched(Square):
        def backward(self, gy: Any) -> Any:
            counts.append((outputs.count(), gradients.count()))
            return gradients.watch(2 * self.x * gy)

    x, y = chain(Watched, 10, outputs)
    grad([y], [[x]])
    # the loss's array is held by y; the input of node k is the output of node k - 1, and that of the first is x
    assert [saved for saved, _ in counts] == list(range(10, 0, -1))
    assert [held for _, held in counts] == [0] + [1] * 9


def test_with_two_losses_the_first_keeps_what_the_second_needs(alive: Alive) -> None:
    x, y = chain(Square, 5, alive)
    first, second = Double(alive)(y), Double(alive)(y)
    del y
    grad([first, second], [[x], [x]])
    assert alive.count() == 2  # first and second themselves


def test_no_grad_saves_nothing(alive: Alive) -> None:
    with no_grad():
        _, y = chain(Square, 20, alive)
    assert alive.count() == 1
    assert not y.requires_grad


def test_a_graph_that_is_dropped_dies_without_a_walk(alive: Alive) -> None:
    x, y = chain(Square, 20, alive)
    node = weakref.ref(y.creator)
    del y
    assert alive.count() == 0
    assert node() is None
    assert x.requires_grad


def test_a_leaf_does_not_keep_itself_alive(alive: Alive) -> None:
    leaf = Tensor(alive.watch(np.ones(3)), requires_grad=True)
    y = Double(Alive())(leaf)
    del leaf
    assert alive.count() == 0  # a Function that saved nothing does not hold it either
    y.backward()  # nobody is left to receive a gradient


def test_gradients_live_only_as_long_as_the_caller_keeps_them(alive: Alive) -> None:
    x, y = chain(Double, 5, alive)
    result = grad([y], [[x]])
    del y
    assert alive.count() == 1
    del result
    assert alive.count() == 0


def test_the_leaves_outlive_the_walk_untouched() -> None:
    x, y = chain(Square, 3, Alive())
    y.backward()
    np.testing.assert_array_equal(x.grad, [8, 8, 8])
    np.testing.assert_array_equal(x.data, [1, 1, 1])
    assert Double(Alive())(x).requires_grad
