"""Fetching a batch: rows of the uint8 data set, in the order asked for, scaled to [0, 1] (method 3.4).

The data set lies on the device, so that a step fetches its own batch: which one follows from the clock. A lane makes a
pixel: it loads C bytes and stores them with the pixel's pads in pieces of 16 bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import device
from ..arrays import Array
from ..launch import Work, jit, launch, tl

BLOCK = 256  # pixels a program


@jit
def gather_batch_kernel(images_ptr, indices_ptr, clock_ptr, out_ptr, images, positions, count, rows, scale,
                        CLOCKED: tl.constexpr, PIXELS: tl.constexpr, C: tl.constexpr, PITCH: tl.constexpr,
                        COLUMNS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """images: (images, PIXELS, C), indices: (positions,), out: (rows, PIXELS, PITCH)."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, COLUMNS)[None, :]
    position = pixel // PIXELS
    if CLOCKED:
        position += tl.load(clock_ptr + 1).to(tl.int32) % tl.cdiv(positions, count) * count
    mask = pixel < rows * PIXELS
    index = tl.load(indices_ptr + position, mask=mask & (position < positions), other=-1)
    inside = (index >= 0) & (index < images)
    source = (index * PIXELS + pixel % PIXELS)[:, None] * C + column
    x = tl.load(images_ptr + source, mask=inside[:, None] & (column < C), other=0).to(tl.float32) * scale
    x = tl.where(inside[:, None] | (column >= C), x, float("nan"))
    out_ptrs = out_ptr + pixel[:, None] * PITCH + column
    tl.store(out_ptrs, x.to(out_ptr.dtype.element_ty), mask=mask[:, None] & (column < PITCH))


def gather_batch(
    images: Array,
    indices: Array,
    *,
    scale: float = 1 / 255,
    dtype: Any = np.float32,
    count: int | None = None,
    rows: int | None = None,
    clock: Array | None = None,
) -> Array:
    """Rows of a data set as numbers.

    images   (N, ...) uint8, or float32 (the mixture's points, with scale 1)
    indices  (B,) int64 in [0, N); with a clock the order of a whole epoch, (n,)
    dtype    float32 or bfloat16
    count    with a clock: rows of a batch, B. Batch p = clock[1] % ceil(n / B) of the epoch is fetched
    rows     with a clock: how many rows that batch has, B by default
    clock    (3,) int64: [seed, step, updates]

    Returns (B, ...) of `dtype`, in padded pixels where it has more than one axis: images[indices] * scale. The host
    does not see where the indices point: rows without an image are NaN.
    """
    if (count is None) != (clock is None) or (count is not None and count < 1):
        raise ValueError(f"gather_batch: a clock goes with a count of at least 1, found count {count}")
    if indices.dtype != np.int64 or indices.ndim != 1:
        raise ValueError(f"gather_batch: indices are {indices.shape} {indices.dtype}, wanted (B,) int64")
    count = len(indices) if count is None else count
    rows = count if rows is None else rows
    shape = (rows, *images.shape[1:])
    flat = len(shape) == 1
    out = device.empty(shape, dtype) if flat else device.empty_activation(shape, dtype)
    channels, pitch = (1, 1) if flat else (shape[-1], device.padded(shape[-1], dtype))
    pixels = math.prod(shape[1:-1])
    arguments = {
        "images_ptr": images, "indices_ptr": indices, "clock_ptr": clock, "out_ptr": out, "images": len(images),
        "positions": len(indices), "count": count, "rows": rows, "scale": scale,
    }  # fmt: skip
    constants = {"CLOCKED": clock is not None, "PIXELS": pixels, "C": channels, "PITCH": pitch, "BLOCK": BLOCK}
    columns = 1 << (pitch - 1).bit_length()
    read = rows * (8 + pixels * channels * images.dtype.itemsize)
    work = Work(read, rows * pixels * pitch * np.dtype(dtype).itemsize, rows * pixels * channels)
    grid = -(-rows * pixels // BLOCK)
    launch(gather_batch_kernel, grid, arguments, {**constants, "COLUMNS": columns}, stages=1, work=work)
    return out
