"""Adam and the moving average of weights, over flat buffers: one launch for all parameters of a player.

    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
    theta <- theta - a_t m / (sqrt(v) + eps),   a_t = a sqrt(1 - b2^t) / (1 - b1^t)

eps stands beside the *uncorrected* sqrt(v) (method 3.1). The launch moves 28 bytes a parameter; nothing else counts:

* A program takes a block of one tensor. It finds the tensor in a table of addresses, and with it the partial sums that
  a split weight gradient left, which it adds in their order; tensors of many partial sums come first.
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
from typing import Any

import numpy as np

from .. import device
from ..arrays import Array
from ..launch import Int64, Work, jit, launch, tl
from .table import last_to_finish

BLOCK = 1024  # elements a program: 8 a thread, four arrays of them in registers
PIECE = 256  # of a block that is not whole or not aligned
TENSORS = 128  # places in the table; more where there are more tensors
POWERS = 32  # bits of t
HEADER = 1 + 2 * POWERS  # learning rate, powers of beta1, powers of beta2
ROW = 10  # gradient, copy, place, size, parts, channels and pitch of the copy, aligned, index, first block


@jit
def _product(a, b):
    return a * b


@jit
def step_size(table_ptr, t, POWERS: tl.constexpr):
    """a_t as float64, from the table's header."""
    bit = tl.arange(0, POWERS)
    chosen = ((t >> bit) & 1) != 0
    power1 = tl.load(table_ptr + 1 + bit).to(tl.float64, bitcast=True)
    power2 = tl.load(table_ptr + 1 + POWERS + bit).to(tl.float64, bitcast=True)
    rest1 = 1.0 - tl.reduce(tl.where(chosen, power1, 1.0), 0, _product)
    rest2 = 1.0 - tl.reduce(tl.where(chosen, power2, 1.0), 0, _product)
    return tl.load(table_ptr).to(tl.float64, bitcast=True) * tl.sqrt(rest2) / rest1


@jit
def _update(table_ptr, row_ptr, p_ptr, m_ptr, v_ptr, t, start, beta1, new1, beta2, new2, eps, BLOCK: tl.constexpr,
            POWERS: tl.constexpr, WHOLE: tl.constexpr):  # fmt: skip
    """Elements [start, start + BLOCK) of the tensor in a row of the table; returns their gradients' squared norm.

    The hints stand on whole tiles of pointers: on a scalar they would be lost when the call is inlined.
    """
    ALIGNED: tl.constexpr = 16 if WHOLE else 4
    grad_ptr = tl.load(row_ptr).to(tl.pointer_type(tl.float32))
    low_ptr = tl.load(row_ptr + 1).to(tl.pointer_type(tl.bfloat16))
    place, size, parts = tl.load(row_ptr + 2), tl.load(row_ptr + 3), tl.load(row_ptr + 4).to(tl.int32)
    offs = start + tl.arange(0, BLOCK)
    mask = tl.zeros((BLOCK,), tl.int32) == 0 if WHOLE else offs < size
    g = tl.zeros((BLOCK,), tl.float32)
    for part in range(0, parts, 4):
        for k in tl.static_range(4):  # four loads on their way at a time
            part_ptrs = tl.multiple_of(grad_ptr + size * (part + k) + offs, ALIGNED)
            g += tl.load(part_ptrs, mask=mask & (tl.full((BLOCK,), part + k, tl.int32) < parts), other=0.0)
    p_ptrs = tl.multiple_of(p_ptr + place + offs, ALIGNED)
    m_ptrs = tl.multiple_of(m_ptr + place + offs, ALIGNED)
    v_ptrs = tl.multiple_of(v_ptr + place + offs, ALIGNED)
    p = tl.load(p_ptrs, mask=mask, other=0.0)
    m = tl.load(m_ptrs, mask=mask, other=0.0)
    v = tl.load(v_ptrs, mask=mask, other=0.0)
    rate = step_size(table_ptr, t, POWERS).to(tl.float32)  # while the loads are on their way
    m = beta1 * m + new1 * g
    v = beta2 * v + new2 * (g * g)
    p -= rate * (m / (tl.sqrt(v) + eps))
    tl.store(p_ptrs, p, mask=mask)
    tl.store(m_ptrs, m, mask=mask)
    tl.store(v_ptrs, v, mask=mask)
    if low_ptr.to(tl.int64) != 0:
        if WHOLE:  # 8 bytes: a wider store would want the whole tile laid out anew
            tl.store(tl.multiple_of(low_ptr + offs, 8), p.to(tl.bfloat16), mask=mask)
        else:
            channels, pitch = tl.load(row_ptr + 5).to(tl.int32), tl.load(row_ptr + 6).to(tl.int32)
            tl.store(low_ptr + offs // channels * pitch + offs % channels, p.to(tl.bfloat16), mask=mask)
    return tl.sum(g * g)


@jit
def adam_kernel(table_ptr, clock_ptr, p_ptr, m_ptr, v_ptr, partial_ptr, count_ptr, norm_ptr, t, beta1, new1, beta2,
                new2, eps, CLOCKED: tl.constexpr, TENSORS: tl.constexpr, HEADER: tl.constexpr, ROW: tl.constexpr,
                POWERS: tl.constexpr, BLOCK: tl.constexpr, PIECE: tl.constexpr):  # fmt: skip
    """Program `block` updates a block of the tensor whose first block is the last one not behind it."""
    block = tl.program_id(0)
    if CLOCKED:
        t = tl.load(clock_ptr + 2) + 1
    firsts = tl.load(table_ptr + HEADER + tl.arange(0, TENSORS))
    row_ptr = table_ptr + HEADER + TENSORS + (tl.sum((firsts <= block).to(tl.int32)) - 1) * ROW
    size, first = tl.load(row_ptr + 3).to(tl.int32), tl.load(row_ptr + 9).to(tl.int32)
    start = (block - first) * BLOCK
    if (tl.load(row_ptr + 7) != 0) & (start + BLOCK <= size):
        square = _update(table_ptr, row_ptr, p_ptr, m_ptr, v_ptr, t, start, beta1, new1, beta2, new2, eps, BLOCK,
                         POWERS, True)  # fmt: skip
    else:
        square = 0.0
        for piece in range(start, min(start + BLOCK, size), PIECE):
            square += _update(table_ptr, row_ptr, p_ptr, m_ptr, v_ptr, t, piece, beta1, new1, beta2, new2, eps, PIECE,
                              POWERS, False)  # fmt: skip
    tl.store(partial_ptr + block, square)
    blocks, index = tl.cdiv(size, BLOCK), tl.load(row_ptr + 8)
    if last_to_finish(count_ptr + index, blocks):
        total = tl.zeros((BLOCK,), tl.float32)
        for b in range(0, blocks, BLOCK):
            b_offs = b + tl.arange(0, BLOCK)
            total += tl.load(partial_ptr + first + b_offs, mask=b_offs < blocks, other=0.0, cache_modifier=".cg")
        tl.store(norm_ptr + index, tl.sum(total))


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
    lows = [None] * len(grads) if out_low is None else list(out_low)
    parts = [len(g) if g.ndim == 5 else 1 for g in grads]
    sizes = [g.size // n for g, n in zip(grads, parts, strict=True)]
    _check(grads, sizes, lows, out, out_m, out_v, step)
    aligned = math.gcd(16, *(device.address(buffer) for buffer in (out, out_m, out_v))) == 16
    table, blocks, places = _table(grads, sizes, parts, lows, (lr, beta1, beta2), aligned)
    norms = device.empty(len(grads))
    clocked = device.is_device(step)
    arguments = {
        "table_ptr": table, "clock_ptr": step if clocked else None, "p_ptr": out, "m_ptr": out_m, "v_ptr": out_v,
        "partial_ptr": device.empty(blocks), "count_ptr": device.counters(len(grads)), "norm_ptr": norms,
        "t": Int64(0 if clocked else step), "beta1": beta1, "new1": 1 - beta1, "beta2": beta2, "new2": 1 - beta2,
        "eps": eps,
    }  # fmt: skip
    constants = {"CLOCKED": clocked, "TENSORS": places, "HEADER": HEADER, "ROW": ROW, "POWERS": POWERS}
    written = 12 * out.size + 2 * sum(low.size for low in lows if low is not None)
    work = Work(12 * out.size + 4 * sum(g.size for g in grads), written, 14 * out.size)
    launch(adam_kernel, blocks, arguments, {**constants, "BLOCK": BLOCK, "PIECE": PIECE}, stages=1, work=work)
    return norms


def _check(
    grads: Sequence[Array], sizes: list[int], lows: list[Any], out: Array, out_m: Array, out_v: Array, step: Any
) -> None:
    total = sum(sizes)
    if not (total,) == out.shape == out_m.shape == out_v.shape:
        raise ValueError(f"adam_step: {total} gradients for buffers of {out.shape}, {out_m.shape} and {out_v.shape}")
    if not device.is_device(step) and step < 1:
        raise ValueError(f"adam_step: step must be at least 1, found {step}")
    if len(lows) != len(grads):
        raise ValueError(f"adam_step: {len(lows)} copies for {len(grads)} gradients")
    for array in (*grads, out, out_m, out_v):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ValueError(f"adam_step: an array {array.shape} {array.dtype} where contiguous float32 is wanted")
    for g, low in zip(grads, lows, strict=True):
        shape = g.shape[1:] if g.ndim == 5 else g.shape
        if low is not None and (low.shape != shape or low.dtype.name != "bfloat16"):
            raise ValueError(f"adam_step: a copy {low.shape} {low.dtype}, wanted {shape} bfloat16")


def _table(
    grads: Sequence[Array], sizes: list[int], parts: list[int], lows: list[Any], settings: tuple[float, float, float],
    buffers_aligned: bool,
) -> tuple[Array, int, int]:  # fmt: skip
    """(table, blocks, places): header, first block of each row's tensor, rows; tensors of most parts first."""
    lr, beta1, beta2 = settings
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    rows: list[Any] = []
    firsts, blocks = [], 0
    for i in sorted(range(len(grads)), key=lambda i: -parts[i]):
        g, low, size = grads[i], lows[i], sizes[i]
        channels = 1 if low is None else low.shape[-1]
        pitch = 1 if low is None else device.pitch(low)
        aligned = buffers_aligned and starts[i] % 4 == 0 and device.address(g) % 16 == 0
        aligned = aligned and (parts[i] == 1 or size % 4 == 0)
        aligned = aligned and (low is None or (pitch == channels and device.address(low) % 8 == 0))
        rows += [g, low, starts[i], size, parts[i], channels, pitch, int(aligned), i, blocks]
        firsts.append(blocks)
        blocks += max(1, -(-size // BLOCK))
    places = max(TENSORS, 1 << (len(grads) - 1).bit_length())
    firsts += [2**62] * (places - len(firsts))
    header = [_bits(lr), *_powers(beta1), *_powers(beta2)]
    return device.pointer_table([[*header, *firsts, *rows]])[0], blocks, places


@lru_cache
def _powers(beta: float) -> list[int]:
    """The bits of beta^1, beta^2, beta^4, ..., each rounded once."""
    return [_bits(beta ** (1 << k)) for k in range(POWERS)]


def _bits(x: float) -> int:
    """A float64 as the int64 of the same bits."""
    return struct.unpack("<q", struct.pack("<d", x))[0]


@jit
def _average(x_ptr, out_ptr, offs, mask, rate, ALIGNED: tl.constexpr):
    x_ptrs, out_ptrs = tl.multiple_of(x_ptr + offs, ALIGNED), tl.multiple_of(out_ptr + offs, ALIGNED)
    average = tl.load(out_ptrs, mask=mask, other=0.0)
    average += rate * (tl.load(x_ptrs, mask=mask, other=0.0) - average)
    tl.store(out_ptrs, average, mask=mask)


@jit
def moving_average_kernel(x_ptr, out_ptr, size, rate, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """A block a program. A mask that is not known beforehand would make the copies narrow: whole blocks have none."""
    start = tl.program_id(0) * BLOCK
    offs = start + tl.arange(0, BLOCK)
    if start + BLOCK <= size:
        _average(x_ptr, out_ptr, offs, tl.full((BLOCK,), True, tl.int1), rate, ALIGNED)
    else:
        _average(x_ptr, out_ptr, offs, offs < size, rate, 4)


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
