"""The one file that knows Triton's runtime: what a kernel is launched with, and on what.

`launch` is all that a kernel file calls. Behind it stand three devices:

* "cuda"         the kernel is compiled to a cubin, loaded and launched through CuPy: no torch, no C compiler
* "interpreted"  Triton's interpreter on NumPy memory, where the process was started with TRITON_INTERPRET=1: for tests
* "plan"         nothing is computed; launches are only recorded, to be counted and compiled without a GPU

Kernel files import `jit` and `tl` from here, so that they can be imported where Triton is not installed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

MODES = ("cuda", "interpreted", "plan")
PLAN_ARCH = 90

#: NumPy's name of a type -> Triton's
TYPES = {
    "bool": "i1",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
}


class Work(NamedTuple):
    """What a launch cannot avoid: bytes read, bytes written, floating-point operations."""

    read: int = 0
    written: int = 0
    flops: int = 0


class Int64(int):
    """A number that is passed as 64 bits however small it is."""


class Launch(NamedTuple):
    """A launch as recorded: everything that decides the code, and the work it does."""

    kernel: Any
    grid: tuple[int, int, int]
    signature: tuple[tuple[str, str], ...]  # parameter -> "*bf16", "i32", "fp32", ... or "constexpr", in order
    constants: tuple[tuple[str, Any], ...]
    unaligned: tuple[str, ...]  # pointers that are not multiples of 16 bytes
    warps: int
    stages: int
    work: Work

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.kernel.fn.__name__


class _State:
    mode: str | None = None
    arch: int = PLAN_ARCH
    recorders: tuple[list[Launch], ...] = ()


def mode() -> str:
    """Where arrays are made and kernels run: "cuda", or "interpreted" where TRITON_INTERPRET=1, or as `use` said."""
    if _State.mode is None:
        _State.mode = "interpreted" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    return _State.mode


@contextlib.contextmanager
def use(mode: str, arch: int = PLAN_ARCH) -> Iterator[None]:
    """Within the block arrays are made and kernels run on `mode`; `arch` is what the plan and the interpreter tell."""
    if mode not in MODES:
        raise ValueError(f"use: mode must be one of {', '.join(MODES)}, found {mode!r}")
    before = _State.mode, _State.arch
    _State.mode, _State.arch = mode, arch
    try:
        yield
    finally:
        _State.mode, _State.arch = before


def arch() -> int:
    """Compute capability of the device, 90 for 9.0; that which was asked for where there is no device."""
    if mode() != "cuda":
        return _State.arch
    import cupy

    return int(cupy.cuda.Device().compute_capability)


@contextlib.contextmanager
def recording() -> Iterator[list[Launch]]:
    """Every launch within the block is also appended to the list that is given, whatever the device."""
    launches: list[Launch] = []
    before = _State.recorders
    _State.recorders = (*before, launches)
    try:
        yield launches
    finally:
        _State.recorders = before


def __getattr__(name: str) -> Any:
    """`tl` is triton.language, imported when a kernel file asks for it."""
    if name != "tl":
        raise AttributeError(name)
    import triton.language

    return triton.language


def jit(fn: Callable) -> Any:
    """Marks a kernel, or a function that kernels call."""
    import triton

    return triton.jit(fn)


def launch(
    kernel: Any,
    grid: int | tuple[int, ...],
    arguments: Mapping[str, Any],
    constants: Mapping[str, Any],
    *,
    warps: int = 4,
    stages: int = 2,
    work: Work | None = None,
) -> None:
    """Runs a kernel over a grid.

    kernel     a function under `jit`
    grid       number of programs along up to three axes
    arguments  by name: device arrays, or None for one that the constants switch off; ints are 32 bits (64 where they
               do not fit, or as `Int64`), floats 32 bits
    constants  by name: the kernel's tl.constexpr parameters
    """
    grid = grid if isinstance(grid, tuple) else (grid,)
    whole: Any = (*grid, 1, 1)[:3]
    signature, unaligned = _describe(kernel, arguments, constants)
    record = Launch(
        kernel, whole, signature, tuple(constants.items()), unaligned, warps, stages, Work() if work is None else work
    )
    for launches in _State.recorders:
        launches.append(record)
    if 0 in whole or mode() == "plan":
        return
    if mode() == "interpreted":
        _interpret(record, arguments, constants)
        return
    raise NotImplementedError("launch: the CUDA device")


def address(x: Any) -> int:
    """Where an array's first element lies."""
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def _parameters(kernel: Any) -> dict[str, bool]:
    """Parameters in order; whether each is a constant. Kept on the kernel: looking is slow."""
    fn = kernel.fn
    if not hasattr(fn, "_parameters"):
        found = inspect.signature(fn).parameters.values()
        fn._parameters = {p.name: "constexpr" in str(getattr(p.annotation, "__name__", p.annotation)) for p in found}
    return fn._parameters


def _describe(
    kernel: Any, arguments: Mapping[str, Any], constants: Mapping[str, Any]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Types of the parameters, and the pointers that are not aligned; TypeError where names do not fit."""
    parameters = _parameters(kernel)
    wanted = {name for name, constant in parameters.items() if constant}
    if wanted != constants.keys() or parameters.keys() - wanted != arguments.keys():
        raise TypeError(
            f"{kernel.fn.__name__}: arguments {sorted(arguments)} and constants {sorted(constants)} are not its "
            f"parameters {sorted(parameters.keys() - wanted)} and {sorted(wanted)}"
        )
    types = tuple(
        (name, "constexpr" if constant else _type(name, arguments[name])) for name, constant in parameters.items()
    )
    unaligned = tuple(name for name, kind in types if kind[0] == "*" and address(arguments[name]) % 16)
    return types, unaligned


def _type(name: str, value: Any) -> str:
    """Triton's name for the type of an argument."""
    if value is None:
        return "constexpr"
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        if type(value) is np.ndarray:
            raise TypeError(f"{name}: an array in host memory; kernels take arrays of the device")
        return "*" + TYPES[value.dtype.name]
    if isinstance(value, np.bool_ | bool):
        raise TypeError(f"{name}: flags are constants, found {value!r} among the arguments")
    if isinstance(value, np.integer):
        return TYPES[value.dtype.name]
    if isinstance(value, Int64):
        return "i64"
    if isinstance(value, int):
        return "i32" if -(2**31) <= value < 2**31 else "i64" if -(2**63) <= value < 2**63 else "u64"
    if isinstance(value, float | np.floating):
        return "fp32"
    raise TypeError(f"{name}: neither an array of the device nor a number: {value!r}")


@functools.cache
def _interpreter() -> Any:
    """Triton's interpreter. Its numbers are arrays of one element, which NumPy since 2.4 does not take for numbers."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_count(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_count
    return interpreter


def _interpret(record: Launch, arguments: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    """Runs in Triton's interpreter. It takes tensors ready made, so no array needs to look like one of torch's."""
    import triton.language as tl

    handle = _interpreter().TensorHandle
    values: dict[str, Any] = {}
    for name, kind in record.signature:
        if kind == "constexpr":
            values[name] = constants.get(name)
            continue
        pointer = kind[0] == "*"
        dtype = tl.str_to_ty(kind, None)
        value = address(arguments[name]) if pointer else arguments[name]
        host = np.uint64 if pointer else np.dtype(next(k for k, v in TYPES.items() if v == kind))
        values[name] = tl.tensor(handle(np.array([value], host), dtype), dtype)
    record.kernel[record.grid](**values)
