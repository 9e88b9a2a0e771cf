"""Everything about a convolution that its kernels know when they are compiled: sizes, pitches, tiles.

One product serves the convolution and its input gradient, strided or not, and without inserted zeros. Rows are the
positions of a grid over the output, columns the ph x pw pixels ("phases") that belong to a position, times channels:

    Y[ph g + p, pw h + q, c] = sum over the window's entries (a, v) and k of
                               A[sh g + a - pad_h, sw h + v - pad_w, k] * W[i, j, k, c]

    convolution of stride s      i = a - s p,              j = v - s q;              sh = s ph,  pad = 0
    its input gradient           i = s (reach - a) + p,    j = s (reach - v) + q;    sh = ph/s,  pad = reach

with reach = ceil(k / s) - 1, A = 0 outside the image and W = 0 outside the kernel. The convolution needs one phase, the
input gradient s x s: then all its phases read the same window of gy, and the product is s^2 times as wide. More phases
along a row buy fewer reads of A with some multiplications by zero: `unroll` (study of operand traffic: a tile reads A
once for each entry of the window).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


@dataclass(frozen=True)
class Tile:
    """How a product is cut: BM rows and BN columns a program, BK deep a step.

    stages   steps of operands on their way;  chunk: columns that are finished at a time
    unroll   neighbouring pixels of a row that are columns of one row
    pieces   shares of a weight gradient's pixels
    """

    BM: int
    BN: int
    BK: int
    warps: int = 4
    stages: int = 3
    chunk: int = 32
    unroll: int = 1
    pieces: int = 1


WHOLE = Tile(1, 1, 1)  # of a product that is not cut yet


class Cut:
    """A product and its tile."""

    tile: Tile

    def cut(self, tile: Tile) -> Any:
        """The same product in other tiles."""
        return replace(self, tile=tile)  # type: ignore[type-var]

    @property
    def BM(self) -> int:
        return self.tile.BM

    @property
    def BN(self) -> int:
        return self.tile.BN

    @property
    def BK(self) -> int:
        return self.tile.BK

    @property
    def stages(self) -> int:
        return self.tile.stages


@dataclass(frozen=True)
class Axis:
    """One of the two axes of the product above.

    size     of A;  out: of Y;  kernel
    phases, step, pad, window, grid    as above
    i0, i_tap, i_phase                 the weight's coordinate: i0 + i_tap * (entry of the window) + i_phase * phase
    """

    size: int
    out: int
    kernel: int
    phases: int
    step: int
    pad: int
    window: int
    i0: int
    i_tap: int
    i_phase: int
    unroll: int = 1

    @property
    def grid(self) -> int:
        return ceil_div(self.out, self.phases)

    @property
    def inside(self) -> bool:
        """Whether windows never leave A."""
        return self.pad == 0 and (self.grid - 1) * self.step + self.window <= self.size

    @property
    def whole(self) -> bool:
        """Whether phases never leave Y."""
        return self.out % self.phases == 0

    @property
    def banded(self) -> bool:
        """Whether the weight's coordinate can lie outside the kernel."""
        ends = [self.i0 + self.i_tap * a + self.i_phase * p for a in (0, self.window - 1) for p in (0, self.phases - 1)]
        return min(ends) < 0 or max(ends) >= self.kernel


def forward_axis(size: int, kernel: int, stride: int, unroll: int = 1) -> Axis:
    """Of a convolution; `unroll` neighbouring outputs are phases of one position."""
    out = (size - kernel) // stride + 1
    return Axis(size, out, kernel, unroll, stride * unroll, 0, kernel + stride * (unroll - 1), 0, 1, -stride, unroll)


def adjoint_axis(size: int, out: int, kernel: int, stride: int, unroll: int = 1) -> Axis:
    """Of an input gradient that makes `out` pixels of `size` pixels of gy, `stride * unroll` a position.

    Where gy is one pixel the stride does not matter, and all of the kernel's pixels are phases of one position.
    """
    if size == 1:
        return Axis(1, out, kernel, kernel, 1, 0, 1, 0, 0, 1)
    reach = ceil_div(kernel, stride) - 1
    return Axis(size, out, kernel, stride * unroll, unroll, reach, reach + unroll, stride * reach, -stride, 1, unroll)


@dataclass(frozen=True)
class Epilogue:
    """What happens to the product's tile before it is stored.

    bias        0: none, 1: tied, 2: untied
    slope       of leaky ReLU;  1 leaves the value alone
    keep_from, keep_scale    dropout's constants (`philox.dropout_arguments`)
    moments     per-channel mean and variance are wanted
    through     the tile is a gradient that goes on through a batch norm's leaky ReLU (of slope `slope`) and dropout,
                per-channel sums are wanted;  x_pitch: of the batch norm's input
    """

    bias: int = 0
    slope: float = 1.0
    sigmoid: bool = False
    keep_from: int = -1
    keep_scale: float = 1.0
    moments: bool = False
    through: bool = False
    x_pitch: int = 0

    @property
    def tied(self) -> bool:
        return self.bias == 1

    @property
    def untied(self) -> bool:
        return self.bias == 2

    @property
    def leaky(self) -> bool:
        return self.slope != 1.0

    @property
    def drops(self) -> bool:
        return self.keep_from >= 0

    @property
    def reduces(self) -> bool:
        return self.moments or self.through


@dataclass(frozen=True)
class Windows(Cut):
    """The product above, cut into tiles. Weights are w[o, i, j, c]; columns are o, or c where `adjoint`.

    depth, pitch           channels of A, elements from one of its pixels to the next
    channels               of Y;  columns: of one of its pixels as it is stored, pads among them
    w_pitch                elements from one pixel of the weight to the next
    pieces                 of maxout: columns that make one of Y
    dot                    "bf16", "tf32" (or "tf32-in-bits" in the interpreter) or "fp32"
    """

    h: Axis
    w: Axis
    adjoint: bool
    depth: int
    pitch: int
    channels: int
    columns: int
    w_pitch: int
    pieces: int
    dot: str
    tile: Tile = WHOLE

    @property
    def unroll(self) -> int:
        return self.w.unroll

    @property
    def chunk(self) -> int:
        return self.tile.chunk

    @property
    def taps(self) -> int:
        """Entries of the window."""
        return self.h.window * self.w.window

    @property
    def phases(self) -> int:
        return self.h.phases * self.w.phases

    @property
    def positions(self) -> int:
        """Rows of the product for one image."""
        return self.h.grid * self.w.grid

    @property
    def flat(self) -> bool:
        """Whether a block of k may hold several entries of the window, pads of their pixels included."""
        return self.depth % self.BK != 0

    @property
    def K(self) -> int:
        return self.taps * (self.pitch if self.flat else self.depth)

    @property
    def steps(self) -> int:
        return ceil_div(self.K, self.BK)

    @property
    def P2(self) -> int:
        """Places for the pieces of a maxout: a power of two."""
        return power_of_two(self.pieces)

    @property
    def NP(self) -> int:
        """Columns of a phase."""
        return self.columns * self.P2

    @property
    def N(self) -> int:
        return self.phases * self.NP

    @property
    def tiles_n(self) -> int:
        return ceil_div(self.N, self.BN)

    @property
    def w_channels(self) -> int:
        """Channels of the weight along the columns that may be read: pads are zeros."""
        return self.w_pitch if self.adjoint else self.channels * self.pieces

    @property
    def w_depth(self) -> int:
        """The same along k."""
        return self.depth if self.adjoint else self.w_pitch

    @property
    def w_row(self) -> int:
        """Elements from one o of the weight to the next."""
        return self.h.kernel * self.w.kernel * self.w_pitch

    @property
    def inside(self) -> bool:
        return self.h.inside and self.w.inside

    @property
    def whole(self) -> bool:
        return self.h.whole and self.w.whole

    @property
    def banded(self) -> bool:
        return self.h.banded or self.w.banded

    @property
    def run(self) -> int:
        """Columns (without pieces) that are neighbours in a pixel and share random numbers: a power of two."""
        whole = self.columns if self.phases > 1 else 16
        return min(16, min(self.chunk, self.BN) // self.P2, whole & -whole)

    @property
    def blocks(self) -> int:
        """Blocks of channels that are reduced apart: where every tile keeps within one."""
        return ceil_div(self.columns, self.BN) if self.phases == 1 or self.columns % self.BN == 0 else 1

    @property
    def block_columns(self) -> int:
        return self.BN if self.blocks > 1 else self.columns

    @property
    def group(self) -> int:
        """Tiles of rows whose parts one program merges."""
        return 32

    @property
    def merge_rows(self) -> int:
        return max(4, min(32, 2048 // self.BN))


@dataclass(frozen=True)
class WeightProduct(Cut):
    """gw[o, i, j, c] = sum over pixels of small[n, a, b, o] * big[n, stride a + i, stride b + j, c], cut into tiles:
    rows are (i, j, c) with c over the pitch of `big`, columns are o.

    in_*, pitch    of big: (N, H, W, C);  out_*, gy_pitch: of small: (N, Ho, Wo, O)
    """

    in_h: int
    in_w: int
    C: int
    pitch: int
    out_h: int
    out_w: int
    O: int
    gy_pitch: int
    kernel_h: int
    kernel_w: int
    stride: int
    dot: str
    tile: Tile = WHOLE

    @property
    def pixels(self) -> int:
        """Of small, in an image."""
        return self.out_h * self.out_w

    @property
    def taps(self) -> int:
        return self.kernel_h * self.kernel_w

    @property
    def M(self) -> int:
        return self.taps * self.pitch

    @property
    def tiles_n(self) -> int:
        return ceil_div(self.O, self.BN)

    @property
    def tiles(self) -> int:
        return ceil_div(self.M, self.BM) * self.tiles_n
