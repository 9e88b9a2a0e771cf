"""The one file that knows Triton's runtime (its interpreter: `interpreter.py`): what a kernel is launched with, and
on what.

`launch` is all that a kernel file calls. Behind it stand three devices:

* "cuda"         the kernel is compiled to a cubin, loaded and launched through CuPy: no torch, no C compiler
* "interpreted"  Triton's interpreter on NumPy memory, where the process was started with TRITON_INTERPRET=1: for tests
* "plan"         nothing is computed; launches are only recorded, to be counted and compiled without a GPU

Kernel files import `jit` and `tl` from here, so that they can be imported where Triton is not installed.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import binary, cuda, elf, host, ptx
from .binary import Binary
from .interpreter import interpreter
from .record import TYPES, Int64, Launch, Work, address, describe
from .source import Kernel, Language, launch_key

__all__ = ["Int64", "Launch", "Launches", "Work", "arch", "compiled", "jit", "launch", "mode", "recording", "use"]

MODES = ("cuda", "interpreted", "plan")
PLAN_ARCH = 90
#: what ptxas is told where it spills, until it does not: it spills a few registers to fit one more program onto a
#: multiprocessor. Another weight of registers (5 is its own) mostly ends that, else a bound that is 8 or 16 above what
#: it took
REGISTER_USAGE = (3, 8)
MORE_REGISTERS = (8, 16)
MOST_REGISTERS = 255  # that a thread can have
#: what a process's environment says where kernels are to be interpreted, from its start on
INTERPRETED = {"TRITON_INTERPRET": "1"}


class _State:
    mode: str | None = None
    arch: int = PLAN_ARCH
    recorders: tuple[list[Launch], ...] = ()


def mode() -> str:
    """Where arrays are made and kernels run: "cuda", or "interpreted" where TRITON_INTERPRET=1, or as `use` said."""
    if _State.mode is None:
        _State.mode = "interpreted" if os.environ.items() >= INTERPRETED.items() else "cuda"
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
    return cuda.driver().arch() if mode() == "cuda" else _State.arch


class Launches(list[Launch]):
    """Launches in order. `foreign`: names of what ran beside our kernels, where the device is not a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []


@contextlib.contextmanager
def recording() -> Iterator[Launches]:
    """Every launch within the block is also appended to the list that is given, whatever the device."""
    launches = Launches()
    before = _State.recorders
    _State.recorders = (*before, launches)
    host.observers.append(launches.foreign)
    try:
        yield launches
    finally:
        _State.recorders = before
        host.observers[:] = [names for names in host.observers if names is not launches.foreign]


@functools.cache
def _triton() -> Any:
    """Triton, or None where it is not installed."""
    try:
        import triton
    except ImportError:
        return None
    return triton


def __getattr__(name: str) -> Any:
    """`tl` is triton.language, imported when a kernel file asks for it."""
    if name != "tl":
        raise AttributeError(name)
    if _triton() is None:
        return Language()
    import triton.language

    return triton.language


def jit(fn: Callable) -> Any:
    """Marks a kernel, or a function that kernels call."""
    return Kernel(fn) if _triton() is None else _triton().jit(fn)


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
               do not fit, or as `Int64`), floats 32 bits. Nothing is known of a number when the kernel is compiled:
               a mask `offs < n` forbids wide loads, `offs < rows * ROW` with a constant ROW = 16 k does not
    constants  by name: the kernel's tl.constexpr parameters
    """
    on_cuda = mode() == "cuda"
    if on_cuda and not _State.recorders:
        key = cuda.call_key(kernel, grid, arguments, constants, warps, stages)
        if cuda.run_again(key):
            return
    whole: Any = (*(grid if isinstance(grid, tuple) else (grid,)), 1, 1)[:3]
    signature, unaligned = describe(kernel, arguments, constants)
    record = Launch(kernel, whole, signature, tuple(constants.items()), unaligned, warps, stages, work or Work())
    for launches in _State.recorders:
        launches.append(record)
    if 0 in whole or mode() == "plan":
        return
    if on_cuda:
        cuda.run(cuda.call_key(kernel, grid, arguments, constants, warps, stages), record, arguments, _for_this_device)
    else:
        _interpret(record, arguments, constants)


def _for_this_device(record: Launch) -> Binary:
    return compiled(record, arch())


def compiled(record: Launch, arch: int, *, lines: bool = True, shipped: bool = True) -> Binary:
    """The code of a launch for an architecture: one that came with alikit, else from the cache, else compiled now.

    lines   keep the table of source lines, which profilers read and which makes the cubin three times as large
    shipped whether those that came with alikit count
    """
    key = launch_key(record, arch)
    found = binary.shipped(key, arch) if shipped else None
    if found is not None:
        return found
    if _triton() is None:
        raise RuntimeError(
            f"{record.name}: its code for sm_{arch} does not come with alikit in this form, and Triton, which would "
            "compile it, is not installed (pip install triton)"
        )
    key = f"{key[:32]}-{record.kernel.cache_key[:32]}-{triton_version()}{'' if lines else '-bare'}"
    found = binary.load(cache_folder(), key)
    if found is None:
        found = _compile(record, arch, lines)
        binary.save(cache_folder(), key, found)
    return found


def cache_folder() -> Path:
    """Where compiled kernels are kept: $ALIKIT_CACHE, else the user's cache folder."""
    chosen = os.environ.get("ALIKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "cubins"
    from platformdirs import user_cache_path

    return user_cache_path("alikit", appauthor=False) / "cubins"


def triton_version() -> str:
    """Of the compiler that is installed."""
    return _triton().__version__


def tool(name: str) -> str:
    """Path of one of NVIDIA's programs that Triton brings along."""
    return getattr(_triton().knobs.nvidia, name).path


def _compile(record: Launch, arch: int, lines: bool) -> Binary:
    made = ask_triton(record, arch, lines=lines)
    for options in _against_spills(made.asm["cubin"]):
        again = ask_triton(record, arch, lines=lines, **options)
        made = min(made, again, key=lambda m: elf.frame_bytes(m.asm["cubin"]))
        if elf.frame_bytes(made.asm["cubin"]) == 0:
            break
    facts = made.metadata
    if facts.global_scratch_size or facts.profile_scratch_size or facts.num_ctas != 1:
        raise RuntimeError(f"{record.name}: needs scratch memory or clusters, which `launch` does not give")
    hidden = ptx.hidden(record.runtime, ptx.parameters(made.asm["ptx"]))
    return Binary(facts.name, made.asm["cubin"], facts.shared, facts.num_warps, hidden, triton_version())


def _against_spills(cubin: bytes) -> Iterator[dict[str, Any]]:
    """Options of the compiler to try one after the other where the cubin that it made by itself spills."""
    if elf.frame_bytes(cubin) > 0:
        yield from ({"ptx_options": f"--register-usage-level={usage}"} for usage in REGISTER_USAGE)
        taken = elf.registers(cubin) // 8 * 8  # registers are dealt out by 8
        yield from ({"maxnreg": taken + more} for more in MORE_REGISTERS if taken + more <= MOST_REGISTERS)


def ask_triton(record: Launch, arch: int, *, lines: bool = True, **more: Any) -> Any:
    """Triton's own record of a compiled launch: `asm` ("ttgir", "ptx", "cubin") and `metadata`. No GPU is needed.
    more: options of the compiler."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = dict(record.constants)
    places = {name: (place,) for place, (name, _) in enumerate(record.signature)}
    source = ASTSource(
        fn=record.kernel,
        signature=dict(record.signature),
        constexprs={places[name]: constants.get(name) for name, kind in record.signature if kind == "constexpr"},
        attrs={
            places[name]: [["tt.divisibility", 16]]
            for name, kind in record.signature
            if kind[0] == "*" and name not in record.unaligned
        },
    )
    # fusing multiplications and additions is Triton's default up to 3.9 and not afterwards: so it is said
    options = {"num_warps": record.warps, "num_stages": record.stages, "enable_fp_fusion": True, **more}
    with triton.knobs.compilation.scope():
        # Triton's own cache does not see what properties of a record among the constants give: `launch_key` does
        triton.knobs.compilation.always_compile = True
        triton.knobs.compilation.disable_line_info = not lines
        return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def _interpret(record: Launch, arguments: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    """Runs in Triton's interpreter. It takes tensors ready made, so no array needs to look like one of torch's."""
    import triton.language as tl

    handle = interpreter().TensorHandle
    values: dict[str, Any] = {}
    for name, kind in record.signature:
        if kind == "constexpr":
            values[name] = constants.get(name)
            continue
        pointer = kind[0] == "*"
        dtype = tl.str_to_ty(kind, None)
        value = address(arguments[name]) if pointer else arguments[name]
        kind_on_host = np.uint64 if pointer else np.dtype(next(k for k, v in TYPES.items() if v == kind))
        values[name] = tl.tensor(handle(np.array([value], kind_on_host), dtype), dtype)
    record.kernel[record.grid](**values)
