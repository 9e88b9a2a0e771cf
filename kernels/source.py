"""A kernel's name for caches: a hash over its source, the functions it calls and the constants it reads.

It is computed from Python functions alone, so that it is the same with and without Triton: cubins that come with
alikit are found by it.
"""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

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
    """Names the code that a launch runs on an architecture; TypeError where a constant is not a plain value."""
    for name, value in launch.constants:
        if not isinstance(value, int | float | str | None):
            raise TypeError(f"{launch.name}: the constant {name} is {value!r}, wanted a number or a word")
    constants = [(name, _plain(value)) for name, value in sorted(launch.constants)]
    what = (FORMAT, source_key(launch.kernel), launch.signature, constants, launch.unaligned)
    text = repr((*what, launch.warps, launch.stages, arch))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """NumPy's numbers and named numbers as Python's, whose repr is the same everywhere."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _visit(fn: Callable, parts: dict[str, str]) -> None:
    name = f"{fn.__module__}.{fn.__qualname__}"
    if name in parts:
        return
    parts[name] = inspect.getsource(fn)
    scope = inspect.getclosurevars(fn).nonlocals
    for word, value in _named(fn.__code__, {**fn.__globals__, **scope}):
        if _is_jit(value):
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
            if _is_jit(found) or isinstance(found, bool | int | float | str | tuple):
                yield path, found


def _is_jit(value: Any) -> bool:
    fn = getattr(value, "fn", None)
    return isinstance(fn, types.FunctionType) and not fn.__module__.startswith("triton.")
