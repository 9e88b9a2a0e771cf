"""The end of a step on the device, in one launch of one program (see the twin in `cpu/clock.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import check_record
from ..launch import Work, jit, launch, tl


@jit
def _first_bad(values, number, count, first):
    """The place, from `first` on, of the first of `count` values that is not finite; 2^30 where all are."""
    bad = (number < count) & ((values != values) | (tl.abs(values) == float("inf")))
    return tl.min(tl.where(bad, first + number, 1 << 30), axis=0)


@jit
def record_step_kernel(
    figures_ptr,
    first_ptr,
    second_ptr,
    clock_ptr,
    ring_ptr,
    bad_ptr,
    FIGURES: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    number = tl.arange(0, BLOCK)
    step = tl.load(clock_ptr + 1)
    figures = tl.load(figures_ptr + number, mask=number < FIGURES, other=0.0)
    first = tl.load(first_ptr + number, mask=number < FIRST, other=0.0)
    row_ptr = ring_ptr + (step % ROWS) * WIDTH
    tl.store(row_ptr + number, figures, mask=number < FIGURES)
    tl.store(row_ptr + FIGURES, tl.sqrt(tl.sum(first, axis=0).to(tl.float32)))
    place = _first_bad(figures, number, FIGURES, 0)
    place = tl.minimum(place, _first_bad(first, number, FIRST, FIGURES))
    if SECOND > 0:
        second = tl.load(second_ptr + number, mask=number < SECOND, other=0.0)
        tl.store(row_ptr + FIGURES + 1, tl.sqrt(tl.sum(second, axis=0).to(tl.float32)))
        place = tl.minimum(place, _first_bad(second, number, SECOND, FIGURES + FIRST))
    if (place < (1 << 30)) & (tl.load(bad_ptr) < 0):
        tl.store(bad_ptr, step)
        tl.store(bad_ptr + 1, place.to(tl.int64))
    tl.store(clock_ptr + 1, step + 1)
    tl.store(clock_ptr + 2, tl.load(clock_ptr + 2) + 1)


def record_step(figures: Any, squares: Sequence[Any], *, out_clock: Any, out_ring: Any, out_bad: Any) -> None:
    """Notes what a step showed and moves the clock on.

    figures    (F,) float32, losses first
    squares    for each of one or two players the squared norms of its gradients, (P,) each
    out_clock  (3,) int64: [seed, step, updates]; step and updates grow by one
    out_ring   (R, F + players) float32: row step % R becomes the figures and the Euclidean norm of each player's
               gradients
    out_bad    (2,) int64: [step, place] of the first figure or squared norm that was not finite, counted through
               figures and squares in order; [-1, -1] while there was none
    """
    check_record("record_step", figures.shape, [s.shape for s in squares], out_clock, out_ring, out_bad)
    sizes = [s.size for s in squares] + [0]
    launch(
        record_step_kernel,
        1,
        {
            "figures_ptr": figures,
            "first_ptr": squares[0],
            "second_ptr": squares[1] if len(squares) > 1 else None,
            "clock_ptr": out_clock,
            "ring_ptr": out_ring,
            "bad_ptr": out_bad,
        },
        {
            "FIGURES": figures.size,
            "FIRST": sizes[0],
            "SECOND": sizes[1],
            "ROWS": len(out_ring),
            "WIDTH": out_ring.shape[1],
            "BLOCK": 1 << (max(figures.size, *sizes) - 1).bit_length(),
        },
        warps=1,
        work=Work(read=4 * figures.size + sum(s.nbytes for s in squares) + 24, written=4 * out_ring.shape[1] + 16),
    )
