"""Every case by name, in the order of the table."""

from __future__ import annotations

from bench import kernels, memory, ops, step
from bench.case import Case

CASES: dict[str, Case] = {case.name: case for case in (*step.CASES, memory.CASE, ops.CASE, kernels.CASE)}
