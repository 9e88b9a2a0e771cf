"""Question: how much memory does a training step of the SVHN networks need, the libraries included?

The peak of a fresh process's resident memory after five steps at batch 100 (VmHWM); what was resident before the first
step, libraries, networks and optimisers, is recorded beside it. The work is that of `svhn-step`, which checks it.
"""

from __future__ import annotations

from bench import step
from bench.case import Case

CASE = Case(
    name="memory",
    title="peak memory of the SVHN step",
    alikit=step.SVHN.alikit,
    torch=step.SVHN.torch,
    unit="MB",
    scale=1e-6,
    targets={"after 5 steps": (1.0, 0.7)},
    memory=5,
)
