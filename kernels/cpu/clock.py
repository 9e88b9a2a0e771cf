"""The end of a step: its figures go into a ring, what was not finite is noted, the clock moves on.

A clock is an array [seed, step, updates] that stands for a step's number where a step is recorded once and run many
times: the batch, the random numbers and Adam's t follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import check_record


def record_step(
    figures: np.ndarray,
    squares: Sequence[np.ndarray],
    *,
    out_clock: np.ndarray,
    out_ring: np.ndarray,
    out_bad: np.ndarray,
) -> None:
    """Notes what a step showed and moves the clock on.

    figures    (F,) float32, losses first
    squares    for each player the squared norms of its gradients, (P,) each
    out_clock  (3,) int64: [seed, step, updates]; step and updates grow by one
    out_ring   (R, F + players) float32: row step % R becomes the figures and the Euclidean norm of each player's
               gradients
    out_bad    (2,) int64: [step, place] of the first figure or squared norm that was not finite, counted through
               figures and squares in order; [-1, -1] while there was none
    """
    check_record("record_step", figures.shape, [s.shape for s in squares], out_clock, out_ring, out_bad)
    step = int(out_clock[1])
    with np.errstate(invalid="ignore"):
        out_ring[step % len(out_ring)] = [*figures, *(np.sqrt(s.sum()) for s in squares)]
    finite = np.isfinite(np.concatenate([figures, *squares]))
    if out_bad[0] < 0 and not finite.all():
        out_bad[:] = step, int(np.argmin(finite))
    out_clock[1:] += 1
