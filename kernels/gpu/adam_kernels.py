"""What `adam.py` launches. Formulas and the table's layout: there."""

from __future__ import annotations

from ..launch import jit, tl
from .table import last_to_finish


@jit
def _product(a, b):
    return a * b


@jit
def setting(header_ptr, PLACE: tl.constexpr):
    """One of a player's settings, as float64."""
    return tl.load(header_ptr + PLACE).to(tl.float64, bitcast=True)


@jit
def step_size(header_ptr, t, SETTINGS: tl.constexpr, POWERS: tl.constexpr):
    """a_t as float64, from a player's header."""
    bit = tl.arange(0, POWERS)
    chosen = ((t >> bit) & 1) != 0
    power1 = tl.load(header_ptr + SETTINGS + bit).to(tl.float64, bitcast=True)
    power2 = tl.load(header_ptr + SETTINGS + POWERS + bit).to(tl.float64, bitcast=True)
    rest1 = 1.0 - tl.reduce(tl.where(chosen, power1, 1.0), 0, _product)
    rest2 = 1.0 - tl.reduce(tl.where(chosen, power2, 1.0), 0, _product)
    return setting(header_ptr, 0) * tl.sqrt(rest2) / rest1


@jit
def _update(header_ptr, row_ptr, t, start, SETTINGS: tl.constexpr, POWERS: tl.constexpr, BLOCK: tl.constexpr,
            WHOLE: tl.constexpr):  # fmt: skip
    """Elements [start, start + BLOCK) of the tensor in a row of the table; returns their gradients' squared norm.

    The hints stand on whole tiles of pointers: on a scalar they would be lost when the call is inlined.
    """
    ALIGNED: tl.constexpr = 16 if WHOLE else 4
    grad_ptr = tl.load(row_ptr).to(tl.pointer_type(tl.float32))
    low_ptr = tl.load(row_ptr + 1).to(tl.pointer_type(tl.bfloat16))
    p_ptr = tl.load(row_ptr + 2).to(tl.pointer_type(tl.float32))
    m_ptr = tl.load(row_ptr + 3).to(tl.pointer_type(tl.float32))
    v_ptr = tl.load(row_ptr + 4).to(tl.pointer_type(tl.float32))
    size, parts = tl.load(row_ptr + 5), tl.load(row_ptr + 6).to(tl.int32)
    offs = start + tl.arange(0, BLOCK)
    mask = tl.zeros((BLOCK,), tl.int32) == 0 if WHOLE else offs < size
    g = tl.zeros((BLOCK,), tl.float32)
    for part in range(0, parts, 4):
        for k in tl.static_range(4):  # four loads on their way at a time
            part_ptrs = tl.multiple_of(grad_ptr + size * (part + k) + offs, ALIGNED)
            g += tl.load(part_ptrs, mask=mask & (tl.full((BLOCK,), part + k, tl.int32) < parts), other=0.0)
    p_ptrs = tl.multiple_of(p_ptr + offs, ALIGNED)
    m_ptrs = tl.multiple_of(m_ptr + offs, ALIGNED)
    v_ptrs = tl.multiple_of(v_ptr + offs, ALIGNED)
    p = tl.load(p_ptrs, mask=mask, other=0.0)
    m = tl.load(m_ptrs, mask=mask, other=0.0)
    v = tl.load(v_ptrs, mask=mask, other=0.0)
    rate = step_size(header_ptr, t, SETTINGS, POWERS).to(tl.float32)  # while the loads are on their way
    beta1, new1 = setting(header_ptr, 1).to(tl.float32), setting(header_ptr, 2).to(tl.float32)
    beta2, new2 = setting(header_ptr, 3).to(tl.float32), setting(header_ptr, 4).to(tl.float32)
    m = beta1 * m + new1 * g
    v = beta2 * v + new2 * (g * g)
    p -= rate * (m / (tl.sqrt(v) + setting(header_ptr, 5).to(tl.float32)))
    tl.store(p_ptrs, p, mask=mask)
    tl.store(m_ptrs, m, mask=mask)
    tl.store(v_ptrs, v, mask=mask)
    if low_ptr.to(tl.int64) != 0:
        if WHOLE:  # 8 bytes: a wider store would want the whole tile laid out anew
            tl.store(tl.multiple_of(low_ptr + offs, 8), p.to(tl.bfloat16), mask=mask)
        else:
            channels, pitch = tl.load(row_ptr + 7).to(tl.int32), tl.load(row_ptr + 8).to(tl.int32)
            tl.store(low_ptr + offs // channels * pitch + offs % channels, p.to(tl.bfloat16), mask=mask)
    return tl.sum(g * g)


@jit
def adam_kernel(table_ptr, clock_ptr, partial_ptr, count_ptr, norm_ptr, PLAYERS: tl.constexpr, CLOCKED: tl.constexpr,
                TENSORS: tl.constexpr, SETTINGS: tl.constexpr, POWERS: tl.constexpr, ROW: tl.constexpr,
                BLOCK: tl.constexpr, PIECE: tl.constexpr):  # fmt: skip
    """Program `block` updates a block of the tensor whose first block is the last one not behind it."""
    HEADER: tl.constexpr = SETTINGS + 2 * POWERS
    block = tl.program_id(0)
    firsts = tl.load(table_ptr + PLAYERS * HEADER + tl.arange(0, TENSORS))
    row_ptr = table_ptr + PLAYERS * HEADER + TENSORS + (tl.sum((firsts <= block).to(tl.int32)) - 1) * ROW
    size, first = tl.load(row_ptr + 5).to(tl.int32), tl.load(row_ptr + 11).to(tl.int32)
    header_ptr = table_ptr + tl.load(row_ptr + 12) * HEADER
    t = tl.load(clock_ptr + 2) + 1 if CLOCKED else tl.load(header_ptr + 6)
    start = (block - first) * BLOCK
    if (tl.load(row_ptr + 9) != 0) & (start + BLOCK <= size):
        square = _update(header_ptr, row_ptr, t, start, SETTINGS, POWERS, BLOCK, True)
    else:
        square = 0.0
        for piece in range(start, min(start + BLOCK, size), PIECE):
            square += _update(header_ptr, row_ptr, t, piece, SETTINGS, POWERS, PIECE, False)
    tl.store(partial_ptr + block, square)
    blocks, index = tl.cdiv(size, BLOCK), tl.load(row_ptr + 10)
    if last_to_finish(count_ptr + index, blocks):
        total = tl.zeros((BLOCK,), tl.float32)
        for b in range(0, blocks, BLOCK):
            b_offs = b + tl.arange(0, BLOCK)
            total += tl.load(partial_ptr + first + b_offs, mask=b_offs < blocks, other=0.0, cache_modifier=".cg")
        tl.store(norm_ptr + index, tl.sum(total))


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
