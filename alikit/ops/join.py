"""Arrays end to end, along the batch or the channels, with the dropout of whoever reads them next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alikit.autograd import Function, Tensor
from alikit.ops._dispatch import Dropout, kernel


class Join(Function):
    """Inputs: the parts."""

    def __init__(self, axis: int, dropout: Dropout | None):
        self.axis, self.dropout = axis, dropout

    def forward(self, *xs: Any) -> Any:
        self.sizes = [x.shape[self.axis] for x in xs]
        return kernel("join", xs[0])(xs, axis=self.axis, dropout=self.dropout)

    def rows_read(self, reaches: dict[Any, bool], wanted: set) -> bool | slice:
        """Of arrays stacked along the batch, only those whose gradients lead somewhere."""
        if self.axis != 0:
            return True
        used = [i for i, e in enumerate(self.edges) if e is not None and (e in wanted or reaches[e[0]])]
        if len(used) == len(self.edges):
            return True
        return slice(sum(self.sizes[: used[0]]), sum(self.sizes[: used[-1] + 1]))

    def backward(self, gy: Any) -> Any:
        needs = [bool(need) for need in self.needs]
        return kernel("join_grad", gy)(gy, self.sizes, axis=self.axis, needs=needs, dropout=self.dropout)


def join(xs: Sequence[Tensor], axis: int = 0, dropout: Dropout | None = None) -> Tensor:
    """Tensors of equal shape, but for the axis, end to end.

    axis      0, the batch, or -1, the channels
    dropout   of the result
    """
    return Join(axis, dropout)(*xs)
