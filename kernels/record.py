"""What decides the code of a launch: the types of its arguments, its constants, its warps and stages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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
Signature = tuple[tuple[str, str], ...]


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
    signature: Signature  # parameter -> "*bf16", "i32", "fp32", ... or "constexpr", in order
    constants: tuple[tuple[str, Any], ...]
    unaligned: tuple[str, ...]  # pointers that are not multiples of 16 bytes
    warps: int
    stages: int
    work: Work = Work()

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.kernel.fn.__name__

    @property
    def runtime(self) -> list[tuple[str, str]]:
        """The parameters that are passed when the kernel runs, in order."""
        return [(name, kind) for name, kind in self.signature if kind != "constexpr"]


def address(x: Any) -> int:
    """Where an array's first element lies."""
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def describe(
    kernel: Any, arguments: Mapping[str, Any], constants: Mapping[str, Any]
) -> tuple[Signature, tuple[str, ...]]:
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
    return types, tuple(name for name, kind in types if kind[0] == "*" and address(arguments[name]) % 16)


def _parameters(kernel: Any) -> dict[str, bool]:
    """Parameters in order; whether each is a constant. Kept on the function: looking is slow."""
    fn = kernel.fn
    if not hasattr(fn, "_parameters"):
        found = inspect.signature(fn).parameters.values()
        fn._parameters = {p.name: "constexpr" in str(getattr(p.annotation, "__name__", p.annotation)) for p in found}
    return fn._parameters


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
