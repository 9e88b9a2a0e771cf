"""Fetching a batch: rows of the uint8 data set, in the order asked for, scaled to [0, 1] (method 3.4)."""

from __future__ import annotations

import numpy as np

from .parallel import split


def gather_batch(
    images: np.ndarray,
    indices: np.ndarray,
    *,
    scale: float = 1 / 255,
    dtype: type = np.float32,
    count: int | None = None,
    rows: int | None = None,
    clock: np.ndarray | None = None,
) -> np.ndarray:
    """Rows of a data set as numbers.

    images   (N, ...) uint8, or float32 (the mixture's points, with scale 1)
    indices  (B,) integers in [0, N); with a clock the order of a whole epoch, (n,)
    count    with a clock: rows of a batch, B. Batch p = clock[1] % ceil(n / B) of the epoch is fetched, of which the
             last one may be smaller
    rows     with a clock: how many rows that batch has, B by default; a device cannot ask its clock before it launches
    clock    (3,) int64: [seed, step, updates]

    Returns (B, ...) of `dtype`: images[indices] * scale. ValueError where an index lies outside.
    """
    if (count is None) != (clock is None) or (count is not None and count < 1):
        raise ValueError(f"gather_batch: a clock goes with a count of at least 1, found count {count}")
    if count is not None and clock is not None:
        start = int(clock[1]) % -(-len(indices) // count) * count
        indices = indices[start : start + count]
        if rows is not None and rows != len(indices):
            raise ValueError(f"gather_batch: the batch has {len(indices)} rows, not {rows}")
    if len(indices) and not (int(np.min(indices)) >= 0 and int(np.max(indices)) < len(images)):
        raise ValueError(f"gather_batch: indices must lie in [0, {len(images)})")
    out = np.empty((len(indices), *images.shape[1:]), dtype)

    def share(start: int, stop: int, _part: int) -> None:
        np.multiply(images[indices[start:stop]], out.dtype.type(scale), out=out[start:stop])

    split(share, len(indices), work=out.size)
    return out
