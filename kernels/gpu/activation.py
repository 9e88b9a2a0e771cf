"""Bias, nonlinearity and dropout, forward and backward, where no convolution takes them along.

    leaky ReLU   a if a > 0 else slope * a;  derivative 1 if a > 0 else slope (method 2.1)
    sigmoid      1 / (1 + exp(-a));  derivative t (1 - t)
    maxout       maximum over `pieces` adjacent channels (method 2.3); the first wins a tie
    dropout      y * keep / (1 - rate), keep ~ Bernoulli(1 - rate): 16 random bits an element

A derivative is taken from the output or the winner's number. The bias gradient is summed while gx is written: each
program sums a share of the rows, the last to finish adds the shares in their order. An untied bias is a tied one of a
table whose rows are whole images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import device
from ..arrays import Activation, Array, Dropout
from ..checks import check_activation, check_bias, check_dropout, stacked
from ..launch import Int64, Work, launch
from .activation_kernels import activation_grad_kernel, activation_kernel, dropout_kernel, scale_rows_kernel
from .philox import dropout_arguments
from .table import Table, ceil_div, grid_of, merged_at_once, power_of_two, rows_of, shares_of, table_of


def apply_activation(
    x: Array, bias: Array | None, activation: Activation, *, dropout: Dropout | None = None
) -> tuple[Array, Array | None]:
    """y = activation(x + bias), then dropout: the epilogue of the convolutions on its own. One launch.

    x      (N, H, W, C);  bias (C,), (H, W, C) or None, float32

    Returns y: (N, H, W, C / pieces), and for maxout the winners (uint8, shape of y), else None.
    """
    check_activation("apply_activation", activation, x.shape[-1])
    check_bias("apply_activation", None if bias is None else bias.shape, x.shape)
    check_dropout("apply_activation", dropout)
    y = device.empty_activation((*x.shape[:-1], x.shape[-1] // activation.pieces), x.dtype)
    winner = device.empty(y.shape, np.uint8) if activation.name == "maxout" else None
    table = table_of(y, images=bias is not None and bias.ndim > 1)
    random, constants = dropout_arguments(dropout)
    arguments = {"x_ptr": x, "bias_ptr": bias, "y_ptr": y, "winner_ptr": winner}
    arguments |= {"rows": rows_of(y, table), "slope": float(activation.value), **random}
    constants |= {"ACTIVATION": activation.name, "PIECES": activation.pieces, "BIASED": bias is not None}
    constants |= {"X_PITCH": device.pitch(x), "T": table}
    work = Work(_bytes(x), _bytes(y, winner), 3 * x.size)
    launch(activation_kernel, grid_of(rows_of(y, table), table), arguments, constants, work=work)
    return y, winner


def bias_activation_grad(
    gy: Array,
    y: Array,
    activation: Activation,
    *,
    winner: Array | None = None,
    bias_shape: tuple[int, ...] | None = None,
    dropout: Dropout | None = None,
    deferred: bool = False,
) -> tuple[Array, Array | None]:
    """Gradient of y = dropout(activation(x + bias)). One launch.

    gy           (K * N, H, W, C / pieces), of K cotangents
    y            (N, H, W, C / pieces);  winner: what `apply_activation` returned beside y
    bias_shape   (C,), (H, W, C), or None where no bias gradient is asked for
    deferred     gx may be left to its readers; here it never is

    Returns gx: (K * N, H, W, C), of y's dtype, and of the first cotangent gbias of `bias_shape`, float32, or None.
    """
    name = "bias_activation_grad"
    count = stacked(name, gy.shape, y.shape)
    if activation.name == "maxout" and (winner is None or winner.shape != y.shape):
        raise ValueError(f"{name}: maxout needs its winners, of shape {y.shape}")
    gx = device.empty_activation((*gy.shape[:-1], gy.shape[-1] * activation.pieces), y.dtype)
    check_activation(name, activation, gx.shape[-1])
    check_bias(name, bias_shape, gx.shape)
    check_dropout(name, dropout)
    table = table_of(gx, images=bias_shape is not None and len(bias_shape) > 1, largest=2048)
    rows = rows_of(gx, table) // count
    shares, each = (ceil_div(rows, table.BM), table.BM) if bias_shape is None else shares_of(rows, table)
    gbias = None if bias_shape is None else device.empty(bias_shape)
    random, constants = dropout_arguments(dropout)
    arguments = {"gy_ptr": gy, "y_ptr": y, "winner_ptr": winner, "gx_ptr": gx, "out_gbias_ptr": gbias}
    arguments |= {"part_ptr": None if gbias is None else device.empty((shares, table.columns))}
    arguments |= {"counter_ptr": None if gbias is None else device.counters(table.blocks)}
    arguments |= {"rows": rows, "shares": shares, "each": each, "slope": float(activation.value), **random}
    constants |= {"K": count, "ACTIVATION": activation.name, "PIECES": activation.pieces, "BIASED": gbias is not None}
    constants |= {"GY_PITCH": device.pitch(gy), "Y_PITCH": device.pitch(y)}
    constants |= {"W_PITCH": 0 if winner is None else device.pitch(winner)}
    constants |= {"T": table, "B": _behind(table, activation.pieces, gy, y), "AT_ONCE": merged_at_once(table)}
    work = Work(_bytes(gy, y if winner is None else winner), _bytes(gx, gbias), 4 * gx.size)
    launch(activation_grad_kernel, table.blocks * shares, arguments, constants, work=work)
    return gx, gbias


def _behind(table: Table, pieces: int, *arrays: Array) -> Table | None:
    """The table of what lies behind maxout, where its tiles are made of whole groups of pieces."""
    if pieces == 1:
        return table
    flat = table.pixels == 1 or (table.dense and all(device.pitch(x) == x.shape[-1] for x in arrays))
    return table.behind_maxout(pieces) if flat and power_of_two(pieces) == pieces else None


def dropout(x: Array, dropout: Dropout, *, first: int = 0) -> Array:
    """Bernoulli dropout by counters; applied to the gradient with the same record, it is its own backward. One launch.

    x      any shape
    first  place of x's first element in the tensor that the mask belongs to, where x is a part of it

    Returns an array of the same shape and dtype.
    """
    check_dropout("dropout", dropout)
    y = (device.empty_activation if x.ndim > 1 else device.empty)(x.shape, x.dtype)
    pitch, channels = device.pitch(y), x.shape[-1]
    # whole images where that makes the blocks of random numbers begin with the rows
    table = table_of(y, images=x.ndim > 2 and pitch == channels and channels > 16 and channels % 16 > 0)
    rows = rows_of(x, table)
    random, constants = dropout_arguments(dropout)
    arguments = {"x_ptr": x, "y_ptr": y, "first": Int64(first), "rows": rows, **random}
    constants |= {"X_PITCH": device.pitch(x), "ALIGNED": first % 16 == 0, "T": table}
    launch(dropout_kernel, grid_of(rows, table), arguments, constants, work=Work(_bytes(x), _bytes(y), x.size))
    return y


def scale_rows(x: Array, weights: Array) -> Array:
    """x * weights: every row of the batch by a number of its own. One launch.

    x        (N, ...);  weights: (N, 1, ...), N numbers, float32

    Returns an array like x.
    """
    if weights.size != len(x) or len(weights) != len(x):
        raise ValueError(f"scale_rows: weights have shape {weights.shape}, wanted a number for each row of x {x.shape}")
    y = device.empty_activation(x.shape, x.dtype)
    table = table_of(y, images=True)
    arguments = {"x_ptr": x, "weights_ptr": weights, "y_ptr": y, "rows": len(x)}
    work = Work(_bytes(x, weights), _bytes(y), x.size)
    pitches = {"X_PITCH": device.pitch(x), "W_PITCH": device.pitch(weights)}
    launch(scale_rows_kernel, grid_of(len(x), table), arguments, {**pitches, "T": table}, work=work)
    return y


def _bytes(*arrays: Any) -> int:
    """Of the elements of arrays, pads not counted."""
    return sum(x.size * x.dtype.itemsize for x in arrays if x is not None)
