"""One side of one case in its own process: `python -m bench.worker CASE SIDE THREADS full|quick`, spoken to in JSON.

Own processes, because the thread settings and libraries of both sides would disturb each other and because peak memory
belongs to a process. A worker sleeps on its pipe while the other side works.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.case import LIBRARIES, Options, Workload


class Worker:
    """Answers commands on a Workload."""

    def __init__(self, workload: Workload):
        self.workload = workload

    def describe(self) -> dict[str, Any]:
        """What there is to measure, and with which libraries."""
        libraries = {name: version_of(name) for name in ("numpy", "numba", "torch") if name in sys.modules}
        environment = {k: v for k, v in os.environ.items() if k.startswith(LIBRARIES)}
        load = self.workload
        return {
            "names": list(load.thunks),
            "cost": load.cost,
            "libraries": libraries,
            "environment": environment,
        }

    def ceiling(self) -> dict[str, float]:
        """What this machine reaches just now."""
        return self.workload.ceiling()

    def probe(self, file: str) -> None:
        """Saves inputs for the check."""
        import numpy as np

        assert self.workload.probe is not None
        np.savez(file, **self.workload.probe())

    def answer(self, probe: str, file: str) -> None:
        """Saves this side's numbers on the inputs."""
        import numpy as np

        with np.load(probe) as inputs:
            np.savez(file, **self.workload.answer(dict(inputs)))

    def time(self, name: str, count: int) -> dict[str, float]:
        """Runs a unit `count` times; seconds on the clock and of processor time, in all."""
        thunk = self.workload.thunks[name]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            thunk()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def memory(self) -> dict[str, int]:
        """Bytes resident now and at their peak."""
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:  # not Linux: getrusage knows the peak alone, in bytes
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return {"now": peak, "peak": peak}
        status = dict(line.split(":", 1) for line in lines)
        return {key: int(status[name].split()[0]) * 1024 for key, name in (("now", "VmRSS"), ("peak", "VmHWM"))}


def version_of(name: str) -> str | None:
    """Version of an installed library, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def build(case: str, side: str, options: Options) -> Workload:
    """The side's Workload, with its threads set.

    On alikit's side the process is prepared first, as the commands do; of that PyTorch, too, gets what it gains from:
    kept memory saves it about 5 % of the SVHN step.
    """
    from alikit import startup

    if side == "alikit":
        startup.prepare()
        from alikit import set_threads

        set_threads(options.threads)
    else:
        startup.keep_memory()
        import torch

        torch.set_num_threads(options.threads)
    from bench.cases import CASES

    make: Callable[[Options], Workload] = getattr(CASES[case], side)
    return make(options)


def main(case: str, side: str, threads: str, quick: str) -> None:
    """Serves commands, one a line, until standard input closes; what libraries print goes to standard error."""
    replies, sys.stdout = sys.stdout, sys.stderr
    worker: Worker | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if worker is None:
                worker = Worker(build(case, side, Options(int(threads), quick == "quick")))
            reply = {"result": getattr(worker, command.pop("do"))(**command)}
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
