"""One pass of every kernel under NVIDIA's compute-sanitizer, where it is installed: accesses out of bounds, misaligned
ones, and (on a few calls) races between the threads of a program.

Arrays are allocated one by one here: within a pool an access behind the end of one array would hit the next, and nobody
would notice. The pass is a process of its own (`python -m bench.gpu.sanitizer`) that prints a line for each call, so
that calls which the time did not suffice for are told from calls that were clean.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.gpu.part import Item, Options, Row, grid
from bench.harness import ROOT

PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
#: tool -> seconds for its pass
TOOLS = {"memcheck": 55, "racecheck": 40}
FOUND = 9  # exit code where an error was found
#: calls of each kernel that racecheck sees: it is slower still
RACED = 1


def items(options: Options) -> list[Item]:
    """A pass for each tool."""
    if not options.timed:
        return []
    return [Item(tool, lambda t=tool: check(t, options), seconds + 20) for tool, seconds in TOOLS.items()]


def program() -> str | None:
    """Where compute-sanitizer is."""
    return shutil.which("compute-sanitizer", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))


def check(tool: str, options: Options) -> list[Row]:
    """Runs the pass; what it printed stays beside the rows."""
    where, log = program(), Path(options.out) / f"sanitizer-{tool}.txt"
    if where is None:
        return [{"tool": tool, "state": "compute-sanitizer is not installed", "calls": 0}]
    words = [where, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, "-m", "bench.gpu.sanitizer", tool]
    late = False
    with log.open("w") as out:
        try:
            code = subprocess.run(words, cwd=ROOT, stdout=out, stderr=out, timeout=TOOLS[tool]).returncode
        except subprocess.TimeoutExpired:
            code, late = 0, True
    lines = log.read_text(errors="replace").splitlines()
    calls = sum(line.startswith("CALL ") for line in lines)
    errors = [line for line in lines if line.startswith("=========") and "error" in line.lower()]
    bad = code != 0 or any("ERROR SUMMARY: 0" not in line and "hazard" not in line.lower() for line in errors)
    state = "found errors" if bad else "clean until its time was over" if late else "clean"
    return [{"tool": tool, "state": state, "calls": calls, "code": code, "lines": errors[:20], "bad": bad}]


def calls(tool: str) -> Iterator[object]:
    """What is looked at: bf16 first; for races only some."""
    from bench.gpu import parity

    seen: dict[str, int] = {}
    for group in parity.grouped(Options()).values():
        for call in group:
            seen[call.kernel] = seen.get(call.kernel, 0) + (call.precision == "bf16")
            if call.precision == "bf16" and (tool != "racecheck" or seen[call.kernel] <= RACED):
                yield call


def main(tool: str) -> None:
    """Every call once, each array an allocation of its own."""
    from alikit.kernels import device
    from bench.gpu.case import twin
    from bench.gpu.compare import arrays, for_device

    device.module().cuda.set_allocator(None)
    for call in calls(tool):
        arguments = {name: for_device(value, call.precision) for name, value in call.arguments.items()}
        arrays(twin(call.kernel, "gpu")(**arguments))
        print(f"CALL {call.name}", flush=True)


def table(rows: list[Row]) -> list[str]:
    """A line for each tool."""
    found = grid(("tool", "calls", "found"), [(row["tool"], row["calls"], row["state"]) for row in rows])
    return [*found, *(line for row in rows if row.get("bad") for line in row["lines"][:5])]


if __name__ == "__main__":
    main(sys.argv[1])
