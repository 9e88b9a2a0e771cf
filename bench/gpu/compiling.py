"""Kernels compiled ahead, by all cores at once, into the cache that the other parts read.

What is launched is found on the planned device, where nothing is computed: the steps that are timed and trained, the
calls that are checked, the kernels that are timed by themselves. One by one, as they are first launched, the several
hundred pieces of code would take longer than everything else here.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.gpu.part import Item, Options, Row, grid

PRECISIONS = ("bf16", "tf32", "fp32")


def items(options: Options) -> list[Item]:
    """A group of launches each, in the order of their use."""
    if not options.timed:
        return []
    steps = [*(("svhn", precision) for precision in PRECISIONS), ("cifar10", "bf16")]
    found = [Item(f"{p} step, {q}", lambda p=p, q=q: build(lambda: step(p, q))) for p, q in steps]
    return [*found, Item("parity", lambda: build(checked), 90), Item("kernels alone", lambda: build(timed))]


def table(rows: list[Row]) -> list[str]:
    """A line for each group."""
    lines = [(r["item"], r["launches"], r["code"], r["compiled"], r["seconds"]) for r in rows]
    found = grid(("launches of", "launches", "pieces of code", "compiled now", "seconds"), lines)
    return [*found, *(f"NOT COMPILED {line}" for row in rows for line in row["failures"])]


def step(preset: str, precision: str) -> list[Any]:
    """The launches of a preset's step, on this device's architecture."""
    from alikit.kernels import launch
    from bench.plan import record_step

    return list(record_step(preset, precision, arch=launch.arch()))


def planned(calls: Iterable[Callable[[], object]]) -> list[Any]:
    """The launches of some calls. One that cannot be planned is left for its own part to fail at."""
    from alikit.kernels import launch
    from alikit.kernels.launch import recording, use

    found = []
    arch = launch.arch()
    with use("plan", arch), recording() as launches:
        for call in calls:
            try:
                call()
            except Exception as error:
                found.append(repr(error))
    if found:
        print(f"{len(found)} calls could not be planned, the first one: {found[0]}")
    return list(launches)


def checked() -> list[Any]:
    """What parity launches."""
    from bench.gpu.case import twin
    from bench.gpu.compare import for_device
    from bench.gpu.parity import grouped

    def run(call: Any) -> None:
        twin(call.kernel, "gpu")(**{name: for_device(value, call.precision) for name, value in call.arguments.items()})

    return planned(lambda call=call: run(call) for calls in grouped(Options()).values() for call in calls)


def timed() -> list[Any]:
    """What is timed kernel by kernel."""
    from bench.gpu import bandwidth, convs

    return planned([*convs.planned_calls(), *bandwidth.planned_calls()])


def build(find: Callable[[], list[Any]]) -> list[Row]:
    """Finds the launches and compiles whatever is new."""
    from alikit.kernels import launch, plan
    from alikit.kernels.source import launch_key

    start = time.perf_counter()
    launches, arch = find(), launch.arch()
    code = {launch_key(record, arch): json.dumps(plan.encode(record)) for record in launches}
    done = list(pool().map(compile_one, code.values(), [arch] * len(code), chunksize=1))
    return [
        {
            "launches": len(launches),
            "code": len(code),
            "compiled": sum(seconds > 0.2 for seconds, _ in done),
            "seconds": time.perf_counter() - start,
            "failures": [failure for _, failure in done if failure],
            "bad": any(failure for _, failure in done),
        }
    ]


@functools.cache
def pool() -> ProcessPoolExecutor:
    """The same processes for all groups: each takes seconds to import what it needs."""
    return ProcessPoolExecutor(jobs(), mp_context=multiprocessing.get_context("spawn"))


def jobs() -> int:
    """Processes: the cores that this one may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compile_one(text: str, arch: int) -> tuple[float, str]:
    """In a process of the pool: (seconds it took, what went wrong)."""
    from alikit.kernels import launch, plan

    start = time.perf_counter()
    try:
        record = plan.decode(json.loads(text))
        launch.compiled(record, arch)
    except Exception as error:
        return time.perf_counter() - start, f"{json.loads(text)['kernel']}: {type(error).__name__}: {error}"[:300]
    return time.perf_counter() - start, ""
