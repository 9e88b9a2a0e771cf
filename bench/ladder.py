"""`python -m bench.ladder`: the same result by faster and faster kernels, from the one that anyone would write first.

A ladder computes one thing in several ways. Each rung is a few lines of Triton and says in its docstring what it does
better than the one below; the top one is the kernel that training uses. Every rung is checked against the CPU twin.
Then it is timed: some twenty calls are captured as a graph, so that nothing but the GPU's own time counts.

Without a GPU every rung runs tiny in Triton's interpreter and is checked. Nothing is timed then, and that is said.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

LADDERS = ("norm", "conv")
CALLS, SAMPLES = 20, 15  # calls in a graph; launches of the graph that are timed


class Rung(NamedTuple):
    """name; run: problem -> arrays, in the order of the answer. Its docstring says why it is there."""

    name: str
    run: Callable[[Any], Sequence[Any]]

    @property
    def why(self) -> str:
        """The docstring in one line."""
        return " ".join((self.run.__doc__ or "").split())


class Ladder(NamedTuple):
    """A thing to compute.

    title    of the table
    problem  tiny -> the arrays on the device, and whatever the rungs want; its `least_bytes` must travel
    answer   problem -> the right arrays on the host
    rungs    slowest first
    floor    what moves no more bytes than must be moved, timed beside the rungs; or None
    flops    problem -> operations, where they are what counts; or None
    """

    title: str
    problem: Callable[[bool], Any]
    answer: Callable[[Any], Sequence[Any]]
    rungs: Sequence[Rung]
    floor: Rung | None = None
    flops: Callable[[Any], float] | None = None


class Step(NamedTuple):
    """What was found of a rung. error: greatest |a - b| / max |b|; launches and bytes as they were counted; seconds or
    None."""

    name: str
    error: float
    launches: int
    bytes: int
    seconds: float | None


class WrongRung(ValueError):
    """A rung's numbers are not the answer."""


def climb(ladder: Ladder, problem: Any, *, timed: bool, tolerance: float) -> list[Step]:
    """Checks every rung, then times it. WrongRung where one is further than the tolerance from the answer."""
    answer = ladder.answer(problem)
    rungs = [*([ladder.floor] if ladder.floor else []), *ladder.rungs]
    return [_step(ladder, rung, problem, answer, timed, tolerance) for rung in rungs]


def _step(ladder: Ladder, rung: Rung, problem: Any, answer: Sequence[Any], timed: bool, tolerance: float) -> Step:
    from alikit.kernels import device
    from alikit.kernels.launch import recording

    # where the GPU is only imitated, memory begins as NaN and nothing may be written beside an array
    try:
        with device.guarded() if device.mode() != "cuda" else contextlib.nullcontext(), recording() as launches:
            found = rung.run(problem)
    except AssertionError as error:
        raise WrongRung(f"{ladder.title}: {rung.name}: {error}") from error
    error = 0.0 if rung is ladder.floor else max(_error(a, b) for a, b in zip(found, answer, strict=True))
    if not error <= tolerance:
        raise WrongRung(f"{ladder.title}: {rung.name} is wrong by {error:.1e} of the largest number")
    moved = sum(x.work.read + x.work.written for x in launches)
    seconds = _seconds(lambda: rung.run(problem)) if timed else None
    return Step(rung.name, error, len(launches), moved, seconds)


def _error(found: Any, wanted: Any) -> float:
    import numpy as np

    from alikit.kernels import device

    found = device.to_host(found).astype(np.float64)
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))


def _seconds(fn: Callable[[], Any]) -> float:
    """Of one call: the median of a graph's launches, divided by the calls in it."""
    from alikit.kernels import device, graph

    memory: Any = graph.step_memory()
    calls = lambda: [fn() for _ in range(CALLS)]  # noqa: E731
    memory.run(calls)
    captured, samples = memory.capture(calls), []
    event, stream = device.module().cuda.Event, memory.stream
    for _ in range(SAMPLES + 5):  # the first ones let the clock rise
        start, end = event(), event()
        start.record(stream)
        captured.launch()
        end.record(stream)
        end.synchronize()
        samples.append(device.module().cuda.get_elapsed_time(start, end) / 1e3 / CALLS)
    return statistics.median(samples[5:])


def report(ladder: Ladder, problem: Any, steps: Sequence[Step]) -> str:
    """The table. bytes: what the launches read and write, over the least that any could; rate: operations, or the least
    bytes, over the time; gain: over the rung below."""
    timed = steps[0].seconds is not None
    head = f"{ladder.title:46}{'error':>8}{'launches':>10}{'bytes':>8}"
    lines = [head + (f"{'time':>12}{'rate':>16}{'gain':>8}" if timed else "")]
    for number, step in enumerate(steps):
        line = f"  {step.name:44}{step.error:>8.0e}{step.launches:>10}{step.bytes / problem.least_bytes:>7.2f}x"
        below = steps[number - 1].seconds if number > (ladder.floor is not None) else None
        lines.append(line + _timing(ladder, problem, step.seconds, below))
    return "\n".join(lines)


def _timing(ladder: Ladder, problem: Any, seconds: float | None, below: float | None) -> str:
    if seconds is None:
        return ""
    flops = ladder.flops(problem) if ladder.flops else None
    rate = f"{flops / seconds / 1e12:.1f} TFLOP/s" if flops else f"{problem.least_bytes / seconds / 1e9:.0f} GB/s"
    return f"{seconds * 1e6:>9.1f} us{rate:>16}" + (f"{below / seconds:>7.2f}x" if below else "")


def show(ladder: Ladder, timed: bool, why: bool) -> None:
    """Climbs a ladder and prints its table."""
    problem = ladder.problem(not timed)
    print(report(ladder, problem, climb(ladder, problem, timed=timed, tolerance=1e-2 if timed else 1e-5)), flush=True)
    for rung in ladder.rungs if why else ():
        print(f"  {rung.name}: {rung.why}")


def main(words: Sequence[str] | None = None) -> int:
    """Climbs the ladders asked for. Returns 0, or 1 where a rung is wrong or nothing can be run."""
    cli = argparse.ArgumentParser("python -m bench.ladder", description=(__doc__ or "").split("\n\n")[0])
    cli.add_argument("ladders", nargs="*", default=LADDERS, metavar="ladder", help=f"of {', '.join(LADDERS)}; all")
    cli.add_argument("--why", action="store_true", help="print what each rung does better than the one below")
    asked = cli.parse_args(words)
    if unknown := set(asked.ladders) - set(LADDERS):
        cli.error(f"unknown ladder {', '.join(sorted(unknown))}; there are {', '.join(LADDERS)}")
    from alikit.backend import choose_device
    from alikit.kernels.launch import INTERPRETED, use

    where, obstacle = choose_device("auto")
    timed = where == "cuda"
    if not timed:
        os.environ.update(INTERPRETED)  # before the first kernel file is imported
    try:
        with use("cuda" if timed else "interpreted"):
            for name in asked.ladders:
                show(import_module(f"bench.ladder_{name}").LADDER, timed, asked.why)
    except (WrongRung, ImportError) as error:
        print(f"NOT TIMED. {error}", file=sys.stderr)
        return 1
    checked = "in bfloat16" if timed else "tiny, in float32, in the kernels' interpreter"
    print(f"Every rung was checked against the CPU kernel, {checked}.")
    if not timed:
        print(f"Nothing was timed: {obstacle}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
