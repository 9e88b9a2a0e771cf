"""The seam to the kernels: the one file above `kernels/` that knows there are twins.

`kernel(name, x)` gives the function of that name for arrays of x's kind: NumPy's own arrays and numbers go to
`kernels/cpu`, all others, a device's, to `kernels/gpu`. A device is added here and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from alikit.kernels import KERNELS
from alikit.kernels.arrays import LINEAR as LINEAR
from alikit.kernels.arrays import Activation as Activation
from alikit.kernels.arrays import Counters as Counters
from alikit.kernels.arrays import Dropout as Dropout
from alikit.kernels.arrays import NormState as NormState
from alikit.kernels.arrays import array_module as array_module
from alikit.kernels.arrays import conv_input_size as conv_input_size
from alikit.kernels.arrays import conv_output_size as conv_output_size

_HOME = {name: module for module, names in KERNELS.items() for name in names}


class _Twin(dict[str, Callable[..., Any]]):
    """The kernels of `kernels/cpu` or of `kernels/gpu` by name, each imported when it is first asked for."""

    def __init__(self, twin: str):
        super().__init__()
        self.twin = twin

    def __missing__(self, name: str) -> Callable[..., Any]:
        found = self[name] = getattr(import_module(f"alikit.kernels.{self.twin}.{_HOME[name]}"), name)
        return found


class _Noted(dict[str, Callable[..., Any]]):
    """The kernels of a twin by name, for the thread that made it as `note(name, kernel)` has them."""

    def __init__(self, twin: dict[str, Callable[..., Any]], note: Callable[[str, Callable[..., Any]], Any]):
        super().__init__()
        self.twin, self.note, self.thread = twin, note, threading.get_ident()

    def __missing__(self, name: str) -> Callable[..., Any]:
        plain = self.twin[name]
        with_note = self.note(name, plain)

        def found(*args: Any, **options: Any) -> Any:
            mine = threading.get_ident() == self.thread
            return (with_note if mine else plain)(*args, **options)

        self[name] = found
        return found


_CPU: dict[str, Callable[..., Any]] = _Twin("cpu")
_GPU = _Twin("gpu")


_noting = threading.Lock()


@contextmanager
def noted(note: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[bool]:
    """Inside, whoever asks on this thread for a kernel for NumPy's arrays gets `note(name, kernel)` (`program.py`).

    Yields whether that is so: not within another such block, on whichever thread.
    """
    global _CPU
    before = None
    try:
        if _noting.acquire(blocking=False):
            before, _CPU = _CPU, _Noted(_CPU, note)
        yield before is not None
    finally:
        if before is not None:
            _CPU = before
            _noting.release()


def kernel(name: str, x: Any) -> Callable[..., Any]:
    """The kernel `name` for arrays like x."""
    return (_CPU if type(x) is np.ndarray or array_module(x) is np else _GPU)[name]
