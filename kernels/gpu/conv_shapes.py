"""What the convolutions' kernels know when they are compiled: sizes, pitches, tiles, what follows the product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .conv_axes import Axis
from .table import ceil_div, power_of_two


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
        return self.slope != 1.0 and not self.through

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
    O: int  # noqa: E741
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
