"""A call of a kernel that is checked: the kernel's name, its arguments by name, the precision."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

Results = dict[str, np.ndarray]


def _as_they_are(results: Results) -> Results:
    return results


class Call(NamedTuple):
    """kernel     by its public name;  title: of the arguments
    arguments  by name, with `compare.Act`, `Low` and `Step` where the twins want different ones; names that begin with
               "out" are changed, and compared as results are
    settle     of the results by name, on the host: what both twins must agree on
    """

    kernel: str
    title: str
    arguments: dict[str, Any]
    precision: str
    settle: Callable[[Results], Results] = _as_they_are

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kernel} {self.title} {self.precision}"


def twin(name: str, side: str) -> Callable[..., Any]:
    """The kernel of that name, of "cpu" or "gpu"."""
    from alikit.kernels import KERNELS

    (home,) = (module for module, names in KERNELS.items() if name in names)
    return getattr(import_module(f"alikit.kernels.{side}.{home}"), name)


def numbers(key: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Standard normal float32, the same for the same key."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def positive(key: str, count: int) -> np.ndarray:
    """Float32 about 1, some with the other sign."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return (rng.uniform(0.5, 1.5, count) * np.where(rng.random(count) < 0.2, -1, 1)).astype(np.float32)
