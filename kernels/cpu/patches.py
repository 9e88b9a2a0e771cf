"""Windows of images laid out as matrices: what turns a convolution into a matrix product.

Columns of a chunk take about `CHUNK_BYTES`: large enough for a good product, small enough to stay in cache between
the copy that writes them and the product that reads them.
"""

from __future__ import annotations

import math

import numpy as np

from .parallel import scratch

CHUNK_BYTES = 3_000_000


def at_a_time(bytes_per_image: int) -> int:
    """Images in a chunk."""
    return max(1, CHUNK_BYTES // max(1, bytes_per_image))


def im2col(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """x: (n, H, W, C) -> (n * Ho * Wo, kH * kW * C), each row a window; a view where a window is one pixel."""
    n, h, w, c = x.shape
    (kh, kw), (sh, sw) = kernel, stride
    oh, ow = (h - kh) // sh + 1, (w - kw) // sw + 1
    if kh == kw == sh == sw == 1:
        return x.reshape(-1, c)
    a, b, d, e = x.strides
    windows = np.ndarray((n, oh, ow, kh, kw * c), x.dtype, x, 0, (a, b * sh, d * sw, b, e))
    columns = scratch("columns", windows.shape, x.dtype)
    np.copyto(columns, windows)
    return columns.reshape(n * oh * ow, kh * kw * c)


class Columns:
    """A convolution with weights w: (O, kH, kW, C), as one product of windows laid out."""

    def __init__(self, w: np.ndarray, stride: int, positions: int):
        self.kernel, self.stride = w.shape[1:3], (stride, stride)
        self.matrix = np.ascontiguousarray(w.reshape(len(w), -1).T)
        self.images = at_a_time(positions * w[0].nbytes)

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """x: (n, H, W, C) -> out: (n, Ho, Wo, O), overwritten."""
        np.matmul(im2col(x, self.kernel, self.stride), self.matrix, out=out.reshape(-1, out.shape[3]))


class ColumnSums:
    """A convolution's weight gradient, some images after the other: windows laid out against gy."""

    def __init__(self, x: np.ndarray, gy: np.ndarray, kernel: tuple[int, int], stride: int):
        self.kernel, self.stride = kernel, (stride, stride)
        size = math.prod(kernel) * x.shape[3]
        self.images = at_a_time(gy.shape[1] * gy.shape[2] * size * x.itemsize)
        self.total, self.begun = np.empty((gy.shape[3], size), np.result_type(x, gy)), False

    def add(self, x: np.ndarray, gy: np.ndarray) -> None:
        columns, g = im2col(x, self.kernel, self.stride), gy.reshape(-1, gy.shape[3]).T
        if self.begun:
            self.total += np.matmul(g, columns, out=scratch("partial", self.total.shape, self.total.dtype))
        else:
            np.matmul(g, columns, out=self.total)
            self.begun = True

    def rows(self) -> np.ndarray:
        """(O, kH kW C)."""
        return self.total


def scatter_add(columns: np.ndarray, stride: int, out: np.ndarray) -> None:
    """The adjoint of im2col: columns: (n, Ho, Wo, kH, kW, C), summed into out: (n, H, W, C)."""
    _, oh, ow, kh, kw, _ = columns.shape
    out[...] = 0
    for i in range(kh):
        for j in range(kw):
            out[:, i : i + stride * oh : stride, j : j + stride * ow : stride] += columns[:, :, :, i, j]


class Scatter:
    """The input gradient as one product, of which each row is added up where its window lies."""

    def __init__(self, w: np.ndarray, stride: int, positions: int):
        self.shape, self.stride = w.shape[1:], stride
        self.matrix = w.reshape(len(w), -1)
        self.images = at_a_time(positions * w[0].nbytes)

    def run(self, gy: np.ndarray, out: np.ndarray) -> None:
        """gy: (n, Ho, Wo, O) -> out: (n, H, W, C), overwritten."""
        rows, c = gy.reshape(-1, gy.shape[3]), out.shape[3]
        if self.matrix.shape[1] == c and self.stride == 1:
            np.matmul(rows, self.matrix, out=out.reshape(-1, c))
            return
        columns = scratch("columns", (len(rows), self.matrix.shape[1]), gy.dtype)
        np.matmul(rows, self.matrix, out=columns)
        scatter_add(columns.reshape(*gy.shape[:3], *self.shape), self.stride, out)


def gather_is_cheaper(w_shape: tuple[int, ...], size: tuple[int, int], stride: int) -> bool:
    """Which form of the input gradient costs less for weights (O, kH, kW, C) and images of `size`.

    Counted in multiplications of the products, with what else an element costs turned into as many: a scattered one 20
    and 700 more for each run of C numbers, a gathered one 8. The constants were fitted to both forms' measured times.
    Scattering multiplies nothing in vain; gathering computes whole tiles, through windows as tall as the kernel.
    """
    o, kh, kw, c = w_shape
    if kh == kw == stride == 1:
        return False
    positions = ((size[0] - kh) // stride + 1) * ((size[1] - kw) // stride + 1)
    scatter = positions * kh * kw * c * (o + 20 + 700 / c)
    tile = stride * max(1, 24 // (c * stride))
    tiles = -(-size[0] // stride) * -(-size[1] // tile)
    window = -(-kh // stride) * (-(-kw // stride) - 1 + tile // stride) * o
    return tiles * window * (stride * tile * c + 8) < scatter


class Gather:
    """A strided convolution's input gradient as one product on windows of gy: no scattering, no inserted zeros.

    The image is cut into tiles of s x b pixels (b a multiple of s). All pixels of a tile see the same window of
    t x u entries of gy, so that one product of (windows: t u O) @ (t u O: s b C) yields every tile; the weight holds
    w[o,i,j,c] where window entry (a, v) meets tile pixel (p, q) with i = s a + p, j = q - s v, and 0 elsewhere.
    b > s trades zeros for a wider product, which pays for very few channels.
    """

    def __init__(self, w: np.ndarray, size: tuple[int, int], stride: int):
        o, kh, kw, c = w.shape
        s = stride
        self.s, self.b = s, s * max(1, 24 // (c * s))
        self.t, self.reach = -(-kh // s), -(-kw // s) - 1
        self.u = self.reach + self.b // s
        self.tiles = (-(-size[0] // s), -(-size[1] // self.b))
        matrix = np.zeros((self.t, self.u, o, s, self.b, c), w.dtype)
        for i in range(kh):
            for q in range(self.b):
                for j in range(q % s, kw, s):
                    matrix[self.t - 1 - i // s, (q - j) // s + self.reach, :, i % s, q] = w[:, i, j]
        self.matrix = matrix.reshape(self.t * self.u * o, s * self.b * c)
        self.images = at_a_time(self.tiles[0] * self.tiles[1] * sum(self.matrix.shape) * w.itemsize)

    def run(self, gy: np.ndarray, out: np.ndarray) -> None:
        """gy: (n, Ho, Wo, O) -> out: (n, H, W, C), overwritten."""
        n, oh, ow, o = gy.shape
        (rows, cols), s, b, c = self.tiles, self.s, self.b, out.shape[3]
        padded = scratch("padded", (n, rows + self.t - 1, (cols - 1) * (b // s) + self.u, o), gy.dtype)
        padded[...] = 0
        top, left = self.t - 1, self.reach
        # the last rows of gy may reach past the last tile where the convolution skipped pixels: never, since H >= s Ho
        padded[:, top : top + oh, left : left + ow] = gy
        windows = im2col(padded, (self.t, self.u), (1, b // s))
        tiles = np.matmul(windows, self.matrix, out=scratch("tiles", (len(windows), s * b * c), gy.dtype))
        tiles = tiles.reshape(n, rows, cols, s, b, c)
        for p in range(s):
            lines = out[:, p::s]
            whole = lines.shape[2] // b
            self._paste(lines[:, :, : whole * b], tiles[:, : lines.shape[1], :whole, p])
            if whole < cols:
                lines[:, :, whole * b :] = tiles[:, : lines.shape[1], whole, p, : lines.shape[2] - whole * b]

    @staticmethod
    def _paste(lines: np.ndarray, tiles: np.ndarray) -> None:
        """lines: (n, h, cols * b, C) <- tiles: (n, h, cols, b, C)."""
        lines.reshape(tiles.shape, copy=False)[...] = tiles
