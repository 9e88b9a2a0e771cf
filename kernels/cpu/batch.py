"""Fetching a batch: rows of the uint8 data set, in the order asked for, scaled to [0, 1] (method 3.4)."""

from __future__ import annotations

import numpy as np

from .parallel import split


def gather_batch(images: np.ndarray, indices: np.ndarray, *, scale: float = 1 / 255) -> np.ndarray:
    """Rows of a data set as numbers.

    images   (N, ...) uint8, or float32 (the mixture's points, with scale 1)
    indices  (B,) integers in [0, N)

    Returns (B, ...) float32: images[indices] * scale. ValueError where an index lies outside.
    """
    if len(indices) and not (int(np.min(indices)) >= 0 and int(np.max(indices)) < len(images)):
        raise ValueError(f"gather_batch: indices must lie in [0, {len(images)})")
    out = np.empty((len(indices), *images.shape[1:]), np.float32)

    def share(start: int, stop: int, _part: int) -> None:
        np.multiply(images[indices[start:stop]], np.float32(scale), out=out[start:stop])

    split(share, len(indices), work=out.size)
    return out
