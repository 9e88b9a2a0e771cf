"""Arrays end to end, with the dropout of whoever reads them, and the way back.

The discriminator sees data and samples stacked along the batch, and its head the channels of both towers side by side:
in both places the next layer drops elements of its input, so that the mask is applied while the numbers are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from .. import device
from ..arrays import Array, Dropout
from ..checks import check_dropout, check_join
from ..launch import Work, launch
from . import activation
from .join_kernels import join_columns_kernel, join_rows_kernel, split_columns_kernel
from .philox import dropout_arguments
from .table import grid_of, rows_of, table_of


def join(parts: Sequence[Array], *, axis: int, dropout: Dropout | None = None) -> Array:
    """Arrays end to end along the batch or along the channels. One launch for two parts, another for each further one.

    parts    arrays of one shape but for the axis
    axis     0 or -1
    dropout  of the result

    Returns one array, of the first part's dtype.
    """
    sizes = check_join("join", [part.shape for part in parts], axis)
    check_dropout("join", dropout)
    if len(parts) > 2:
        parts = [join(parts[:-1], axis=axis), parts[-1]]
        sizes = [sum(sizes[:-1]), sizes[-1]]
    a, b = parts[0], parts[-1]
    shape = list(a.shape)
    shape[axis] = sum(sizes)
    y = device.empty_activation(shape, a.dtype)
    table = table_of(y)
    rows = rows_of(y, table)
    random, constants = dropout_arguments(dropout)
    arguments = {"a_ptr": a, "b_ptr": b, "y_ptr": y, "rows": rows, **random}
    constants |= {"A_PITCH": device.pitch(a), "B_PITCH": device.pitch(b), "T": table}
    work = Work(sum(part.size * part.dtype.itemsize for part in parts), y.size * y.dtype.itemsize, y.size)
    if axis == 0 or len(parts) == 1:
        launch(join_rows_kernel, grid_of(rows, table), {**arguments, "rows_a": rows_of(a, table)}, constants, work=work)
    else:
        launch(join_columns_kernel, grid_of(rows, table), arguments, {**constants, "SIZE_A": sizes[0]}, work=work)
    return y


def join_grad(
    gy: Array,
    sizes: Sequence[int],
    *,
    axis: int,
    needs: Sequence[bool],
    rows: int | None = None,
    dropout: Dropout | None = None,
) -> tuple[Array | None, ...]:
    """The parts of a gradient of `join`. One launch, for up to two parts of channels; none for rows without dropout.

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
    ends = list(pairwise(accumulate(sizes, initial=0)))
    wanted = [i for i, need in enumerate(needs) if need]
    grads: list[Array | None] = [None] * len(ends)
    if axis == 0 and wanted:
        first, last = ends[wanted[0]][0], ends[wanted[-1]][1]
        part = gy[first:last]
        if dropout is not None:
            part = activation.dropout(part, dropout, first=first * gy[0].size)
        for i in wanted:
            grads[i] = part[ends[i][0] - first : ends[i][1] - first]
    elif wanted:
        for pair in (wanted[i : i + 2] for i in range(0, len(wanted), 2)):
            for i, grad in zip(pair, _columns(gy, [ends[i] for i in pair], rows, dropout), strict=True):
                grads[i] = grad
    return tuple(grads)


def _columns(gy: Array, parts: list[tuple[int, int]], rows: int | None, dropout: Dropout | None) -> list[Array]:
    """One or two ranges of gy's channels, with dropout."""
    grads = [device.empty_activation((*gy.shape[:-1], stop - start), gy.dtype) for start, stop in parts]
    tables = [table_of(grad) for grad in grads]
    count = len(gy) // rows if rows else 1
    each = rows_of(grads[0], tables[0]) // count
    random, constants = dropout_arguments(dropout)
    programs = [grid_of(each, table) for table in tables]
    arguments: dict[str, Any] = {"gy_ptr": gy, "ga_ptr": grads[0], "gb_ptr": grads[1] if len(grads) > 1 else None}
    arguments |= {"rows": each, "programs_a": programs[0], **random}
    constants |= {"K": count, "BOTH": len(grads) > 1, "FROM_A": parts[0][0], "FROM_B": parts[-1][0]}
    constants |= {"SIZE": gy.shape[-1], "GY_PITCH": device.pitch(gy), "A": tables[0], "B": tables[-1]}
    size = sum(grad.size for grad in grads)
    work = Work(size * gy.dtype.itemsize, size * gy.dtype.itemsize, size)
    launch(split_columns_kernel, sum(programs), arguments, constants, work=work)
    return grads
