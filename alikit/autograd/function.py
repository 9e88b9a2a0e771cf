"""Function: one node of the graph, forward and backward on arrays.

A subclass is made for one call. `forward` takes arrays and returns an array or a tuple of arrays, saving on `self` only
what `backward` needs. `backward` takes one gradient for each output (None where nobody asked for it) and returns one
for each input, None where `self.needs[i]` is false: a gradient that nobody asks for is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from alikit.autograd.tensor import Tensor

if TYPE_CHECKING:
    from alikit.autograd.backward import Walk

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


class Rows:
    """Some rows of a gradient, of which nobody will read the others.

    data    the rows [start, start + len(data)) of the whole
    """

    __array_ufunc__ = None  # an array on the left leaves the addition to us
    __slots__ = ("data", "start")

    def __init__(self, data: Any, start: int):
        self.data, self.start = data, start

    def __add__(self, other: Any) -> Rows:
        """Another gradient's rows, or a whole one, of which the same rows count."""
        more = other.data if isinstance(other, Rows) else other[self.start : self.start + len(self.data)]
        return Rows(self.data + more, self.start)

    __radd__ = __add__


class Folded(NamedTuple):
    """A gradient that a node's only user has passed back through part of that node, and what it learned on the way.

    What both mean is between the two: a convolution, for example, passes a gradient through the activation of the batch
    norm in front of it while it is in cache, and takes the sums that the norm needs.
    """

    g: Any
    sums: Any


class Function:
    """A node.

    edges   (creator, output index) of each input, None for inputs without gradients
    needs   for each input, whether its gradient is wanted: False, True, or a slice of rows: then `Rows` of that
            slice may be returned
    folds   for each input, what its creator's `fold` returned, or None: then `Folded` may be returned
    """

    edges: tuple = ()
    needs: tuple[bool | slice, ...] = ()
    folds: tuple = ()
    #: whether backward knows what to do with `folds`
    takes_folds = False
    #: whether backward takes several cotangents stacked along the batch (`stack.py`)
    stacks = False
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

    def rows_read(self, walk: Walk) -> bool | slice:
        """Which rows of its output's gradient this node's backward will read: True for all, or a slice.

        A user of the output finds it in its `needs`.
        """
        return True

    def fold(self) -> Any:
        """What the only user of the only output needs in order to do a part of this node's backward; None: nothing."""
        return None

    def release(self) -> None:
        """Forgets edges and saved arrays after the walk has passed for the last time."""
        self.__dict__.clear()
        self.edges = _RELEASED


_RELEASED: Any = ("released",)
