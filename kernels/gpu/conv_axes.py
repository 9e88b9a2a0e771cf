"""The algebra behind `window_gemm.py`: a convolution and its input gradient as one kind of product.

Rows of the product are the positions of a grid over the output, columns the ph x pw pixels ("phases") that belong to a
position, times channels. An output pixel is (ph g + p, pw h + q), and

    Y[ph g + p, pw h + q, c] = sum over the window's entries (a, v) and k of
                               A[sh g + a - pad, sw h + v - pad, k] * W[i, j, k, c]

    convolution of stride s      i = a - s p,              j = v - s q,              sh = s ph,  pad = 0
    its input gradient           i = s (reach - a) + p,    j = s (reach - v) + q,    sh = ph/s,  pad = reach

with reach = ceil(k / s) - 1, A = 0 outside the image and W = 0 outside the kernel: no inserted zeros, no copies. A
convolution can do with one phase; an input gradient has s x s, all of which read the same window of gy, in a product
s^2 times as wide (`cpu/patches.GatherPlan` is the same algebra). More phases along a row (`unroll`) buy fewer reads of
A, which is read once for each entry of the window, with some multiplications by zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from .table import ceil_div


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
