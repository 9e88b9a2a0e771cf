"""What both twins check of their arguments; an error names the function, the argument, what was found and wanted.

Checks of shapes alone are remembered: a step meets the same ones again and again. Numbers among their arguments count
with their types: what holds for a stride of 2 need not for 2.0.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .arrays import LINEAR, Activation, Array, Dropout, NormState, conv_output_size

#: Shapes that a check remembers.
KEPT = 1024


@lru_cache(KEPT, typed=True)
def check_conv(name: str, x_shape: tuple, w_shape: tuple, y_shape: tuple | None, stride: int) -> tuple[int, int]:
    """Checks x: (N, H, W, C) against w: (O, kH, kW, C) and y: (N, Ho, Wo, O); returns (Ho, Wo)."""
    if y_shape is not None and len(y_shape) != 4:
        raise ValueError(f"{name}: gy has shape {tuple(y_shape)}, wanted (N, Ho, Wo, O)")
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(f"{name}: x {x_shape} must be (N, H, W, C) and w {w_shape} must be (O, kH, kW, C)")
    if x_shape[3] != w_shape[3]:
        raise ValueError(f"{name}: x {x_shape} has {x_shape[3]} channels, w {w_shape} wants {w_shape[3]}")
    if not isinstance(stride, int | np.integer) or stride < 1:
        raise ValueError(f"{name}: stride must be an integer of at least 1, found {stride}")
    if x_shape[0] < 1:
        raise ValueError(f"{name}: x {x_shape} has no rows")
    if w_shape[1] > x_shape[1] or w_shape[2] > x_shape[2]:
        raise ValueError(f"{name}: a kernel of {w_shape[1:3]} does not fit an input of {x_shape[1:3]}")
    size = (conv_output_size(x_shape[1], w_shape[1], stride), conv_output_size(x_shape[2], w_shape[2], stride))
    wanted = (x_shape[0], *size, w_shape[0])
    if y_shape is not None and tuple(y_shape) != wanted:
        raise ValueError(f"{name}: gy has shape {tuple(y_shape)}, wanted {wanted} for x {x_shape} and w {w_shape}")
    return size


def check_contiguous(name: str, **arrays: Array) -> None:
    """Kernels read memory in C order: another layout is refused rather than copied behind the caller's back."""
    for key, array in arrays.items():
        if not array.flags.c_contiguous:
            raise ValueError(f"{name}: {key} {array.shape} is not contiguous")


@lru_cache(KEPT, typed=True)
def check_activation(name: str, activation: Activation, channels: int, *, moments: bool = False) -> None:
    """Refuses an unknown activation, a slope outside [0, 1], pieces that do not divide the channels, and moments of
    maxout."""
    if activation.name not in ("linear", "leaky_relu", "sigmoid", "maxout"):
        raise ValueError(f"{name}: unknown activation {activation.name!r}")
    if activation.name == "leaky_relu" and not 0 <= activation.value <= 1:
        raise ValueError(f"{name}: the slope of leaky ReLU must lie in [0, 1], found {activation.value}")
    if activation.name == "maxout" and (activation.pieces < 1 or channels % activation.pieces):
        raise ValueError(f"{name}: maxout with {activation.pieces} pieces does not divide {channels} channels")
    if activation.name == "maxout" and moments:
        raise ValueError(f"{name}: moments are not taken behind maxout")


@lru_cache(KEPT, typed=True)
def check_bias(name: str, shape: tuple | None, y_shape: tuple) -> None:
    """A bias, where there is one, is tied, (C,), or untied, (H, W, C)."""
    if shape is not None and tuple(shape) not in (y_shape[-1:], y_shape[1:]):
        raise ValueError(f"{name}: bias has shape {shape}, wanted {y_shape[-1:]} (tied) or {y_shape[1:]} (untied)")


def check_dropout(name: str, dropout: Dropout | None) -> None:
    """The rate must lie in [0, 1)."""
    if dropout is not None and not 0 <= dropout.rate < 1:
        raise ValueError(f"{name}: the dropout rate must lie in [0, 1), found {dropout.rate}")


def check_epilogue(
    name: str,
    shape: tuple,
    *,
    bias: Array | None,
    activation: Activation,
    dropout: Dropout | None,
    moments: bool,
    through: NormState | None,
) -> None:
    """What may ride on a convolution whose product has this shape: (N, H, W, C), before maxout."""
    check_dropout(name, dropout)
    if through is not None:
        check_dropout(name, through.dropout)
    _check_riders(
        name,
        shape,
        None if bias is None else bias.shape,
        activation,
        dropout is not None,
        moments,
        None if through is None else through.x.shape,
    )


@lru_cache(KEPT, typed=True)
def _check_riders(
    name: str, shape: tuple, bias: tuple | None, activation: Activation, dropout: bool, moments: bool, x: tuple | None
) -> None:
    """bias and x, what the norm of `through` saw, by their shapes."""
    check_activation(name, activation, shape[-1], moments=moments)
    check_bias(name, bias, shape)
    if moments and dropout:
        raise ValueError(f"{name}: moments are not taken behind dropout")
    if x is None:
        return
    if bias is not None or activation != LINEAR or dropout or moments:
        raise ValueError(f"{name}: a gradient that passes through a norm takes no bias, activation, dropout or moments")
    if len(shape) != len(x) or shape[1:] != x[1:] or shape[0] % x[0]:
        raise ValueError(f"{name}: the result has shape {shape}, the norm of `through` saw {x}")


def check_precision(name: str, precision: str, have: tuple[str, ...]) -> None:
    """Refuses a precision that the twin cannot give."""
    if precision not in have:
        raise ValueError(f"{name}: precision {precision!r}: wanted {' or '.join(map(repr, have))} here")


def check_join(name: str, shapes: list[tuple], axis: int) -> list[int]:
    """Checks that parts of these shapes fit end to end along the batch (0) or the channels (-1); their sizes there."""
    if axis not in (0, -1):
        raise ValueError(f"{name}: axis must be 0 (the batch) or -1 (the channels), found {axis}")
    rest = {shape[1:] if axis == 0 else shape[:-1] for shape in shapes}
    if len(rest) != 1 or min(map(len, shapes)) < 2:
        raise ValueError(f"{name}: parts of shapes {', '.join(map(str, shapes))} do not fit along axis {axis}")
    return [shape[axis] for shape in shapes]


@lru_cache(KEPT, typed=True)
def stacked(name: str, gy_shape: tuple, shape: tuple) -> int:
    """K, the number of cotangents of arrays of `shape` that are stacked along the batch of gy."""
    count = gy_shape[0] // max(1, shape[0]) if gy_shape else 0
    if len(shape) != len(gy_shape) or (count * shape[0], *shape[1:]) != tuple(gy_shape) or count < 1:
        raise ValueError(
            f"{name}: gy has shape {tuple(gy_shape)}, wanted {tuple(shape)} or several of that along the batch"
        )
    return count


def check_class_losses(name: str, logits: tuple, labels: tuple) -> tuple[int, int]:
    """Checks the shapes of logits and labels of `class_losses`; returns (M, L), data and labelled pairs."""
    fits = len(logits) > 1 and 0 < math.prod(logits) == logits[0] * logits[-1] and logits[1:] == labels[1:]
    pairs, odd = divmod(logits[0] - labels[0], 2) if fits else (0, 0)
    if pairs < 1 or odd or not labels[0]:
        raise ValueError(
            f"{name}: logits {logits} must be (2M + L, 1, ..., K): data, labelled, sample rows; labels {labels}: "
            "(L, 1, ..., K)"
        )
    return pairs, labels[0]


def check_record(name: str, figures: tuple, squares: list[tuple], clock: Array, ring: Array, bad: Array) -> None:
    """Checks the arrays of `record_step`: one or two players, a clock of three, a ring as wide as what it takes."""
    if not 1 <= len(squares) <= 2:
        raise ValueError(f"{name}: squares of one or two players, found {len(squares)}")
    width = figures[0] + len(squares) if len(figures) == 1 else None
    if ring.ndim != 2 or ring.shape[1] != width:
        raise ValueError(f"{name}: out_ring has shape {ring.shape}, wanted (R, {width}) for figures {figures}")
    if clock.shape != (3,) or bad.shape != (2,):
        raise ValueError(f"{name}: out_clock {clock.shape} and out_bad {bad.shape} must be (3,) and (2,)")
