"""Arrays end to end, along the batch or the channels, with the dropout of whoever reads them next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from alikit.autograd import Function, Rows, Tensor, Walk
from alikit.ops._dispatch import Dropout, kernel


class Join(Function):
    """Inputs: the parts."""

    stacks = True

    def __init__(self, axis: int, dropout: Dropout | None):
        self.axis, self.dropout = axis, dropout

    def forward(self, *xs: Any) -> Any:
        self.sizes = [x.shape[self.axis] for x in xs]
        y = kernel("join", xs[0])(xs, axis=self.axis, dropout=self.dropout)
        self.rows = len(y)
        return y

    def rows_read(self, walk: Walk) -> bool | slice:
        """Of arrays stacked along the batch, only those whose gradients lead somewhere; of several cotangents the last.

        Parameters behind such a stack would want the first cotangent too, whose rows lie elsewhere.
        """
        if self.axis != 0:
            return True
        used = [i for i, edge in enumerate(self.edges) if walk.leads(edge)]
        if walk.cotangents > 1 and any(self.edges[i] not in walk.wanted for i in used):
            raise ValueError("stack_grad: behind a stack along the batch nothing but its parts can be wanted")
        if walk.cotangents == 1 and len(used) == len(self.edges):
            return True
        ends = [0, *accumulate(self.sizes)]
        first = (walk.cotangents - 1) * self.rows
        return slice(first + ends[used[0]], first + ends[used[-1] + 1])

    def backward(self, gy: Any) -> Any:
        if self.axis == 0:
            return self._stacked_backward(gy)
        needs = [bool(need) for need in self.needs]
        return kernel("join_grad", gy)(
            gy, self.sizes, axis=self.axis, needs=needs, rows=self.rows, dropout=self.dropout
        )

    def _stacked_backward(self, gy: Any) -> Any:
        """Each part's rows; of several cotangents the last one's."""
        g, start = (gy.data, gy.start % self.rows) if isinstance(gy, Rows) else (gy[len(gy) - self.rows :], 0)
        if self.dropout is not None:
            g = kernel("dropout", g)(g, self.dropout, first=start * g[0].size)
        ends = [0, *accumulate(self.sizes)]
        pieces = [slice(a - start, b - start) for a, b in pairwise(ends)]
        return tuple([g[piece] if need else None for piece, need in zip(pieces, self.needs, strict=True)])


def join(xs: Sequence[Tensor], axis: int = 0, dropout: Dropout | None = None) -> Tensor:
    """Tensors of equal shape, but for the axis, end to end.

    axis      0, the batch, or -1, the channels
    dropout   of the result
    """
    return Join(axis, dropout)(*xs)
