"""Kernels that measure a machine and compute nothing of use: what a launch costs, what memory and cache can deliver.

They are no part of the contract of `kernels/__init__.py` and have no twins; `python -m bench.gpu` runs them.
"""

from __future__ import annotations

from typing import Any

from .launch import Work, jit, launch, tl

BLOCK = 8192  # numbers that a program moves at once
THREADS = 256


@jit
def nothing_kernel(x_ptr, NEVER: tl.constexpr):
    if tl.program_id(0) == NEVER:
        tl.store(x_ptr, 0.0)


@jit
def copy_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + offs, tl.load(x_ptr + offs))


@jit
def read_kernel(x_ptr, y_ptr, ROUNDS: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    offs = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for number in range(ROUNDS):
        block = (program + number) % BLOCKS
        total += tl.load(x_ptr + block * BLOCK + offs, cache_modifier=".cg")  # past the L1 cache
    tl.store(y_ptr + program, tl.sum(total, axis=0))


def nothing(x: Any) -> None:
    """A launch that does nothing; x: any float32 array."""
    launch(nothing_kernel, 1, {"x_ptr": x}, {"NEVER": 1 << 30}, warps=1)


def copy(x: Any, *, out: Any) -> None:
    """out <- x: (n BLOCK,) float32."""
    if x.size % BLOCK or x.shape != out.shape:
        raise ValueError(f"copy: x {x.shape} and out {out.shape} must be the same multiple of {BLOCK}")
    work = Work(read=x.nbytes, written=x.nbytes)
    launch(copy_kernel, x.size // BLOCK, {"x_ptr": x, "y_ptr": out}, {"BLOCK": BLOCK}, warps=THREADS // 32, work=work)


def read(x: Any, *, out: Any, rounds: int) -> int:
    """Every program reads `rounds` blocks of x, another one at a time than its neighbours, and sums them.

    x    (n BLOCK,) float32, small enough for the L2 cache
    out  (programs,) float32: the sums, so that nothing is left out

    Returns the bytes read.
    """
    if x.size % BLOCK or x.size == 0:
        raise ValueError(f"read: x {x.shape} must be a multiple of {BLOCK}")
    moved = 4 * BLOCK * rounds * out.size
    launch(
        read_kernel,
        out.size,
        {"x_ptr": x, "y_ptr": out},
        {"ROUNDS": rounds, "BLOCKS": x.size // BLOCK, "BLOCK": BLOCK},
        warps=THREADS // 32,
        work=Work(read=moved, written=out.nbytes),
    )
    return moved
