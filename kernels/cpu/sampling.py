"""Random numbers from counters, and reparameterised Gaussian sampling.

The bits are Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), which NumPy has in C:
the words of stream (seed, step, stream) are numbered, and any stretch of them can be drawn by itself.

    z = mu + exp(log_sigma) * eps,   eps ~ N(0, I)                        (paper, section 2; method 1.4)
    gmu = gz,   glog_sigma = gz * eps * exp(log_sigma)

Normals are Box-Muller pairs, one for each 64-bit word: u1 and u2 from its low and high 32 bits.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from ..arrays import Counters
from . import passes

_MASK = (1 << 64) - 1
_FRESH: dict[str, Any] = {
    "bit_generator": "Philox",
    "buffer": np.zeros(4, np.uint64),
    "buffer_pos": 4,
    "has_uint32": 0,
    "uinteger": 0,
}
_local = threading.local()


def _generator() -> np.random.Philox:
    """This thread's generator; a new one would ask the system for entropy that nobody needs."""
    if not hasattr(_local, "generator"):
        _local.generator = np.random.Philox(0)
    return _local.generator


def random_words(counters: Counters, start: int, count: int) -> np.ndarray:
    """Words [start, start + count) of a stream: (count,) uint64; `start` is a multiple of four (a Philox block)."""
    seed, step, stream = counters.read()
    # NumPy raises the counter before it draws, hence the - 1; below block 0 that borrows from the whole counter
    value = start // 4 + (step << 128) + (stream << 192) - 1
    words = np.array([(value >> shift) & _MASK for shift in (0, 64, 128, 192)], np.uint64)
    key = np.array([seed & _MASK, 0], np.uint64)
    generator = _generator()
    state: Any = {**_FRESH, "state": {"counter": words, "key": key}}
    generator.state = state
    return generator.random_raw(count)


def random_uint16(counters: Counters, start: int, count: int) -> np.ndarray:
    """Lanes [start, start + count) of a stream at 16 bits an element: (count,) uint16."""
    first = start // 16 * 16
    words = random_words(counters, first // 4, -(-(start + count - first) // 4))
    return words.view(np.uint16)[start - first : start - first + count]


def normal(shape: tuple[int, ...], counters: Counters, dtype: type = np.float32) -> np.ndarray:
    """Standard normal numbers of a stream in C order.

    shape   any
    dtype   float32 or float64; both come from the same 24-bit (u1) and 32-bit (u2) uniforms

    Returns an array of `shape`. |eps| is at most sqrt(2 ln 2^25) = 5.9.
    """
    size = math.prod(shape)
    words = random_words(counters, 0, -(-size // 2))
    out: np.ndarray = np.empty(size, dtype)
    passes.box_muller(words, out)
    return out.reshape(shape)


def _halves(name: str, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if params.shape[-1] % 2:
        raise ValueError(f"{name}: params {params.shape} must hold mu and log sigma: an even last axis")
    half = params.shape[-1] // 2
    return params[..., :half], params[..., half:]


def gaussian_sample(params: np.ndarray, counters: Counters, *, dtype: type | None = None) -> np.ndarray:
    """z = mu + exp(log sigma) * eps.

    params    (..., 2 nz) float32 or float64: mu, then log sigma, along the last axis
    counters  the stream of eps
    dtype     of z, where it differs from that of params

    Returns z: (..., nz).
    """
    mu, log_sigma = _halves("gaussian_sample", params)
    eps = normal(mu.shape, counters, params.dtype.type)
    with np.errstate(over="ignore"):  # an infinite sigma is reported by the training loop, by name
        return (mu + np.exp(log_sigma) * eps).astype(dtype or params.dtype, copy=False)


def gaussian_sample_grad(gz: np.ndarray, params: np.ndarray, counters: Counters) -> np.ndarray:
    """Gradient of `gaussian_sample`; eps is drawn again from its counters.

    gz  (..., nz).  Returns gparams: (..., 2 nz), of the dtype of params.
    """
    _, log_sigma = _halves("gaussian_sample_grad", params)
    if gz.shape != log_sigma.shape:
        raise ValueError(f"gaussian_sample_grad: gz has shape {gz.shape}, wanted {log_sigma.shape}")
    eps = normal(gz.shape, counters, params.dtype.type)
    gparams = np.empty_like(params)
    gmu, glog_sigma = _halves("gaussian_sample_grad", gparams)
    gmu[...] = gz
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(gz * eps, np.exp(log_sigma), out=glog_sigma)
    return gparams
