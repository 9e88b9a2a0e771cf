"""Products of dense layers: some hundred rows with a matrix of weights.

With Numba and vectors of 64 bytes they are taken on tiles of registers (`passes/panels.py`). Measured on Cascade Lake,
one thread, 100 and 200 rows, weights of 400 x 400 and 200 x 1000 out of the third level of cache: BLAS takes 1.1 to 1.5
times as long. With vectors of 32 bytes, when fewer registers hold a tile, BLAS was ahead; so it was, and more exact,
where sums run over thousands of numbers, which it takes in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np

from . import passes
from .parallel import scratch, split

#: Multiplications from which a product is worth the loop that is compiled for it.
WORTH = 1_000_000

#: Bytes of a vector from which tiles are ahead of BLAS.
AHEAD = 64

#: Numbers that a sum of tiles may have: at 1000 BLAS took as long, at 2048 half as long to 1.1 times as long.
LONGEST = 1000

#: Bytes of panels: they are to stay in the second level of cache.
PANELS_BYTES = 400_000

#: Columns from which there are panels. Pieces of a product begin at multiples of it: all panels but the last are whole.
LEAST = 32


def share_channels(fn: Callable[[int, int, int], object], a: np.ndarray, b: np.ndarray) -> None:
    """fn(start, stop, part) for each thread's columns of a @ b."""
    split(fn, b.shape[1], work=a.size * b.shape[1] / 8, align=16)


def multiply(a: np.ndarray, b: np.ndarray, start: int, stop: int, out: np.ndarray, to: int) -> None:
    """out[:, to:][:, : stop - start] = a @ b[:, start:stop], on one thread.

    a  (N, K);  b: (K, C), which may be a transposed view;  out: (N, ...), contiguous
    """
    width, mine = stop - start, out[:, to : to + stop - start]
    if a.shape[1] == 1:  # NumPy's matrix product would take ten times as long
        np.multiply(a, b[:, start:stop], out=mine)
        return
    turned = not b.flags.c_contiguous
    whole = b.T if turned else b
    rows = _tile_rows(len(a), a.dtype) if _suits_tiles(a, whole, width) else None
    if rows is None:
        np.matmul(a, b[:, start:stop], out=mine)
        return
    from .passes.panels import product

    pieces = min(-(-len(b) * width * b.itemsize // PANELS_BYTES), width // LEAST)
    bounds = [start + width * piece // pieces // LEAST * LEAST for piece in range(pieces)]
    panels = scratch("panels", (len(b) * (-(-width // pieces) + 2 * LEAST),), b.dtype)
    for first, end in pairwise([*bounds, stop]):
        product(rows)(a, whole, turned, first, end, panels, out, to + first - start)


def _suits_tiles(a: np.ndarray, b: np.ndarray, width: int) -> bool:
    """Whether so many columns of a @ b, or of a @ b.T, may be worth tiles."""
    fits = width >= LEAST and a.shape[1] <= LONGEST and a.size * width >= WORTH
    return fits and a.dtype == b.dtype and a.flags.c_contiguous and b.flags.c_contiguous


@cache
def _tile_rows(count: int, dtype: np.dtype) -> int | None:
    """Rows of a tile of two vectors each, None for BLAS. Eight keep a processor busy, twelve leave it registers."""
    if passes.CHOSEN == "plain" or dtype not in (np.float32, np.float64) or count < 8:
        return None
    from .passes.vectors import BYTES

    if BYTES < AHEAD:
        return None
    # beside its sums a tile costs what two rows do
    return min(range(8, min(12, count) + 1), key=lambda rows: -(-count // rows) * (rows + 2))
