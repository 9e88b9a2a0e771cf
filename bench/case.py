"""The words that cases and harness share. A case has two sides; a side, inside its own process, gives a Workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: how the environment variables begin that change BLAS or OpenMP
LIBRARIES = ("OPENBLAS_", "OMP_", "MKL_", "GOMP_", "KMP_")

Arrays = Mapping[str, Any]  # name -> numpy.ndarray


class Options(NamedTuple):
    """threads: of both sides;  quick: tiny shapes, to see that everything runs."""

    threads: int = 2
    quick: bool = False


@dataclass
class Workload:
    """One side of a case.

    thunks    name -> one unit of work; both sides have the same names
    answer    the numbers of the timed code on given inputs, for comparison: probe -> arrays
    probe     those inputs; alikit's side makes them
    cost      name -> the floor counted by hand: {"flops": n} or {"bytes": n} of one unit of work
    ceiling   measures what this machine reaches: {"flops": per second, "bytes": per second}
    """

    thunks: dict[str, Callable[[], object]]
    answer: Callable[[Arrays], dict[str, Any]]
    probe: Callable[[], dict[str, Any]] | None = None
    cost: dict[str, dict[str, float]] = field(default_factory=dict)
    ceiling: Callable[[], dict[str, float]] = dict


@dataclass(frozen=True)
class Case:
    """What to measure, and how well alikit has to do.

    name, title   for the command line and for the table
    alikit, torch build a side's Workload
    unit, scale   of the table: seconds (or bytes) times scale
    targets       name -> (must, aim), upper bounds of alikit / torch
    units         name -> what its time is divided by, 1 where not given
    tolerance     prefix of a name in the answers -> allowed |a - b| / |b|, Euclidean norms; the longest prefix counts
    several       figures, not one: the title has a line of its own in the table
    seconds       of one sample
    memory        measures the peak memory of a fresh process after this many units instead of time
    """

    name: str
    title: str
    alikit: Callable[[Options], Workload]
    torch: Callable[[Options], Workload]
    unit: str = "ms"
    scale: float = 1e3
    targets: dict[str, tuple[float, float]] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    tolerance: dict[str, float] = field(default_factory=lambda: {"": 1e-4})
    several: bool = False
    seconds: float = 0.5
    memory: int = 0

    def allowed(self, name: str) -> float:
        """The tolerance of one array of the answers."""
        return self.tolerance[max((p for p in self.tolerance if name.startswith(p)), key=len)]
