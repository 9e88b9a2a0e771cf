"""Memory for tests: NaN where nothing was written, and zones around each array that nobody may write to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .host import DeviceArray

ZONE = 256  # bytes before and after an array
GUARD = 0xFF  # as float32, bfloat16, float64: a NaN; as int: -1


def fill_with_poison(x: np.ndarray) -> None:
    """NaN, or 165, or True: what no result may hold."""
    x[...] = True if x.dtype == bool else 165 if x.dtype.kind in "iu" else np.nan


def is_poison(x: np.ndarray) -> np.ndarray:
    """Where x holds what `fill_with_poison` writes."""
    return x if x.dtype == bool else x == 165 if x.dtype.kind in "iu" else np.isnan(x)


class Guards:
    """Allocates, and remembers what it has given."""

    def __init__(self) -> None:
        self.buffers: list[tuple[np.ndarray, int, tuple[int, ...], np.dtype]] = []
        self.pads: list[tuple[np.ndarray, int]] = []

    def empty(self, shape: int | Sequence[int], dtype: Any) -> DeviceArray:
        """A poisoned array between two guard zones."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        raw = np.empty(size + 2 * ZONE + 64, np.uint8)
        raw = raw[-raw.ctypes.data % 64 :][: size + 2 * ZONE]
        raw[...] = GUARD
        self.buffers.append((raw, size, shape, dtype))
        x = raw[ZONE : ZONE + size].view(dtype).reshape(shape).view(DeviceArray)
        fill_with_poison(x.view(np.ndarray))
        return x

    def expect_zero_pads(self, whole: Any, channels: int) -> None:
        """The elements of `whole` from `channels` on are pads: zero in the end, unless nothing was written at all."""
        if whole.shape[-1] > channels:
            self.pads.append((whole.view(np.ndarray), channels))

    def verify(self) -> None:
        """AssertionError where a zone was written to or a pad is not zero."""
        for raw, size, shape, dtype in self.buffers:
            for where, zone in (("before", raw[:ZONE]), ("behind", raw[ZONE + size :])):
                if not (zone == GUARD).all():
                    place = int(np.flatnonzero(zone != GUARD)[0])
                    raise AssertionError(f"written {where} an array {shape} {dtype}, at byte {place} of {ZONE}")
        for whole, channels in self.pads:
            pads, rest = whole[..., channels:], whole[..., :channels]
            if np.any(pads != 0) and not is_poison(rest).all():
                raise AssertionError(f"pads of an array {rest.shape} {whole.dtype} are not zero")
