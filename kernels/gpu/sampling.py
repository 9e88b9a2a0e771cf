"""Random numbers from counters, and reparameterised Gaussian sampling: noise is drawn where it is used, never stored.

    z = mu + exp(log_sigma) * eps,   eps ~ N(0, I)                        (paper, section 2; method 1.4)
    gmu = gz,   glog_sigma = gz * eps * exp(log_sigma)

Normals are the CPU's Box-Muller pairs (cpu/sampling.py), one pair for each 64-bit word of Philox, eight numbers for
each of its blocks, in float32: with k = 2 (low >> 8) + 1,

    radius = sqrt(-2 ln(k / 2^25)),   angle = 2 pi high / 2^32,   eps = radius cos(angle), radius sin(angle)

A GPU's fast ln is wrong where its argument is near 1, just where the radius is small, and k / 2^25 does not fit a
float32 there. So the logarithm is a series around 1 in the exact difference to it, and sine and cosine are series
behind an exact reduction of the angle's bits to an eighth of a turn: the same code everywhere, within 1e-6 of the CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import device
from ..arrays import Array, Counters
from ..launch import Int64, Work, jit, launch, tl
from .philox import philox_words

WORDS = 32  # Philox blocks a program, of eight numbers: small, since a step draws few numbers and waits for them


@jit
def _radius(low):
    """sqrt(-2 ln(k / 2^25)), k = 2 (low >> 8) + 1. ln(m 2^e) = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1)."""
    k = 2 * (low >> 8).to(tl.int32) + 1
    bits = k.to(tl.float32).to(tl.int32, bitcast=True)
    e = (bits - 0x3F3504F3) >> 23  # so that m lies in [sqrt(1/2), sqrt(2))
    m = (bits - (e << 23)).to(tl.float32, bitcast=True)
    over = tl.where(e == 25, (k - 33554432).to(tl.float32) * 2.0**-25, m - 1.0)  # m - 1: exact where k has 25 bits
    s = over / (over + 2.0)
    ss = s * s
    series = 1.0 + ss * (1 / 3 + ss * (1 / 5 + ss * (1 / 7)))
    logarithm = (e - 25).to(tl.float32) * 0.6931471805599453 + 2.0 * s * series
    return tl.sqrt(-2.0 * logarithm)


@jit
def _cos_sin(high):
    """Cosine and sine of 2 pi high / 2^32: the nearest quarter turn, and a series in what is left."""
    quarter = (high + 0x20000000) >> 30  # modulo 2^32
    left = (high - (quarter << 30)).to(tl.int32, bitcast=True)
    a = left.to(tl.float32) * 1.4629180792671596e-09  # 2 pi / 2^32: a in [-pi / 4, pi / 4]
    aa = a * a
    cos = 1.0 + aa * (-1 / 2 + aa * (1 / 24 + aa * (-1 / 720 + aa * (1 / 40320))))
    sin = a * (1.0 + aa * (-1 / 6 + aa * (1 / 120 + aa * (-1 / 5040 + aa * (1 / 362880)))))
    odd = (quarter & 1) != 0
    first, second = tl.where(odd, sin, cos), tl.where(odd, cos, sin)
    return (tl.where(((quarter + 1) & 2) != 0, -first, first), tl.where((quarter & 2) != 0, -second, second))


@jit
def normals(clock_ptr, stream, first, WORDS: tl.constexpr):
    """Numbers [8 first, 8 (first + WORDS)) of a stream: (8 WORDS,) float32, each thread's own eight side by side."""
    w0, w1, w2, w3 = philox_words(clock_ptr, stream, first + tl.arange(0, WORDS))
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # (WORDS, 2, 2): word 2 i + j at [i, j]
    cos, sin = _cos_sin((words >> 32).to(tl.uint32))
    radius = _radius((words & 0xFFFFFFFF).to(tl.uint32))
    return tl.reshape(tl.join(radius * cos, radius * sin), (8 * WORDS,))


@jit
def _clear_pads(x_ptr, row, col, mask, C: tl.constexpr, PITCH: tl.constexpr):
    """Zeros behind the C channels of each row whose first column is among the elements."""
    for pad in tl.static_range(C, PITCH):
        tl.store(x_ptr + row * PITCH + pad, (row * 0).to(x_ptr.dtype.element_ty), mask=mask & (col == 0))


@jit
def normal_kernel(y_ptr, clock_ptr, stream, size, C: tl.constexpr, PITCH: tl.constexpr, WORDS: tl.constexpr):
    """y: (rows, C), of size = rows C elements: the first numbers of the stream."""
    first = tl.program_id(0) * WORDS
    offs = 8 * first + tl.arange(0, 8 * WORDS)
    mask = offs < size
    row, col = offs // C, offs % C
    eps = normals(clock_ptr, stream, first, WORDS)
    tl.store(y_ptr + row * PITCH + col, eps.to(y_ptr.dtype.element_ty), mask=mask)
    _clear_pads(y_ptr, row, col, mask, C, PITCH)


@jit
def gaussian_sample_kernel(params_ptr, z_ptr, clock_ptr, stream, size, NZ: tl.constexpr, PITCH: tl.constexpr,
                           Z_PITCH: tl.constexpr, WORDS: tl.constexpr):  # fmt: skip
    """params: (rows, 2 NZ), z: (rows, NZ), of size = rows NZ elements."""
    first = tl.program_id(0) * WORDS
    offs = 8 * first + tl.arange(0, 8 * WORDS)
    mask = offs < size
    row, col = offs // NZ, offs % NZ
    mu = tl.load(params_ptr + row * PITCH + col, mask=mask, other=0.0).to(tl.float32)
    log_sigma = tl.load(params_ptr + row * PITCH + NZ + col, mask=mask, other=0.0).to(tl.float32)
    z = mu + tl.exp(log_sigma) * normals(clock_ptr, stream, first, WORDS)
    tl.store(z_ptr + row * Z_PITCH + col, z.to(z_ptr.dtype.element_ty), mask=mask)
    _clear_pads(z_ptr, row, col, mask, NZ, Z_PITCH)


@jit
def gaussian_sample_grad_kernel(gz_ptr, params_ptr, gparams_ptr, clock_ptr, stream, size, NZ: tl.constexpr,
                                GZ_PITCH: tl.constexpr, PITCH: tl.constexpr, G_PITCH: tl.constexpr,
                                WORDS: tl.constexpr):  # fmt: skip
    """gz: (rows, NZ), params, gparams: (rows, 2 NZ)."""
    first = tl.program_id(0) * WORDS
    offs = 8 * first + tl.arange(0, 8 * WORDS)
    mask = offs < size
    row, col = offs // NZ, offs % NZ
    gz = tl.load(gz_ptr + row * GZ_PITCH + col, mask=mask, other=0.0).to(tl.float32)
    log_sigma = tl.load(params_ptr + row * PITCH + NZ + col, mask=mask, other=0.0).to(tl.float32)
    glog_sigma = gz * normals(clock_ptr, stream, first, WORDS) * tl.exp(log_sigma)
    gparams_ptrs = gparams_ptr + row * G_PITCH + col
    tl.store(gparams_ptrs, gz.to(gparams_ptr.dtype.element_ty), mask=mask)
    tl.store(gparams_ptrs + NZ, glog_sigma.to(gparams_ptr.dtype.element_ty), mask=mask)
    _clear_pads(gparams_ptr, row, col, mask, 2 * NZ, G_PITCH)


def _launch(kernel: Any, arrays: dict[str, Any], constants: dict[str, Any], counters: Counters, size: int) -> None:
    """Over `size` normal numbers, with the stream's counters; bytes: every array once."""
    stream = counters.stream - (counters.stream >> 63 << 64)  # the same 64 bits, as a signed number
    arguments = {**arrays, "clock_ptr": device.clock_of(counters), "stream": Int64(stream), "size": size}
    *read, written = arrays.values()
    work = Work(sum(a.nbytes for a in read), written.nbytes, 60 * size)  # about: Philox's integers are not counted
    constants = {**constants, "WORDS": WORDS}
    launch(kernel, -(-size // (8 * WORDS)), arguments, constants, warps=1, stages=1, work=work)


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """In padded pixels where there is more than one axis: a vector is no activation."""
    return device.empty_activation(shape, dtype) if len(shape) > 1 else device.empty(shape, dtype)


def normal(shape: tuple[int, ...], counters: Counters, dtype: Any = np.float32) -> Array:
    """Standard normal numbers of a stream in C order.

    shape   any
    dtype   float32, or bfloat16: the same numbers rounded

    Returns an array of `shape`, in padded pixels where it has more than one axis. |eps| is at most 5.9, as on the CPU.
    """
    y = _empty(shape, dtype)
    pitch = device.pitch(y) if shape else 1
    # of numbers that lie side by side it does not matter in which rows
    constants = {"C": shape[-1], "PITCH": pitch} if shape and pitch > shape[-1] else {"C": 1, "PITCH": 1}
    _launch(normal_kernel, {"y_ptr": y}, constants, counters, math.prod(shape))
    return y


def _half(name: str, params: Array) -> int:
    """nz of (..., 2 nz)."""
    if params.shape[-1] % 2:
        raise ValueError(f"{name}: params {params.shape} must hold mu and log sigma: an even last axis")
    return params.shape[-1] // 2


def gaussian_sample(params: Array, counters: Counters, *, dtype: Any = None) -> Array:
    """z = mu + exp(log sigma) * eps.

    params    (..., 2 nz) float32 or bfloat16: mu, then log sigma, along the last axis
    counters  the stream of eps
    dtype     of z, where it is not that of params

    Returns z: (..., nz), in padded pixels.
    """
    nz = _half("gaussian_sample", params)
    z = _empty((*params.shape[:-1], nz), params.dtype if dtype is None else dtype)
    constants = {"NZ": nz, "PITCH": device.pitch(params), "Z_PITCH": device.pitch(z)}
    _launch(gaussian_sample_kernel, {"params_ptr": params, "z_ptr": z}, constants, counters, z.size)
    return z


def gaussian_sample_grad(gz: Array, params: Array, counters: Counters) -> Array:
    """Gradient of `gaussian_sample`; eps is drawn again from its counters.

    gz  (..., nz), of any of the dtypes.  Returns gparams: (..., 2 nz) of params' dtype, in padded pixels.
    """
    nz = _half("gaussian_sample_grad", params)
    if gz.shape != (*params.shape[:-1], nz):
        raise ValueError(f"gaussian_sample_grad: gz has shape {gz.shape}, wanted {(*params.shape[:-1], nz)}")
    gparams = _empty(params.shape, params.dtype)
    pitches = {"GZ_PITCH": device.pitch(gz), "PITCH": device.pitch(params), "G_PITCH": device.pitch(gparams)}
    arrays = {"gz_ptr": gz, "params_ptr": params, "gparams_ptr": gparams}
    _launch(gaussian_sample_grad_kernel, arrays, {"NZ": nz, **pitches}, counters, gz.size)
    return gparams
