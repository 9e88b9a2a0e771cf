"""A kernel's name for caches: a hash over its source, the functions it calls and the constants it reads.

It is computed from Python functions alone, so that it is the same with and without Triton: cubins that come with
alikit are found by it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .record import Launch

FORMAT = 1


class Kernel:
    """Stands for a kernel where Triton is not installed: its source is all that is needed to find its cubin."""

    def __init__(self, fn: Callable) -> None:
        self.fn = fn


class Constant:
    """Stands for tl.constexpr where Triton is not installed."""

    def __init__(self, value: Any) -> None:
        self.value = getattr(value, "value", value)


class Language:
    """Stands for triton.language where Triton is not installed: kernel files can be imported, and no more."""

    constexpr = Constant

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


def source_key(kernel: Any) -> str:
    """The hash, in hex. Kept on the function."""
    fn = kernel.fn
    if not hasattr(fn, "_source_key"):
        parts: dict[str, str] = {}
        _visit(fn, parts)
        text = "\0".join(f"{name}\0{parts[name]}" for name in sorted(parts))
        fn._source_key = hashlib.sha256(text.encode()).hexdigest()
    return fn._source_key


def launch_key(launch: Launch, arch: int) -> str:
    """Names the code that a launch runs on an architecture; TypeError where a constant is no plain value or record."""
    constants = [(name, plain(value)) for name, value in sorted(launch.constants, key=lambda item: item[0])]
    what = (FORMAT, source_key(launch.kernel), launch.signature, constants, launch.unaligned)
    text = repr((*what, launch.warps, launch.stages, arch))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A constant as Python's own numbers and words, whose repr is the same everywhere; TypeError where that fails.

    Of a record (a dataclass or a NamedTuple) all that a kernel can read: fields, and properties by their value, so
    that another definition of a property is another key.
    """
    if value is None or isinstance(value, bool | np.bool_ | str):
        return value if value is None or isinstance(value, str) else bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    fields = fields_of(value)
    if fields is not None:
        properties = [name for name, kind in inspect.getmembers(type(value)) if isinstance(kind, property)]
        return [(name, plain(getattr(value, name))) for name in (*fields, *properties)]
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    raise TypeError(f"a kernel's constant is {value!r}, wanted a number, a word, or a record of these")


def fields_of(value: Any) -> tuple[str, ...] | None:
    """Names of a record's fields; None of anything else."""
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return getattr(value, "_fields", None)


def _visit(fn: Callable, parts: dict[str, str]) -> None:
    name = f"{fn.__module__}.{fn.__qualname__}"
    if name in parts:
        return
    parts[name] = inspect.getsource(fn)
    scope = inspect.getclosurevars(fn).nonlocals
    for word, value in _named(fn.__code__, {**fn.__globals__, **scope}):
        if is_jit(value):
            _visit(value.fn, parts)
        else:
            parts[f"{name}/{word}"] = repr(value)


def _named(code: types.CodeType, scope: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a function's names lead to: other kernels and plain constants, also through modules of alikit."""
    for word in (*code.co_names, *code.co_freevars):
        value = scope.get(word)
        inside: dict[str, Any] = {word: value}
        if isinstance(value, types.ModuleType) and not value.__name__.startswith("triton"):
            inside = {f"{word}.{attribute}": getattr(value, attribute, None) for attribute in code.co_names}
        for path, found in inside.items():
            found = found.value if type(found).__name__ in ("constexpr", "Constant") else found
            if is_jit(found) or isinstance(found, bool | int | float | str | tuple):
                yield path, found


def is_jit(value: Any) -> bool:
    """Whether a value is a function under `jit`."""
    fn = getattr(value, "fn", None)
    return isinstance(fn, types.FunctionType) and not fn.__module__.startswith("triton.")
