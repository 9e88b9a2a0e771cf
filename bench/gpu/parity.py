"""Is it right? Every kernel against its CPU twin, then the whole step, in all precisions (`compare.py` says how).

Results lie in memory that was NaN before. Each call runs many times on the same inputs and must give the same bytes: a
race that shows up only now and then is a difference here. Layers of the models come with everything that rides on
them; besides, shapes that no model has.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bench.gpu import cases, cases_conv
from bench.gpu.case import Call, twin
from bench.gpu.compare import arrays, for_device, for_host, used
from bench.gpu.layers import convolutions
from bench.gpu.part import Item, Options, Row, grid

RUNS, QUICK_RUNS = 12, 2
PRECISIONS = ("fp32", "tf32", "bf16")
#: model -> batch, precisions in which its layers are checked; SVHN's in the tiles that its step at batch 100 has
MODELS = {"svhn": (40, PRECISIONS), "cifar10": (3, ("bf16",)), "celeba": (3, ("bf16",))}


def items(options: Options) -> list[Item]:
    """A group of calls each: what breaks one group leaves the others."""
    from bench.gpu import parity_step

    runs = RUNS if options.timed else QUICK_RUNS
    groups = grouped(options)
    found = [Item(name, lambda calls=calls: check_all(calls, runs), 90) for name, calls in groups.items()]
    return [*found, *parity_step.items(options)]


def grouped(options: Options) -> dict[str, list[Call]]:
    """Every call by group: a kernel other than convolution in all precisions, or one layer."""
    groups: dict[str, list[Call]] = defaultdict(list)
    tiny = not options.timed
    for precision in PRECISIONS[:1] if tiny else ("fp32", "bf16"):
        for call in cases.calls(precision, tiny):
            groups[call.kernel].append(call)
    for title, call in layers(tiny):
        groups[title].append(call)
    return groups


def layers(tiny: bool) -> Iterator[tuple[str, Call]]:
    """Calls of convolutions, each with its group."""
    if tiny:
        for shape in (cases_conv.ODD[0]._replace(n=2, size=5, out=3), cases_conv.ODD[5]):
            for call in cases_conv.calls(cases_conv.plain(shape), "fp32", True):
                yield f"odd {shape.title}", call
        return
    for model, (batch, precisions) in MODELS.items():
        for layer in convolutions(model, batch):
            for precision in precisions:
                for call in cases_conv.calls(layer, precision, precision == "bf16" and model == "svhn"):
                    yield f"{model} {layer.title}", call
    for shape in cases_conv.ODD:
        for precision in PRECISIONS:
            for call in cases_conv.calls(cases_conv.plain(shape), precision, precision != "tf32"):
                yield f"odd {shape.title}", call


def check_all(calls: Iterable[Call], runs: int) -> list[Row]:
    """A row for each call; a wrong one does not stop the next, one that raises does."""
    return [check(call, runs) for call in calls]


def check(call: Call, runs: int) -> Row:
    """Both twins side by side, and the device's against itself."""
    row = {"kernel": call.kernel, "call": call.name, "precision": call.precision, "runs": runs}
    wanted = outcome(call, twin(call.kernel, "cpu"), for_host)
    with poisoned():
        kernel = twin(call.kernel, "gpu")
        first = outcome(call, kernel, for_device)
        again = [outcome(call, kernel, for_device) for _ in range(runs - 1)]
    found, wanted = call.settle(first), call.settle(wanted)
    if found.keys() != wanted.keys():
        return row | {"bad": True, "wrong": f"results {sorted(found)} instead of {sorted(wanted)}"}
    shares = {name: used(found[name], wanted[name], call.precision) for name in wanted}
    moved = sum(any(other[name].tobytes() != first[name].tobytes() for name in first) for other in again)
    worst = max(shares.values(), default=0.0)
    return row | {"bad": not worst <= 1 or moved > 0, "used": worst, "shares": shares, "moved": moved}


def outcome(call: Call, kernel: Any, prepare: Any) -> dict[str, np.ndarray]:
    """The results and what was changed, on the host."""
    arguments = {name: prepare(value, call.precision) for name, value in call.arguments.items()}
    result = kernel(**arguments)
    return arrays({"": result, **{name: value for name, value in arguments.items() if name.startswith("out")}})


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Memory that is NaN before a kernel writes to it; between guard zones where the device is the host's memory."""
    from alikit.kernels import device

    if device.mode() != "cuda":
        with device.guarded():
            yield
        return
    cuda = device.module().cuda
    pool = cuda.MemoryPool()

    def malloc(size: int) -> Any:
        memory = pool.malloc(size)
        if size:
            memory.memset_async(0xFF, size)
        return memory

    with cuda.using_allocator(malloc):
        yield


def table(rows: list[Row]) -> list[str]:
    """A line for each kernel and precision."""
    seen: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        seen[row["kernel"], row["precision"]].append(row)
    lines: list[tuple[Any, ...]] = []
    wrong: list[str] = []
    for (kernel, precision), those in sorted(seen.items()):
        bad = [row for row in those if row["bad"]]
        wrong += [explain(row) for row in bad]
        worst = max((row["used"] for row in those if "used" in row), default=float("inf"))
        lines.append((kernel, precision, len(those), worst, len(bad)))
    return [*grid(("kernel", "precision", "calls", "share of what is allowed", "wrong"), lines), *wrong]


def explain(row: Row) -> str:
    """What is wrong with a call."""
    if "wrong" in row:
        return f"WRONG {row['call']}: {row['wrong']}"
    if row["moved"]:
        return f"RACE {row['call']}: {row['moved']} of {row['runs'] - 1} repetitions gave other bytes"
    name = max(row["shares"], key=lambda key: row["shares"][key])
    return f"WRONG {row['call']}: {name or 'the result'} is off by {row['shares'][name]:.3g} of what is allowed"
