"""Arrays of the device, whichever it is: CuPy's on a GPU, `DeviceArray` (host memory) where kernels are interpreted or
only planned.

An activation whose channels do not fill whole 16 bytes is given padded pixels: memory (..., P), P = the channels
rounded up to 16 bytes, seen as [..., :C]. Whoever writes such an array writes zeros into the pads. `pitch` tells P.
"""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .arrays import Array
from .guards import Guards
from .host import HOST, DeviceArray
from .launch import arch, mode, use
from .record import address

__all__ = ["DeviceArray", "address", "arch", "mode", "use"]

ALIGNMENT = 16  # bytes: what a copy moves at once
COUNTERS = 1 << 16
CACHED = 512  # small uploaded arrays that are kept

_guards: list[Guards] = []


def module() -> Any:
    """The array library of the device in use: CuPy, or NumPy's functions that give DeviceArrays."""
    if mode() != "cuda":
        return HOST
    import cupy

    return cupy


def is_device(x: Any) -> bool:
    """Whether x is an array of a device: CuPy's or a DeviceArray."""
    if isinstance(x, DeviceArray):
        return True
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def empty(shape: int | Sequence[int], dtype: Any = np.float32) -> Array:
    """An array with unknown content: NaN, between guard zones, within `guarded`."""
    if _guards:
        return _guards[-1].empty(shape, dtype)
    return module().empty(shape, dtype)


def zeros(shape: int | Sequence[int], dtype: Any = np.float32) -> Array:
    """An array of zeros."""
    if _guards:
        x = empty(shape, dtype)
        x[...] = 0
        return x
    return module().zeros(shape, dtype)


def padded(channels: int, dtype: Any) -> int:
    """Elements from one pixel to the next where the pixels are padded."""
    unit = max(1, ALIGNMENT // np.dtype(dtype).itemsize)
    return -(-channels // unit) * unit


def empty_activation(shape: Sequence[int], dtype: Any = np.float32) -> Array:
    """An array (..., C) whose pixels begin at multiples of 16 bytes; its pads are unknown too, and to be written."""
    channels = shape[-1]
    whole = empty((*shape[:-1], padded(channels, dtype)), dtype)
    if _guards:
        _guards[-1].expect_zero_pads(whole, channels)
    return whole[..., :channels]


def pitch(x: Array) -> int:
    """Elements from one pixel (all axes but the last) to the next; ValueError where pixels are not evenly spaced."""
    size, channels = x.dtype.itemsize, x.shape[-1]
    axes = [(n, stride // size) for n, stride in zip(x.shape[:-1], x.strides[:-1], strict=True) if n > 1]
    # an axis of one element may carry any stride, so that of a single pixel is believed only where it can be true
    found = axes[-1][1] if axes else max(channels, x.strides[-2] // size if x.ndim > 1 else 0)
    expected, even = found, found >= channels and (channels == 1 or x.strides[-1] == size)
    for n, stride in reversed(axes):
        even = even and stride == expected
        expected *= n
    if not even:
        raise ValueError(f"pitch: an array {x.shape} with strides {x.strides} is not made of evenly spaced pixels")
    return found


def from_host(x: np.ndarray, dtype: Any = None, *, activation: bool = False) -> Array:
    """A copy of x on the device; with `activation` in padded pixels, the pads zero."""
    x = np.asarray(x, dtype)
    channels = x.shape[-1] if x.ndim else 1
    if activation and padded(channels, x.dtype) > channels:
        whole = np.zeros((*x.shape[:-1], padded(channels, x.dtype)), x.dtype)
        whole[..., :channels] = x
        return from_host(whole)[..., :channels]
    out = empty(x.shape, x.dtype)
    out.set(np.ascontiguousarray(x))
    return out


def to_host(x: Array) -> np.ndarray:
    """A copy of x in host memory: a plain contiguous NumPy array."""
    return np.ascontiguousarray(x.get() if is_device(x) else x)


class _Uploaded:
    """Small host arrays on the device, by content: a step asks for the same ones again and again."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[Any, ...], Array] = OrderedDict()
        self.pending: list[tuple[Array, np.ndarray]] | None = None

    def __call__(self, values: np.ndarray) -> Array:
        if _guards:
            return from_host(values)
        key = (mode(), _ordinal(), values.dtype.char, values.shape, values.tobytes())
        if key in self.kept:
            self.kept.move_to_end(key)
            found = self.kept[key]
            if self.pending is not None:
                self.pending.append((found, values))
            return found
        if self.pending is not None:  # not kept: the array lies in the graph's memory and belongs to the graph
            found = module().empty(values.shape, values.dtype)
            self.pending.append((found, values))
            return found
        found = module().asarray(values)
        self.kept[key] = found
        if len(self.kept) > CACHED:
            self.kept.popitem(last=False)
        return found


_uploaded = _Uploaded()


def _ordinal() -> int:
    """Number of the GPU in use; 0 without one."""
    return module().cuda.runtime.getDevice() if mode() == "cuda" else 0


class Uploads(list):
    """Pairs (array on the device, its content): keep it as long as the graph that reads the arrays."""

    def upload(self) -> None:
        """Copies every content to its array."""
        for array, values in self:
            array.set(values)


@contextlib.contextmanager
def deferred_uploads() -> Iterator[Uploads]:
    """Around a capture, which forbids copies from the host: pointer tables and counters made within the block have no
    content until `upload` of what is given here is called, after the capture and before the first launch."""
    before, _uploaded.pending = _uploaded.pending, Uploads()
    try:
        yield _uploaded.pending
    finally:
        _uploaded.pending = before


def pointer_table(rows: Sequence[Sequence[Any]]) -> Array:
    """Addresses for kernels that walk over many arrays.

    rows  of equal length, each of arrays (their address), ints (themselves) and None (0)

    Returns (len(rows), length) int64. The caller keeps the arrays alive. Within `deferred_uploads` the content
    comes later.
    """
    host = [
        [0 if item is None else int(item) if isinstance(item, int | np.integer) else address(item) for item in row]
        for row in rows
    ]
    return _uploaded(np.array(host, np.int64))


def constant(value: float, size: int) -> Array:
    """(size,) float32, all of them `value`; uploaded once, and not to be changed."""
    return _uploaded(np.full(size, value, np.float32))


def clock_of(counters: Any) -> Array:
    """The int64 array from which a kernel reads (seed, step) of `arrays.Counters`: the clock [seed, step, updates]
    itself where the counters carry it as their step, else a small uploaded one."""
    if is_device(counters.step):
        return counters.step
    words = np.array([counters.seed % 2**64, counters.step % 2**64, 0], np.uint64)
    return _uploaded(words.view(np.int64))


_arenas: dict[tuple[str, int], tuple[Array, list[int]]] = {}


def counters(n: int) -> Array:
    """(n,) int32 zeros for programs that count who is last; the kernel leaves zeros behind.

    Slices of one array in turn, so that launches that run at the same time count in different places.
    """
    key = (mode(), _ordinal())
    if n > COUNTERS:
        return zeros(n, np.int32)
    if key not in _arenas:
        _arenas[key] = (module().zeros(COUNTERS, np.int32), [0])
    arena, position = _arenas[key]
    if position[0] + n > COUNTERS:
        position[0] = 0
    start = position[0]
    position[0] += -(-n // 4) * 4  # 16 bytes
    return arena[start : start + n]


@contextlib.contextmanager
def guarded() -> Iterator[Guards]:
    """For tests: memory begins as NaN between guard zones, which the end of the block verifies, as it does that pads
    are zero and that counters were left zero. AssertionError where one is not."""
    if mode() == "cuda":
        raise ValueError("guarded: not on a GPU")
    guards = Guards()
    _guards.append(guards)
    try:
        yield guards
        guards.verify()
        for arena, _ in _arenas.values():
            if np.any(to_host(arena)):
                arena[...] = 0
                raise AssertionError("a kernel left counters behind that are not zero")
    finally:
        _guards.remove(guards)
