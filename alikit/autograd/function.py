"""Function: one node of the graph, forward and backward on arrays.

A subclass is made for one call. `forward` takes arrays and returns an array or a tuple of arrays, saving on `self` only
what `backward` needs. `backward` takes one gradient for each output (None where nobody asked for it) and returns one
for each input, None where `self.needs[i]` is false: a gradient that nobody asks for is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alikit.autograd.tensor import Tensor

_enabled = True


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is recorded: no graph, no saved arrays."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def is_grad_enabled() -> bool:
    """Whether calls are recorded."""
    return _enabled


class Function:
    """A node.

    edges   (creator, output index) of each input, None for inputs without gradients
    needs   for each input, whether its gradient is wanted: False, True, or a slice of rows (others may stay zero)
    """

    edges: tuple = ()
    needs: tuple[bool | slice, ...] = ()
    #: weights of the batch's rows in the gradients of parameters, set by a walk that serves two losses (`rows.py`)
    row_weights: Any = None
    #: whether backward heeds `row_weights`; needed of Functions that hold parameters in such a walk
    weighs_rows = False
    #: outputs; 1 also where forward returns a bare array
    outputs = 1

    forward: Callable[..., Any]
    backward: Callable[..., Any]

    def __call__(self, *inputs: Tensor) -> Any:
        """Runs forward on the inputs' arrays and records the node where gradients may be asked for."""
        record = _enabled and any(t.creator is not None for t in inputs)
        if record:
            self.needs = tuple([t.creator is not None for t in inputs])
        ys = self.forward(*[t.data for t in inputs])
        if type(ys) is not tuple:
            y = Tensor(ys)
            if record:
                self.edges = tuple([None if t.creator is None else (t.creator, t.index) for t in inputs])
                y.creator = self
            return y
        out = tuple([Tensor(y) for y in ys])
        if record:
            self.outputs = len(ys)
            self.edges = tuple([None if t.creator is None else (t.creator, t.index) for t in inputs])
            for index, y in enumerate(out):
                y.creator, y.index = self, index
        return out

    def rows_read(self, reaches: dict[Any, bool], wanted: set) -> bool | slice:
        """Which rows of its output's gradient this node's backward will read: True for all, or a slice.

        A user of the output finds it in `needs` and may leave other rows of that gradient at zero.
        """
        return True

    def release(self) -> None:
        """Forgets edges and saved arrays after the walk has passed for the last time."""
        self.__dict__.clear()
        self.edges = _RELEASED


_RELEASED: Any = ("released",)
