"""The whole training step of the SVHN networks at batch 100 and 512 against PyTorch's ways to run the same work.

The work is `torch_peer.Peer`'s and alikit's own: batch from uint8, one forward pass, D once on both halves, both
gradients at the old parameters, both Adams, running statistics. First alikit's step is compared with PyTorch's on the
same numbers, noise and masks in float32. Then each of PyTorch's ways (`torch_steps.py`) is timed in turns with alikit's
step of the same precision. The ratio is PyTorch / alikit: above 1 alikit is faster.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from bench.gpu import runs
from bench.gpu.part import Item, Options, Row, grid

BATCHES = (100, 512)
ROUNDS, SAMPLE = 9, 25e-3
#: (PyTorch's way, alikit's precision), at which batches, in the order of their use; slow compilers come last
PAIRS = (
    ("eager tf32", "tf32", BATCHES),
    ("eager amp bf16", "bf16", BATCHES),
    ("graph amp bf16", "bf16", BATCHES),
    ("compile bf16", "bf16", BATCHES),
    ("eager fp32", "fp32", BATCHES[:1]),
    ("compile tf32", "tf32", BATCHES[:1]),
    ("max-autotune bf16", "bf16", BATCHES),
)
#: (way, batch) -> least ratio: must, aim
TARGETS = {("eager tf32", 100): (4.0, 8.0), ("compiled bf16", 100): (1.3, 2.0), ("compiled bf16", 512): (1.1, 1.5)}
COMPILED = ("compile bf16", "max-autotune bf16")
#: of one step of alikit in bf16 at batch 100, milliseconds
STEP = (1.0, 0.5)


def items(options: Options) -> list[Item]:
    """The check, then alikit alone, then each of PyTorch's ways."""
    if not options.timed:
        return [Item("step against the peer", quick)]
    found = [Item("check", check, 90)]
    found += [
        Item(f"alikit {p}, batch {b}", lambda p=p, b=b: alone(p, b), 60) for b in BATCHES for p in ("bf16", "tf32")
    ]
    found += [Item("alikit bf16, not captured, batch 100", lambda: alone("bf16", 100, graph=False), 60)]
    found += [
        Item(f"{way}, batch {batch}", lambda w=way, p=precision, b=batch: versus(w, p, b), 240)
        for way, precision, batches in PAIRS
        for batch in batches
    ]
    return found


@functools.cache
def steps_of(precision: str, batch: int, graph: bool = True) -> tuple[Any, Callable[[], object]]:
    """alikit's stepper, captured already, and its next step."""
    stepper = runs.stepper("svhn", "cuda", precision, batch, graph=graph)
    numbers = itertools.count()
    for _ in range(4):
        stepper.step(next(numbers))
    return stepper, lambda: stepper.step(next(numbers))


def alone(precision: str, batch: int, graph: bool = True) -> list[Row]:
    """alikit's step by itself."""
    from bench.gpu.clock import Ours, measure

    stepper, step = steps_of(precision, batch, graph)
    clock = Ours(stepper.memory.stream)
    found = measure({"alikit": (clock, step)}, rounds=ROUNDS, sample=SAMPLE, captured=False)["alikit"]
    stepper.check()
    if graph and not stepper.graph:
        raise RuntimeError("the step could not be captured")
    return [{"way": f"alikit {precision}{'' if graph else ', launch by launch'}", "batch": batch, "alikit": found}]


def versus(way: str, precision: str, batch: int) -> list[Row]:
    """One of PyTorch's ways and alikit's step in turns."""
    import torch

    from bench.gpu.clock import Ours, Torch, measure, ratio
    from bench.gpu.torch_steps import build

    stepper, ours = steps_of(precision, batch)
    images = torch.from_numpy(runs.images("svhn")).to("cuda")
    peer, theirs = build(way, "svhn", images, batch)
    losses = sane(theirs)
    sides = {"alikit": (Ours(stepper.memory.stream), ours), "torch": (Torch(), theirs)}
    found = measure(sides, rounds=ROUNDS, sample=SAMPLE, captured=False)
    stepper.check()
    about = {"way": way, "precision": precision, "batch": batch, "losses": losses, "networks": list(peer.networks)}
    return [about | found | {"ratio": ratio(found, "torch", "alikit")}]


def sane(step: Callable[[], Any]) -> list[list[float]]:
    """Losses of a few steps; AssertionError where they are not what the game begins with, 2 ln 2 each."""
    losses = [[float(loss) for loss in step()] for _ in range(8)]
    if not all(0.5 < loss < 3.0 for pair in losses for loss in pair):
        raise AssertionError(f"not timed: the losses are {losses}")
    return losses


def check() -> list[Row]:
    """alikit's step against PyTorch's in float32, everything that it leaves behind."""
    from bench.gpu.torch_steps import allow_tf32

    allow_tf32(False)
    return [{"way": "check", **compare("svhn", "cuda", 100, "cuda")}]


def quick() -> list[Row]:
    """The same of the mixture, in the interpreter, if PyTorch is there."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: the step is not compared with it")
        return []
    return [{"way": "check", **compare("mixture", "cuda", 3, "cpu", count=12)}]


def compare(preset: str, device: str, batch: int, torch_device: str, **changes: Any) -> dict[str, Any]:
    """The worst share of a tolerance; AssertionError beyond 1, or where only one side answers."""
    import torch

    from bench.cases import CASES
    from bench.harness import distance
    from bench.step import answer_torch, peer_name, probe

    case = CASES[f"{preset}-step"]
    stepper = runs.stepper(preset, device, "fp32", batch, graph=False, **changes)
    numbers = probe(stepper.trainer.model, stepper.batches.feed.order.batch_indices(3))
    ours = runs.one_step(stepper, numbers, peer_name)
    images = torch.from_numpy(stepper.batches.feed.dataset.images).to(torch_device)
    theirs = answer_torch(preset, images, numbers, device=torch_device)
    names = ours.keys() & theirs.keys()
    shares = {name: distance(ours[name], theirs[name]) / case.allowed(name) for name in names}
    worst = max(shares, key=lambda name: shares[name])
    if not shares[worst] <= 1 or {name.split("/")[0] for name in names} < {"loss", "gradient", "update", "statistics"}:
        raise AssertionError(f"nothing is timed: {worst} is off by {shares[worst]:.2g} of what is allowed")
    return {"preset": preset, "batch": batch, "used": shares[worst], "worst": worst, "compared": len(names)}


def table(rows: list[Row]) -> list[str]:
    """A line for each way and batch."""
    lines: list[tuple[Any, ...]] = []
    for row in sorted((row for row in rows if "alikit" in row), key=lambda row: row["batch"]):
        mine, other, ratio = row["alikit"], row.get("torch"), row.get("ratio")
        milliseconds = 1e3 * mine["seconds"], 1e3 * other["seconds"] if other else None
        spread = f"{ratio['q20']:.2f}..{ratio['q80']:.2f}" if ratio else None
        rate = row["batch"] / mine["seconds"]
        about = (row["batch"], *milliseconds, ratio["ratio"] if ratio else None, spread, rate)
        lines.append((row["way"], *about))
    heads = ("way", "batch", "alikit ms", "PyTorch ms", "ratio", "q20..q80", "alikit images/s")
    checks = [row for row in rows if row["way"] == "check"]
    told = [f"checked: {row['compared']} arrays, worst {row['worst']} at {row['used']:.2g}" for row in checks]
    return [*told, *(grid(heads, lines) if lines else []), *verdicts(rows)]


def verdicts(rows: list[Row]) -> list[str]:
    """What must be reached, and what was. Of the compiled ways the fastest counts."""
    best: dict[tuple[str, int], float] = {}
    found = []
    for row in rows:
        if "ratio" in row:
            key = "compiled bf16" if row["way"] in COMPILED else row["way"], row["batch"]
            best[key] = min(best.get(key, float("inf")), row["ratio"]["ratio"])
        elif (row["way"], row.get("batch")) == ("alikit bf16", 100):
            took, (must, aim) = 1e3 * row["alikit"]["seconds"], STEP
            found.append(f"alikit bf16, batch 100: {took:.3f} ms {verdict(-took, -must, -aim)}")
    for (way, batch), (must, aim) in TARGETS.items():
        if (way, batch) in best:
            ratio = best[way, batch]
            found.append(f"{way} / alikit, batch {batch}: {ratio:.2f} {verdict(ratio, must, aim)}")
    return found


def verdict(value: float, must: float, aim: float) -> str:
    """For people; more is better."""
    reached = "aim" if value >= aim else "must" if value >= must else "MISSED"
    return f"(must {abs(must)}, aim {abs(aim)}): {reached}"
