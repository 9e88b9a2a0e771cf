"""Launching cubins through CuPy's driver bindings.

A launch costs a look-up and one call of the driver: parameter arrays are kept by what is in them, since a step launches
the same kernels on the same memory again and again. Modules are never unloaded: graphs refer to their functions, and
unloading during a capture would break it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .binary import Binary
from .host import DeviceArray
from .record import Int64, Launch, address

KEPT = 8192  # parameter arrays
OPT_IN = 48 * 1024  # bytes of shared memory that a kernel may use without asking

_CTYPES: dict[str, Any] = {
    "i8": ctypes.c_int8,
    "u8": ctypes.c_uint8,
    "i16": ctypes.c_int16,
    "u16": ctypes.c_uint16,
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float,  # a Python float would travel as a double, and half of it be read
}


class Driver:
    """What is called: a class of its own so that tests can stand one in."""

    def __init__(self) -> None:
        import cupy
        from cupy_backends.cuda.api import driver

        cupy.cuda.runtime.free(0)  # makes the context
        self.api = driver
        self.launch = driver.launchKernel
        self.device = cupy.cuda.runtime.getDevice
        self._capability = cupy.cuda.Device
        self._stream = cupy.cuda.get_current_stream

    def arch(self) -> int:
        """Compute capability, 90 for 9.0."""
        return int(self._capability().compute_capability)

    def stream(self) -> int:
        """CuPy's current stream."""
        return self._stream().ptr

    def load(self, binary: Binary) -> int:
        """The function of a cubin, allowed the shared memory that it wants."""
        module = self.api.moduleLoadData(binary.cubin)
        _modules.append(module)
        function = self.api.moduleGetFunction(module, binary.name)
        if binary.shared > OPT_IN:
            self.api.funcSetAttribute(function, self.api.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, binary.shared)
        return function


class Prepared(NamedTuple):
    """A launch that only waits for its stream. `keep` holds what `parameters` (an address) leads to."""

    function: int
    grid: tuple[int, int, int]
    threads: int
    shared: int
    parameters: int
    keep: Any

    def run(self, driver: Any) -> None:
        """Hands the launch to the driver, on CuPy's current stream."""
        x, y, z = self.grid
        driver.launch(self.function, x, y, z, self.threads, 1, 1, self.shared, driver.stream(), self.parameters, 0)


_NUMBERS = {type(None), int, float, Int64}
_driver: Any = None
_modules: list[int] = []
_functions: dict[Any, tuple[int, Binary]] = {}
_prepared: dict[Any, Prepared] = {}


def driver() -> Any:
    """CuPy's, made at the first launch."""
    global _driver
    if _driver is None:
        _driver = Driver()
    return _driver


def call_key(
    kernel: Any, grid: Any, arguments: Mapping[str, Any], constants: Mapping[str, Any], warps: int, stages: int
) -> Any:
    """What makes two launches the same, cheaply: addresses and types of arrays, numbers, constants."""
    parts: list[Any] = [id(kernel), driver().device(), grid, warps, stages, *arguments]
    for value in arguments.values():
        kind = type(value)
        if kind in _NUMBERS or issubclass(kind, np.generic):
            parts += (value, kind)
        elif kind is DeviceArray:
            parts += (address(value), value.dtype)
        else:
            parts += (value.data.ptr, value.dtype)
    constant = constants.values()
    return (*parts, *constants, *constant, *map(type, constant))


def run_again(key: Any) -> bool:
    """Runs the launch of that key if there was one."""
    found = _prepared.get(key)
    if found is None:
        return False
    found.run(driver())
    return True


def run(key: Any, launch: Launch, arguments: Mapping[str, Any], compile: Callable[[Launch], Binary]) -> None:
    """Runs a launch for the first time and keeps it; `compile` is asked where the code is not loaded yet."""
    function, binary = _function(launch, compile)
    values, array = parameter_array(launch, arguments, binary.hidden)
    if len(_prepared) >= KEPT:
        _prepared.clear()
    keep = (launch.kernel, values, array)
    prepared = Prepared(function, launch.grid, 32 * binary.warps, binary.shared, ctypes.addressof(array), keep)
    _prepared[key] = prepared
    prepared.run(driver())


def parameter_array(launch: Launch, arguments: Mapping[str, Any], hidden: int) -> tuple[list[Any], Any]:
    """The values as C holds them, and the array of their addresses that the driver reads."""
    values = [
        ctypes.c_uint64(address(arguments[name])) if kind[0] == "*" else _CTYPES[kind](_number(arguments[name], kind))
        for name, kind in launch.runtime
    ]
    values += [ctypes.c_uint64(0)] * hidden
    return values, (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))


def _number(value: Any, kind: str) -> int | float:
    return float(value) if kind == "fp32" else int(value)


def _function(launch: Launch, compile: Callable[[Launch], Binary]) -> tuple[int, Binary]:
    kinds = tuple(type(value) for _, value in launch.constants)
    code = (launch.signature, launch.constants, launch.unaligned, launch.warps, launch.stages)
    key = (launch.kernel, driver().device(), kinds, code)
    if key not in _functions:
        binary = compile(launch)
        try:
            _functions[key] = driver().load(binary), binary
        except Exception as error:
            raise RuntimeError(
                f"{launch.name}: the driver does not take the kernel ({error}); {binary.shared} bytes of shared memory,"
                f" compiled by Triton {binary.triton}"
            ) from error
    return _functions[key]
