"""Arrays end to end, with the dropout of whoever reads them, and the way back.

The discriminator sees data and samples stacked along the batch, and its head the channels of both towers side by side:
in both places the next layer drops elements of its input, so that the mask is applied while the numbers are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..arrays import Dropout
from ..checks import check_dropout, check_join
from . import passes
from .masks import cotangents, keep_mask
from .parallel import split


def join(parts: Sequence[np.ndarray], *, axis: int, dropout: Dropout | None = None) -> np.ndarray:
    """Arrays end to end along the batch or along the channels.

    parts    arrays of one shape but for the axis
    axis     0 or -1
    dropout  of the result

    Returns one array, of the first part's dtype.
    """
    sizes = check_join("join", [part.shape for part in parts], axis)
    check_dropout("join", dropout)
    shape = list(parts[0].shape)
    shape[axis] = sum(sizes)
    y = np.empty(shape, parts[0].dtype)
    np.concatenate(parts, axis=axis, out=y)
    if dropout is not None:
        _drop_rows(y, len(y), dropout)
    return y


def join_grad(
    gy: np.ndarray,
    sizes: Sequence[int],
    *,
    axis: int,
    needs: Sequence[bool],
    rows: int | None = None,
    dropout: Dropout | None = None,
) -> tuple[np.ndarray | None, ...]:
    """The parts of a gradient of `join`.

    gy     gradient of the result; along the channels it may hold K cotangents
    sizes  of the parts along the axis
    needs  for each part, whether it is wanted
    rows   of the result of the forward pass; needed where gy holds several cotangents and there is dropout

    Returns for each part its gradient or None.
    """
    if sum(sizes) != gy.shape[axis] or len(needs) != len(sizes):
        raise ValueError(f"join_grad: gy {gy.shape} is not made of parts of {tuple(sizes)} along axis {axis}")
    check_dropout("join_grad", dropout)
    if len(gy) % (rows or 1):
        raise ValueError(f"join_grad: the {len(gy)} rows of gy are no multiple of {rows}")
    if dropout is not None:
        gy = gy.copy()
        _drop_rows(gy, rows or len(gy), dropout)
    ends = np.cumsum([0, *sizes])
    pieces = [(slice(a, b) if axis == 0 else (..., slice(a, b))) for a, b in pairwise(ends)]
    return tuple(np.ascontiguousarray(gy[p]) if need else None for p, need in zip(pieces, needs, strict=True))


def _drop_rows(y: np.ndarray, rows: int, dropout: Dropout) -> None:
    """Dropout in place, with the mask of an array of `rows` rows, again and again where y has more."""
    keep = keep_mask(dropout, rows * y[0].size).reshape(rows, *y.shape[1:])

    def share(start: int, stop: int, _part: int) -> None:
        for k, a, b in cotangents(start, stop, rows):
            passes.drop(y[k * rows + a : k * rows + b].reshape(-1), keep[a:b].reshape(-1), dropout.rate)

    split(share, len(y), work=10 * y.size)
