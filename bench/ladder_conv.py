"""A ladder for one convolution with bias and leaky ReLU: the 4x4 layer from 64 to 128 maps of the SVHN networks.

    y[n,a,b,o] = leaky_relu(sum_{i,j,c} x[n, s a + i, s b + j, c] w[o,i,j,c] + bias[o])

Here the multiplications count: 1,024 for each output, some 260 for each byte that has to travel. So the rungs differ in
who multiplies (one lane at a time, or a tensor core), in how many products each number fetched takes part in, and in
what becomes of the sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit.kernels import device
from alikit.kernels.arrays import Activation
from alikit.kernels.launch import Work, jit, launch, tl
from bench.ladder import Ladder, Rung

SLOPE = 0.02
BM, BN, BK = 64, 64, 64  # outputs, maps, and products at a time
#: images, size, channels, kernel, stride, maps
SIZES, TINY = (100, 13, 64, 4, 1, 128), (2, 6, 32, 3, 2, 16)


class Problem(NamedTuple):
    """x: (N, H, H, C), w: (O, k, k, C) of some dtype; bias: (O,) float32; block: of BM, BN and BK."""

    x: Any
    w: Any
    bias: Any
    stride: int
    precision: str
    block: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Pixels of y along an edge."""
        return (self.x.shape[1] - self.w.shape[1]) // self.stride + 1

    @property
    def rows(self) -> int:
        """Pixels of y in all."""
        return len(self.x) * self.size**2

    @property
    def y_bytes(self) -> int:
        return self.rows * len(self.w) * self.x.dtype.itemsize

    @property
    def least_bytes(self) -> int:
        """x, w and bias read, y written."""
        return self.x.nbytes + self.w.nbytes + self.bias.nbytes + self.y_bytes

    @property
    def constants(self) -> dict[str, int]:
        """What a kernel knows when it is compiled."""
        _, h, _, c = self.x.shape
        bm, bn, _ = self.block
        return {"H": h, "C": c, "MAPS": len(self.w), "K": self.w.shape[1], "S": self.stride, "OH": self.size,
                "BM": bm, "BN": bn}  # fmt: skip

    @property
    def grid(self) -> tuple[int, int]:
        bm, bn, _ = self.block
        return -(-self.rows // bm), len(self.w) // bn


def problem(tiny: bool) -> Problem:
    """Random images and weights; bfloat16 where they are many."""
    import ml_dtypes
    import numpy as np

    n, size, c, k, stride, maps = TINY if tiny else SIZES
    dtype = np.dtype(np.float32 if tiny else ml_dtypes.bfloat16)
    rng = np.random.default_rng(8)
    x = rng.standard_normal((n, size, size, c), np.float32).astype(dtype)
    w = (rng.standard_normal((maps, k, k, c), np.float32) / np.sqrt(k * k * c)).astype(dtype)
    bias = rng.standard_normal(maps, np.float32)
    put = device.from_host
    block = (16, 16, 16) if tiny else (BM, BN, BK)
    return Problem(put(x), put(w), put(bias), stride, "fp32" if tiny else "bf16", block)


def answer(p: Problem) -> list[Any]:
    """The CPU kernel's y."""
    import numpy as np

    from alikit.kernels.cpu.conv import conv2d

    x, w, bias = (device.to_host(a).astype(np.float32) for a in (p.x, p.w, p.bias))
    return [conv2d(x, w, bias, stride=p.stride, activation=Activation("leaky_relu", SLOPE))[0]]


@jit
def windows(m, H: tl.constexpr, C: tl.constexpr, S: tl.constexpr, OH: tl.constexpr):
    """Where in x the windows of outputs m begin."""
    image, place = m // (OH * OH), m % (OH * OH)
    return ((image * H + place // OH * S) * H + place % OH * S) * C


@jit
def plain_kernel(x_ptr, w_ptr, y_ptr, rows, H: tl.constexpr, C: tl.constexpr, MAPS: tl.constexpr, K: tl.constexpr,
                 S: tl.constexpr, OH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    start = windows(m, H, C, S, OH)
    acc = tl.zeros((BM, BN), tl.float32)
    for tap in range(K * K):
        pixel = (tap // K * H + tap % K) * C
        for c in range(C):
            x = tl.load(x_ptr + start + pixel + c, mask=m < rows, other=0.0).to(tl.float32)
            w = tl.load(w_ptr + (n * K * K + tap) * C + c).to(tl.float32)
            acc += x[:, None] * w[None, :]
    tl.store(y_ptr + m[:, None] * MAPS + n[None, :], acc.to(y_ptr.dtype.element_ty), mask=(m < rows)[:, None])


@jit
def bias_leaky_kernel(a_ptr, bias_ptr, y_ptr, rows, slope, MAPS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    m, n = tl.program_id(0) * BM + tl.arange(0, BM)[:, None], tl.program_id(1) * BN + tl.arange(0, BN)
    a = tl.load(a_ptr + m * MAPS + n[None, :], mask=m < rows, other=0.0).to(tl.float32) + tl.load(bias_ptr + n)[None, :]
    tl.store(y_ptr + m * MAPS + n[None, :], tl.where(a > 0, a, a * slope).to(y_ptr.dtype.element_ty), mask=m < rows)


@jit
def gemm_kernel(x_ptr, w_ptr, bias_ptr, y_ptr, rows, steps, slope, H: tl.constexpr, C: tl.constexpr,
                MAPS: tl.constexpr, K: tl.constexpr, S: tl.constexpr, OH: tl.constexpr, BM: tl.constexpr,
                BN: tl.constexpr, BK: tl.constexpr, FUSED: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """A row of the left matrix is a window of x, laid out as it lies in memory, tap by tap; none is ever built. steps:
    K K C / BK, told at run time, or the loop would be unrolled."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    start, k = windows(m, H, C, S, OH), tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for step in tl.range(0, steps, num_stages=STAGES):
        tap, c = step // (C // BK), step % (C // BK) * BK + k
        pixel = (tap // K * H + tap % K) * C
        x = tl.load(x_ptr + (start + pixel)[:, None] + c[None, :], mask=(m < rows)[:, None], other=0.0)
        w = tl.load(w_ptr + ((n * K * K + tap) * C)[None, :] + c[:, None])
        acc = tl.dot(x, w, acc, input_precision="ieee")
    if FUSED:
        acc += tl.load(bias_ptr + n)[None, :]
        acc = tl.where(acc > 0, acc, acc * slope)
    tl.store(y_ptr + m[:, None] * MAPS + n[None, :], acc.to(y_ptr.dtype.element_ty), mask=(m < rows)[:, None])


def _empty(p: Problem) -> Any:
    return device.empty((len(p.x), p.size, p.size, len(p.w)), p.x.dtype)


def _bias_leaky(p: Problem, a: Any) -> Any:
    y, (bm, bn, _) = _empty(p), p.block
    arguments = {"a_ptr": a, "bias_ptr": p.bias, "y_ptr": y, "rows": p.rows, "slope": SLOPE}
    work = Work(a.nbytes + p.bias.nbytes, y.nbytes)
    launch(bias_leaky_kernel, p.grid, arguments, {"MAPS": len(p.w), "BM": bm, "BN": bn}, work=work)
    return y


def _gemm(p: Problem, *, fused: bool) -> Any:
    y = _empty(p)
    arguments = {"x_ptr": p.x, "w_ptr": p.w, "bias_ptr": p.bias, "y_ptr": y, "rows": p.rows, "slope": SLOPE}
    arguments |= {"steps": p.w[0].size // p.block[2]}
    constants = {**p.constants, "BK": p.block[2], "FUSED": fused, "STAGES": 3}
    work = Work(p.x.nbytes + p.w.nbytes + fused * p.bias.nbytes, y.nbytes)
    launch(gemm_kernel, p.grid, arguments, constants, stages=3, work=work)
    return y


def plain(p: Problem) -> list[Any]:
    """The formula: for each tap and channel, a number of x for every output pixel and a number of w for every map are
    multiplied into a tile of sums. Lanes multiply one by one, and each loads two bytes at a time from pixels that are
    not neighbours; then bias and leaky ReLU by a kernel of their own."""
    a = _empty(p)
    arguments = {"x_ptr": p.x, "w_ptr": p.w, "y_ptr": a, "rows": p.rows}
    launch(plain_kernel, p.grid, arguments, p.constants, work=Work(p.x.nbytes + p.w.nbytes, a.nbytes))
    return [_bias_leaky(p, a)]


def implicit_gemm(p: Problem) -> list[Any]:
    """The same sums as a product of matrices, (pixels x taps and channels) (taps and channels x maps), for tensor
    cores. The left matrix is not built: each step copies 64 channels of one tap, 16 bytes at a time, into shared memory
    while the step before is multiplied."""
    return [_bias_leaky(p, _gemm(p, fused=False))]


def fused(p: Problem) -> list[Any]:
    """Bias and leaky ReLU are applied to the sums while they are in registers, before they are rounded: a journey of
    y there and back is saved, and a launch."""
    return [_gemm(p, fused=True)]


def final(p: Problem) -> list[Any]:
    """What training uses. The tile is chosen for the layer and the GPU (`kernels/tiles.py`); neighbouring pixels may
    become columns, so that a window is fetched once for several outputs; the same kernel is the input gradient, and
    takes a batch norm's moments, dropout or maxout along."""
    from alikit.kernels.gpu.conv import conv2d

    activation = Activation("leaky_relu", SLOPE)
    return [conv2d(p.x, p.w, p.bias, stride=p.stride, activation=activation, precision=p.precision)[0]]


LADDER = Ladder(
    title="convolution with bias and leaky ReLU",
    problem=problem,
    answer=answer,
    rungs=[Rung("plain", plain), Rung("implicit GEMM", implicit_gemm), Rung("fused", fused), Rung("final", final)],
    flops=lambda p: 2.0 * p.rows * p.w.size,
)
