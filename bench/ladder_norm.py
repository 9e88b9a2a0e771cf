"""A ladder for batch norm + leaky ReLU in training: x (rows, C) -> y, and the mean and 1 / std of each channel.

    mean = E x,   var = E (x - mean)^2,   y = leaky_relu(gamma (x - mean) / sqrt(var + eps) + beta)

There is nothing to compute in it: a GPU could do a hundred operations in the time it takes to fetch a number. So the
rungs differ in how often x travels, and in how well each journey uses the width of the memory. The least is three
journeys (read, read, write), or two behind a convolution that has taken the moments of its own output. Sums are of
x - x[0]: squares of numbers far from zero would lose their digits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alikit.kernels import device
from alikit.kernels.launch import Work, jit, launch, tl
from bench.ladder import Ladder, Rung

EPS, SLOPE = 1e-4, 0.02
SHAPE, TINY = (512, 32, 32, 64), (3, 5, 5, 32)  # 67 MB in bfloat16: beyond any GPU's cache
BM, BN, BLOCK = 64, 32, 1024
PROGRAMS = 1056  # that share the rows: eight for each multiprocessor of an H100


class Problem(NamedTuple):
    """x: (..., C) of some dtype; gamma, beta: (C,) float32; moments: (mean, var) of x, float32."""

    x: Any
    gamma: Any
    beta: Any
    moments: tuple[Any, Any]

    @property
    def channels(self) -> int:
        return self.x.shape[-1]

    @property
    def rows(self) -> int:
        return self.x.size // self.channels

    @property
    def least_bytes(self) -> int:
        """x read, y written."""
        return 2 * self.x.nbytes


def problem(tiny: bool) -> Problem:
    """Numbers far from zero with gamma and beta of their own; bfloat16 where they are many."""
    import ml_dtypes
    import numpy as np

    rng = np.random.default_rng(7)
    dtype = np.dtype(np.float32 if tiny else ml_dtypes.bfloat16)
    shape = TINY if tiny else SHAPE
    x = (rng.standard_normal(shape, np.float32) * rng.uniform(0.5, 2, shape[-1]) + 3).astype(dtype)
    exact = x.astype(np.float64).reshape(-1, shape[-1])
    moments = exact.mean(0).astype(np.float32), exact.var(0).astype(np.float32)
    gamma, beta = rng.uniform(-2, 2, (2, shape[-1])).astype(np.float32)
    put = device.from_host
    return Problem(put(x), put(gamma), put(beta), (put(moments[0]), put(moments[1])))


def answer(p: Problem) -> list[Any]:
    """The CPU kernel's y, mean, 1 / std."""
    import numpy as np

    from alikit.kernels.cpu.norm import batch_norm_leaky_relu

    x, gamma, beta = (device.to_host(a).astype(np.float64) for a in (p.x, p.gamma, p.beta))
    return list(batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=SLOPE))


@jit
def plain_kernel(x_ptr, gamma_ptr, beta_ptr, y_ptr, mean_ptr, inv_std_ptr, rows, eps, slope, C: tl.constexpr,
                 BLOCK: tl.constexpr):  # fmt: skip
    c = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.float32)
    for row0 in range(0, rows, BLOCK):
        r = row0 + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + r * C + c, mask=r < rows, other=0.0).to(tl.float32)
    mean = tl.sum(total) / rows
    total = tl.zeros((BLOCK,), tl.float32)
    for row0 in range(0, rows, BLOCK):
        r = row0 + tl.arange(0, BLOCK)
        centred = tl.load(x_ptr + r * C + c, mask=r < rows, other=0.0).to(tl.float32) - mean
        total += tl.where(r < rows, centred * centred, 0.0)
    inv_std = tl.rsqrt(tl.sum(total) / rows + eps)
    tl.store(mean_ptr + c, mean)
    tl.store(inv_std_ptr + c, inv_std)
    scale, beta = tl.load(gamma_ptr + c) * inv_std, tl.load(beta_ptr + c)
    for row0 in range(0, rows, BLOCK):
        r = row0 + tl.arange(0, BLOCK)
        a = (tl.load(x_ptr + r * C + c, mask=r < rows, other=0.0).to(tl.float32) - mean) * scale + beta
        tl.store(y_ptr + r * C + c, tl.where(a > 0, a, a * slope).to(y_ptr.dtype.element_ty), mask=r < rows)


def plain(p: Problem) -> list[Any]:
    """One program for each channel walks over its numbers three times, as the formula is read. They lie C apart, so a
    thread's two bytes come in a sector of 32, of which nothing else is used; and there are only C programs, which
    leave most of the GPU idle."""
    y, mean, inv_std = device.empty(p.x.shape, p.x.dtype), device.empty(p.channels), device.empty(p.channels)
    arguments = {"x_ptr": p.x, "gamma_ptr": p.gamma, "beta_ptr": p.beta, "y_ptr": y, "mean_ptr": mean}
    arguments |= {"inv_std_ptr": inv_std, "rows": p.rows, "eps": EPS, "slope": SLOPE}
    work = Work(3 * p.x.nbytes, y.nbytes)
    launch(plain_kernel, p.channels, arguments, {"C": p.channels, "BLOCK": BLOCK}, work=work)
    return [y, mean, inv_std]


@jit
def sums_kernel(x_ptr, part_ptr, rows, each, C: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """part: (shares, 2, C): sums of x - x[0] and of its square over a share of `each` rows."""
    share, c = tl.program_id(0), tl.program_id(1) * BN + tl.arange(0, BN)
    pivot = tl.load(x_ptr + c).to(tl.float32)[None, :]
    first, second = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for row0 in range(share * each, min(share * each + each, rows), BM):
        r = row0 + tl.arange(0, BM)[:, None]
        x = tl.load(x_ptr + r * C + c[None, :], mask=r < rows, other=0.0).to(tl.float32)
        x = tl.where(r < rows, x - pivot, 0.0)
        first += x
        second += x * x
    tl.store(part_ptr + share * 2 * C + c, tl.sum(first, 0))
    tl.store(part_ptr + (share * 2 + 1) * C + c, tl.sum(second, 0))


@jit
def merge_kernel(x_ptr, part_ptr, mean_ptr, inv_std_ptr, rows, shares, eps, C: tl.constexpr, BM: tl.constexpr,
                 BN: tl.constexpr):  # fmt: skip
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    first, second = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for share0 in range(0, shares, BM):
        share = share0 + tl.arange(0, BM)[:, None]
        first += tl.load(part_ptr + share * 2 * C + c[None, :], mask=share < shares, other=0.0)
        second += tl.load(part_ptr + (share * 2 + 1) * C + c[None, :], mask=share < shares, other=0.0)
    shift = tl.sum(first, 0) / rows
    tl.store(mean_ptr + c, tl.load(x_ptr + c).to(tl.float32) + shift)
    tl.store(inv_std_ptr + c, tl.rsqrt(tl.sum(second, 0) / rows - shift * shift + eps))


@jit
def normalise_kernel(x_ptr, gamma_ptr, beta_ptr, mean_ptr, inv_std_ptr, y_ptr, rows, slope, C: tl.constexpr,
                     BM: tl.constexpr, BN: tl.constexpr, LEAKY: tl.constexpr):  # fmt: skip
    r, c = tl.program_id(0) * BM + tl.arange(0, BM)[:, None], tl.program_id(1) * BN + tl.arange(0, BN)
    scale = tl.load(gamma_ptr + c) * tl.load(inv_std_ptr + c)
    mean, beta = tl.load(mean_ptr + c), tl.load(beta_ptr + c)
    x = tl.load(x_ptr + r * C + c[None, :], mask=r < rows, other=0.0).to(tl.float32)
    y = (x - mean[None, :]) * scale[None, :] + beta[None, :]
    if LEAKY:
        y = tl.where(y > 0, y, y * slope)
    tl.store(y_ptr + r * C + c[None, :], y.to(y_ptr.dtype.element_ty), mask=r < rows)


@jit
def leaky_kernel(a_ptr, y_ptr, rows, slope, C: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    r, c = tl.program_id(0) * BM + tl.arange(0, BM)[:, None], tl.program_id(1) * BN + tl.arange(0, BN)[None, :]
    a = tl.load(a_ptr + r * C + c, mask=r < rows, other=0.0)
    tl.store(y_ptr + r * C + c, tl.where(a > 0, a, a * slope).to(y_ptr.dtype.element_ty), mask=r < rows)


def _statistics(p: Problem) -> tuple[Any, Any]:
    """mean and 1 / std by two launches: sums of shares, then the sum of the sums."""
    each = -(-p.rows // PROGRAMS // BM) * BM
    shares = -(-p.rows // each)
    part, mean, inv_std = device.empty((shares, 2, p.channels)), device.empty(p.channels), device.empty(p.channels)
    constants = {"C": p.channels, "BM": BM, "BN": BN}
    arguments = {"x_ptr": p.x, "part_ptr": part, "rows": p.rows}
    grid = (shares, p.channels // BN)
    launch(sums_kernel, grid, {**arguments, "each": each}, constants, work=Work(p.x.nbytes, part.nbytes))
    arguments |= {"mean_ptr": mean, "inv_std_ptr": inv_std, "shares": shares, "eps": EPS}
    launch(merge_kernel, p.channels // BN, arguments, constants, work=Work(part.nbytes, 8 * p.channels))
    return mean, inv_std


def _normalise(p: Problem, mean: Any, inv_std: Any, leaky: bool) -> Any:
    y = device.empty(p.x.shape, p.x.dtype)
    arguments = {"x_ptr": p.x, "gamma_ptr": p.gamma, "beta_ptr": p.beta, "mean_ptr": mean, "inv_std_ptr": inv_std}
    arguments |= {"y_ptr": y, "rows": p.rows, "slope": SLOPE}
    constants = {"C": p.channels, "BM": BM, "BN": BN, "LEAKY": leaky}
    launch(normalise_kernel, _tiles(p), arguments, constants, work=Work(p.x.nbytes, y.nbytes))
    return y


def _tiles(p: Problem) -> tuple[int, int]:
    return -(-p.rows // BM), p.channels // BN


def tiled(p: Problem) -> list[Any]:
    """A program takes a tile of rows and channels: neighbouring threads read neighbouring channels, 16 bytes each, and
    there are as many programs as one likes. A program sees only some rows, so sums are taken in two launches. The two
    formulas stay two kernels, as two layers of a framework would be: five journeys."""
    mean, inv_std = _statistics(p)
    a = _normalise(p, mean, inv_std, leaky=False)
    y = device.empty(p.x.shape, p.x.dtype)
    arguments = {"a_ptr": a, "y_ptr": y, "rows": p.rows, "slope": SLOPE}
    launch(leaky_kernel, _tiles(p), arguments, {"C": p.channels, "BM": BM, "BN": BN}, work=Work(a.nbytes, y.nbytes))
    return [y, mean, inv_std]


def fused(p: Problem) -> list[Any]:
    """The leaky ReLU is applied while the normalised number is in a register. Two of five journeys are saved, and so
    is the rounding in between."""
    mean, inv_std = _statistics(p)
    return [_normalise(p, mean, inv_std, leaky=True), mean, inv_std]


def final(p: Problem) -> list[Any]:
    """What training uses where nobody has the moments: the program that finishes last adds up the sums of the others,
    so the small launch in between is gone, which matters for the small tensors of most layers. Means of shares and
    squares around them are merged by Chan's formula. Padded pixels, dropout and any number of channels are allowed
    for."""
    from alikit.kernels.gpu.norm import batch_norm_leaky_relu

    return list(batch_norm_leaky_relu(p.x, p.gamma, p.beta, eps=EPS, slope=SLOPE))


def behind_a_convolution(p: Problem) -> list[Any]:
    """What training uses nearly everywhere: the convolution took the moments of its output while that was in registers.
    x travels once, y once, and there is no way to do with less but to leave y to the next convolution as well."""
    from alikit.kernels.gpu.norm import batch_norm_leaky_relu

    return list(batch_norm_leaky_relu(p.x, p.gamma, p.beta, p.moments, eps=EPS, slope=SLOPE))


def copy(p: Problem) -> list[Any]:
    """A copy of x, by the same tiles: the speed of the memory."""
    y = device.empty(p.x.shape, p.x.dtype)
    arguments = {"a_ptr": p.x, "y_ptr": y, "rows": p.rows, "slope": 1.0}
    work = Work(p.x.nbytes, y.nbytes)
    launch(leaky_kernel, _tiles(p), arguments, {"C": p.channels, "BM": BM, "BN": BN}, work=work)
    return [y]


LADDER = Ladder(
    title="batch norm + leaky ReLU, forward",
    problem=problem,
    answer=answer,
    rungs=[
        Rung("plain", plain),
        Rung("tiled", tiled),
        Rung("fused", fused),
        Rung("final", final),
        Rung("behind a convolution", behind_a_convolution),
    ],
    floor=Rung("a copy of x", copy),
)
