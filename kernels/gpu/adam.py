"""Adam and the moving average of weights, over flat buffers: one launch for all parameters of all players.

    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
    theta <- theta - a_t m / (sqrt(v) + eps),   a_t = a sqrt(1 - b2^t) / (1 - b1^t)

eps stands beside the *uncorrected* sqrt(v) (method 3.1). The launch moves 28 bytes a parameter; nothing else counts:

* A program takes a block of one tensor. It finds the tensor in a table of addresses, and with it the partial sums that
  a split weight gradient left, which it adds in their order; tensors of many partial sums come first. At the table's
  head stand each player's settings, so that it does not matter whose tensor it is.
* Whole blocks at multiples of 16 bytes are moved 16 bytes at a time. Other blocks, a tensor's last one for example,
  take a second path, number by number; it works in shorter pieces, lest it decide how many registers there are.
* Whatever reads the weights as bfloat16 finds a rounded copy, written here.
* a_t is taken in float64, where 1 - b^t has ten digits left at t = 1. b^t is the product of those of b^1, b^2, b^4, ...
  that t's bits choose; every lane loads one of them, and the lanes multiply in a tree.
* A tensor's last program adds up the squared norm from the blocks', in their order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import device
from ..arrays import Array
from ..launch import Work, launch
from .adam_kernels import adam_kernel, moving_average_kernel

BLOCK = 1024  # elements a program: 8 a thread, four arrays of them in registers
PIECE = 256  # of a block that is not whole or not aligned
TENSORS = 128  # room in the table; more where there are more tensors
POWERS = 32  # bits of t
SETTINGS = 7  # of a player: learning rate, beta1, 1 - beta1, beta2, 1 - beta2, eps, t
HEADER = SETTINGS + 2 * POWERS  # and the powers of beta1 and of beta2
ROW = 13  # gradient, copy, p, m, v, size, parts, channels and pitch of the copy, aligned, index, first block, player


def adam_step(
    grads: Sequence[Array],
    *,
    out: Array,
    out_m: Array,
    out_v: Array,
    step: int | Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    out_low: Sequence[Array | None] | None = None,
) -> Array:
    """One step of Adam for all parameters.

    grads         float32 arrays of the parameters' shapes, end to end as in the flat buffers; a weight's may be
                  (S, O, kH, kW, C), partial sums that are added in order
    out           (P,) float32 parameters, changed; out_m, out_v: (P,) first and second moments, changed
    step          t, from 1; or the clock, whose `updates` are the steps taken before this one
    out_low       for each gradient a bfloat16 array of the parameter's shape that receives the new value, or None

    Returns (len(grads),) float32: the squared norm of each gradient; not finite where the gradient is not.
    """
    buffers: dict[str, Any] = {"out": [out], "out_m": [out_m], "out_v": [out_v], "out_low": [out_low]}
    settings: dict[str, Any] = {"lr": [lr], "beta1": [beta1], "beta2": [beta2], "eps": [eps]}
    return adam_steps([grads], step=step if device.is_device(step) else [step], **buffers, **settings)[0]


def adam_steps(
    grads: Sequence[Sequence[Array]],
    *,
    out: Sequence[Array],
    out_m: Sequence[Array],
    out_v: Sequence[Array],
    step: Sequence[int] | Array,
    lr: Sequence[float],
    beta1: Sequence[float],
    beta2: Sequence[float],
    eps: Sequence[float],
    out_low: Sequence[Sequence[Array | None] | None],
) -> list[Array]:
    """`adam_step` for several players in one launch: each argument holds one for each player; a clock is everyone's.

    Returns for each player what `adam_step` would, which are parts of one array.
    """
    clocked = device.is_device(step)
    times = [0] * len(grads) if clocked else list(step)
    tensors: list[Tensor] = []
    for player, (g, low, *buffers) in enumerate(zip(grads, out_low, out, out_m, out_v, strict=True)):
        tensors += _tensors(player, g, [None] * len(g) if low is None else low, buffers)
        if not clocked and times[player] < 1:
            raise ValueError(f"adam_step: step must be at least 1, found {times[player]}")
    headers = [_header(*settings) for settings in zip(lr, beta1, beta2, eps, times, strict=True)]
    table, blocks, room = _table(headers, tensors)
    norms = device.empty(len(tensors))
    arguments = {
        "table_ptr": table, "clock_ptr": step if clocked else None, "partial_ptr": device.empty(blocks),
        "count_ptr": device.counters(len(tensors)), "norm_ptr": norms,
    }  # fmt: skip
    constants = {"PLAYERS": len(grads), "CLOCKED": clocked, "TENSORS": room, "SETTINGS": SETTINGS, "POWERS": POWERS}
    constants |= {"ROW": ROW, "BLOCK": BLOCK, "PIECE": PIECE}
    total = sum(t.size for t in tensors)
    written = 12 * total + 2 * sum(t.size for t in tensors if t.low is not None)
    work = Work(12 * total + 4 * sum(t.size * t.parts for t in tensors), written, 14 * total)
    launch(adam_kernel, blocks, arguments, constants, stages=1, work=work)
    ends = list(accumulate(map(len, grads), initial=0))
    return [norms[a:b] for a, b in pairwise(ends)]


class Tensor(NamedTuple):
    """A parameter: its gradient, its copy if there is one, and where its part of the three flat buffers begins."""

    grad: Array
    low: Array | None
    places: list[int]
    size: int
    parts: int
    player: int


def _tensors(player: int, grads: Sequence[Array], lows: Sequence[Any], buffers: Sequence[Array]) -> list[Tensor]:
    """A player's, checked."""
    parts = [len(g) if g.ndim == 5 else 1 for g in grads]
    sizes = [g.size // n for g, n in zip(grads, parts, strict=True)]
    starts = list(accumulate(sizes, initial=0))
    if any(buffer.shape != (starts[-1],) for buffer in buffers):
        found = "{}, {} and {}".format(*(buffer.shape for buffer in buffers))
        raise ValueError(f"adam_step: {starts[-1]} gradients for buffers of {found}")
    if len(lows) != len(grads):
        raise ValueError(f"adam_step: {len(lows)} copies for {len(grads)} gradients")
    for array in (*grads, *buffers):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(f"adam_step: an array {array.shape} {array.dtype} where contiguous float32 is wanted")
    for g, low in zip(grads, lows, strict=True):
        shape = g.shape[1:] if g.ndim == 5 else g.shape
        if low is not None and (low.shape != shape or low.dtype.name != "bfloat16"):
            raise ValueError(f"adam_step: a copy {low.shape} {low.dtype}, wanted {shape} bfloat16")
    places = [[device.address(buffer) + 4 * start for buffer in buffers] for start in starts[:-1]]
    return [Tensor(*each, player) for each in zip(grads, lows, places, sizes, parts, strict=True)]


def _table(headers: Sequence[list[int]], tensors: Sequence[Tensor]) -> tuple[Array, int, int]:
    """(table, blocks, room): headers, first block of each row's tensor, rows; tensors of most parts first."""
    rows: list[Any] = []
    firsts, blocks = [], 0
    for index in sorted(range(len(tensors)), key=lambda i: -tensors[i].parts):
        g, low, places, size, parts, player = tensors[index]
        channels = 1 if low is None else low.shape[-1]
        pitch = 1 if low is None else device.pitch(low)
        aligned = math.gcd(16, device.address(g), *places) == 16 and (parts == 1 or size % 4 == 0)
        aligned = aligned and (low is None or (pitch == channels and device.address(low) % 8 == 0))
        rows += [g, low, *places, size, parts, channels, pitch, int(aligned), index, blocks, player]
        firsts.append(blocks)
        blocks += max(1, -(-size // BLOCK))
    room = max(TENSORS, 1 << (len(tensors) - 1).bit_length())
    firsts += [2**62] * (room - len(firsts))
    return device.pointer_table([[word for header in headers for word in header] + firsts + rows])[0], blocks, room


def _header(lr: float, beta1: float, beta2: float, eps: float, t: int) -> list[int]:
    """A player's settings."""
    settings = [_bits(x) for x in (lr, beta1, 1 - beta1, beta2, 1 - beta2, eps)]
    return [*settings, t, *_powers(beta1), *_powers(beta2)]


@lru_cache
def _powers(beta: float) -> list[int]:
    """The bits of beta^1, beta^2, beta^4, ..., each rounded once."""
    return [_bits(beta ** (1 << k)) for k in range(POWERS)]


def _bits(x: float) -> int:
    """A float64 as the int64 of the same bits."""
    return struct.unpack("<q", struct.pack("<d", x))[0]


def moving_average(x: Array, *, out: Array, rate: float) -> None:
    """Exponential moving average: out <- out + rate * (x - out).

    x, out   (P,) float32; out is changed
    rate     weight of the new value, in (0, 1]
    """
    if x.shape != out.shape:
        raise ValueError(f"moving_average: x has shape {x.shape}, wanted {out.shape}")
    aligned = 16 if math.gcd(device.address(x), device.address(out), 16) == 16 else 4
    arguments = {"x_ptr": x, "out_ptr": out, "size": out.size, "rate": rate}
    work = Work(8 * out.size, 4 * out.size, 3 * out.size)
    constants = {"ALIGNED": aligned, "BLOCK": BLOCK}
    launch(moving_average_kernel, -(-out.size // BLOCK), arguments, constants, stages=1, work=work)
