"""Dropout masks, drawn once a step, and how stacked cotangents find the rows of what the forward pass kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arrays import Dropout
from .parallel import BLOCK, split
from .sampling import random_uint16


def cotangents(start: int, stop: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """The rows [start, stop) of stacked cotangents of `rows` rows: (cotangent, its first row, the one behind its last).

    What the forward pass kept, masks for example, it kept for `rows` rows.
    """
    while start < stop:
        k, a = divmod(start, rows)
        b = min(rows, a + stop - start)
        yield k, a, b
        start += b - a


_masks: dict[Dropout, np.ndarray] = {}


def keep_mask(dropout: Dropout, size: int) -> np.ndarray:
    """Which elements of a tensor are kept: (size,) bool, by their place in C order.

    A step asks for each mask again in its walk back, and drawing it is most of dropout's work; so the masks of one step
    are remembered, a byte an element, until another step asks.
    """
    dropout = dropout._replace(counters=dropout.counters.read())
    mask = _masks.get(dropout)
    if mask is None or len(mask) < size:
        if any(known.counters[:2] != dropout.counters[:2] for known in [*_masks]):  # other threads add theirs
            _masks.clear()
        threshold = np.uint16(min(round(dropout.rate * 65536), 65535))
        mask = np.empty(size, bool)

        def share(start: int, stop: int, _part: int) -> None:
            for a in range(start, stop, BLOCK):
                b = min(a + BLOCK, stop)
                np.greater_equal(random_uint16(dropout.counters, a, b - a), threshold, out=mask[a:b])

        split(share, size, work=10 * size, align=16)
        _masks[dropout] = mask
    return mask if len(mask) == size else mask[:size]
