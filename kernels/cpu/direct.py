"""Convolution without windows laid out: sums of products straight from the images, on tiles of registers.

Where Numba is installed this takes the place of `patches.py` and a matrix product for layers whose channels fill the
processor's vectors: windows laid out are kH kW times the image, and of few channels they cost more to write than to
multiply.

    Forward      for each row i of the kernel: lines of windows of x, kW C numbers each, times w[:, i]
    InputGrad    for each weight of the kernel, (i, j): pixels of gy times w[:, i, j], added up where they belong
    WeightGrad   for each row i of the kernel: lines of windows of x against gy

`of` of each says whether there is such a form of the layer: that follows from sizes alone.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from . import passes

#: Multiplications from which a layer is worth the loop that is compiled for it.
WORTH = 4_000_000

#: Bytes of images that are worked on before their epilogue: they should still be in the second level of cache.
CHUNK_BYTES = 500_000

#: Pixels of gy from which a weight gradient is taken directly: with fewer its sums are fetched and put back too often.
PIXELS = 64

#: Pixels of gy whose products are added up before they go into the total, in whole images: float32 loses less.
STRETCH = 4096

#: Bytes of x and of gy's panel that are read again and again: they leave room in the first level of cache.
LINES_BYTES = 20_000


class Tiling(NamedTuple):
    """Rows of a tile and vectors of each."""

    rows: int
    vectors: int


@cache
def tiling(width: int, channels: int, dtype: np.dtype) -> Tiling | None:
    """Tiles for `width` rows and so many channels, None if these fill no vectors.

    A sum waits four cycles for the one before and two are worked on at a time, so that eight keep a processor busy. Of
    the tiles that waste least, the smallest: measured, larger ones are no faster, and few shapes are soon compiled.
    """
    if passes.CHOSEN == "plain" or dtype not in (np.float32, np.float64) or width < 4:
        return None
    from .passes import vectors as processor

    number = processor.BYTES // dtype.itemsize
    if channels % number:
        return None
    vectors = 1 if channels % (2 * number) else 2
    most = min(8, width, (processor.REGISTERS - 2) // vectors - 1)
    rows = min(range(2, most + 1), key=lambda rows: (-(-width // rows) * max(8, rows * vectors), rows))
    return Tiling(rows, vectors)


def _panels(w: np.ndarray, order: tuple[int, ...], vectors: int) -> np.ndarray:
    """w: four axes, the last of channels, which are cut into vectors that a tile reads one after the other.

    (a, b, c, C) -> a, b, c and C / v in `order`, then v.
    """
    from .passes.vectors import BYTES

    width = vectors * (BYTES // w.itemsize)
    axes = w.reshape(*w.shape[:3], -1, width).transpose(*order, 4)
    panels = np.empty(axes.shape, w.dtype)
    panels[...] = axes
    return panels


def _images(size: int) -> int:
    """How many of so many bytes are worked on before their epilogue."""
    return max(1, CHUNK_BYTES // size)


class Forward:
    """y: (N, Ho, Wo, O) of x: (N, H, W, C), for weights w: (O, kH, kW, C)."""

    def __init__(self, w: np.ndarray, stride: int, chosen: Tiling, images: int):
        self.stride, self.chosen, self.images = stride, chosen, images
        _, kh, kw, c = w.shape
        panels = _panels(w.transpose(1, 2, 3, 0), (0, 3, 1, 2), chosen.vectors)
        self.panels = panels.reshape(kh, -1, kw * c, panels.shape[-1])

    @classmethod
    def of(cls, w: np.ndarray, stride: int, shape: tuple[int, ...]) -> Forward | None:
        """shape: y's, (N, Ho, Wo, O)."""
        n, oh, ow, o = shape
        chosen = tiling(ow, o, w.dtype) if n * oh * ow * w.size >= WORTH else None
        return None if chosen is None else cls(w, stride, chosen, _images(oh * ow * o * w.itemsize))

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """Some images; out is overwritten."""
        from .passes import tiles

        out[...] = 0
        tiles.correlate(*self.chosen)(x, self.panels, self.stride, out)


class InputGrad:
    """gx: (N, H, W, C) of gy: (N, Ho, Wo, O), for weights w: (O, kH, kW, C)."""

    def __init__(self, w: np.ndarray, stride: int, chosen: Tiling, images: int):
        self.stride, self.chosen, self.images = stride, chosen, images
        self.panels = _panels(w, (1, 2, 3, 0), chosen.vectors)

    @classmethod
    def of(cls, w: np.ndarray, size: tuple[int, int], stride: int, shape: tuple[int, ...]) -> InputGrad | None:
        """size: (H, W); shape: gy's."""
        n, oh, ow, _ = shape
        c = w.shape[3]
        chosen = tiling(ow, c, w.dtype) if n * oh * ow * w.size >= WORTH else None
        return None if chosen is None else cls(w, stride, chosen, _images(math.prod(size) * c * w.itemsize))

    def run(self, gy: np.ndarray, out: np.ndarray) -> None:
        """Some images; out is overwritten."""
        from .passes import tiles

        out[...] = 0
        tiles.scatter(*self.chosen)(np.ascontiguousarray(gy), self.panels, self.stride, out)


class WeightGrad:
    """gw: (O, kH, kW, C) of x: (N, H, W, C) and gy: (N, Ho, Wo, O), some images after the other."""

    def __init__(self, x: np.ndarray, gy: np.ndarray, kernel: tuple[int, int], stride: int, chosen: Tiling):
        from .passes import tiles

        self.stride, self.chosen = stride, chosen
        self.images = max(1, STRETCH // (gy.shape[1] * gy.shape[2]))
        line = x[0, 0].nbytes + gy.shape[2] * chosen.vectors * tiles.BYTES
        self.lines = max(1, LINES_BYTES // line)
        shape = (kernel[0], kernel[1] * x.shape[3], gy.shape[3])
        self.total, self.part = np.zeros(shape, x.dtype), np.empty(shape, x.dtype)

    @classmethod
    def of(cls, x: np.ndarray, gy: np.ndarray, kernel: tuple[int, int], stride: int) -> WeightGrad | None:
        """One for images like these."""
        run = kernel[1] * x.shape[3]
        if x.dtype != gy.dtype or gy.shape[1] * gy.shape[2] < PIXELS or gy.size * kernel[0] * run < WORTH:
            return None
        chosen = tiling(run, gy.shape[3], x.dtype)
        return None if chosen is None else cls(x, gy, kernel, stride, chosen)

    def add(self, x: np.ndarray, gy: np.ndarray) -> None:
        """At most `images` of them."""
        from .passes import tiles

        self.part[...] = 0
        tiles.weight_sums(*self.chosen)(x, gy, self.stride, self.lines, self.part)
        self.total += self.part

    def rows(self) -> np.ndarray:
        """(O, kH kW C), a turned view."""
        return self.total.reshape(-1, self.total.shape[2]).T
