"""Triton's interpreter, mended: NumPy since 2.4 does not take its numbers for numbers, and two thirds of its time went
into what need not be done again for every call.

All of it changes private names of `triton.runtime.interpreter`, in processes that interpret from their start on.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np

#: by the name of the method that wants its sums or products watched
EXACT = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}


@functools.cache
def interpreter() -> Any:
    """`triton.runtime.interpreter` with the changes below."""
    from triton.runtime import interpreter as triton_s

    _count_by_arrays(triton_s)
    _enter_once(triton_s)
    _look_types_up(triton_s)
    _share_shapes()
    _watch_integers_by_numpy(triton_s)
    return triton_s


def _count_by_arrays(triton_s: Any) -> None:
    """Its numbers are arrays of one element: range() and indexing take their item."""
    patch = triton_s._patch_lang_tensor

    def patch_and_count(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    triton_s._patch_lang_tensor = patch_and_count


class _Kept:
    """What was entered and is not left."""

    def restore(self) -> None:
        pass


def _enter_once(triton_s: Any) -> None:
    """Triton's language computes once and for all instead of building code. Triton turns hundreds of its names over at
    every call of a function that kernels share, and back after every launch."""
    enter = triton_s._patch_lang

    @functools.cache
    def entered(fn: Any) -> _Kept:
        enter(fn)
        return _Kept()

    triton_s._patch_lang = entered


def _look_types_up(triton_s: Any) -> None:
    """NumPy's type for one of Triton's, from a table that is not made anew at every question."""
    of_scalar = functools.cache(triton_s._get_np_dtype)
    address = np.dtype(np.uint64)
    triton_s._get_np_dtype = lambda kind: address if kind.scalar.is_ptr() else of_scalar(kind.scalar)


def _share_shapes() -> None:
    """Tensors of a shape share what tells their shape and size, in objects that nobody changes."""
    from triton.language import core

    @functools.cache
    def made(shape: tuple[int, ...]) -> tuple[Any, Any]:
        return core.tuple([core.constexpr(size) for size in shape]), core.constexpr(math.prod(shape))

    def begin(self: Any, handle: Any, type: Any) -> None:
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = made(tuple(type.shape) if type.is_block() else ())

    core.tensor.__init__ = begin


def _watch_integers_by_numpy(triton_s: Any) -> None:
    """Signed integers of up to 32 bits must not overflow, as an address might; unsigned ones may, as random numbers do.
    Triton computes a check of both in its own language, slowly, and acts on it only where it debugs."""

    def watch(self: Any, left: Any, right: Any, method: Any) -> None:
        kind = left.type.scalar
        if kind.int_bitwidth >= 64 or kind.is_int_unsigned():
            return
        found = EXACT[method.__name__](left.handle.data.astype(np.int64), right.handle.data.astype(np.int64))
        if found.size and not kind.get_int_min_value() <= found.min() <= found.max() <= kind.get_int_max_value():
            raise OverflowError(f"int{kind.int_bitwidth} overflow detected for operation {method.__name__}")

    type(triton_s.interpreter_semantic).binary_op_sanitize_overflow_impl = watch
