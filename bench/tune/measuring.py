"""One product's candidates: compiled and read, checked, timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from bench.tune import written
from bench.tune.model import Machine, predict
from bench.tune.search import Search, candidates, prepared, run

GAIN = 0.97  # a winner takes less than this share of the present choice
ROUNDS, SAMPLE = 5, 1e-3
ALLOWED = 2e-2  # distance of a candidate's answer from the present choice's: other sums, the same numbers


def examine(text: str, arch: int) -> list[str]:
    """In a process of the pool: what is wrong with a launch's code."""
    from alikit.kernels import aot, plan

    try:
        return aot.row(plan.decode(json.loads(text)), arch).faults
    except Exception as error:
        return [f"{type(error).__name__}: {error}"[:200]]


def forced(search: Search, product: Any) -> Any:
    """A context in which the search's call runs in the product's tile."""
    from alikit.kernels import tiles

    return tiles.forced(**{search.asked.kind: product.tile})


def compiled(search: Search, products: list[Any], arch: int, pool: Executor) -> list[Any]:
    """The products whose code is as it must be."""
    from alikit.kernels import plan
    from alikit.kernels.launch import recording, use

    texts, known = [], []
    with use("plan", arch):
        arguments = prepared(search.call)
        for product in products:
            try:
                with forced(search, product), recording() as launches:
                    run(search.call, arguments)
            except Exception:
                continue  # a tile that the kernels refuse
            texts.append(json.dumps(plan.encode(launches[0])))
            known.append(product)
    faults = list(pool.map(examine, texts, [arch] * len(texts)))
    return [product for product, wrong in zip(known, faults, strict=True) if not wrong]


def time_all(search: Search, products: list[Any]) -> dict[Any, float]:
    """Seconds of the call in each product's tile, the present choice among them; wrong answers are left out."""
    import numpy as np

    from bench.gpu.clock import Ours, measure
    from bench.gpu.compare import arrays
    from bench.harness import distance

    call, found, wanted = search.call, {}, {}
    arguments = prepared(call)
    for product in products:
        with forced(search, product):
            answers = {n: a.astype(np.float32) for n, a in call.settle(arrays({"": run(call, arguments)})).items()}
            wanted = wanted or answers  # the present choice comes first
            if not all(distance(answers[name], wanted[name]) < ALLOWED for name in wanted):
                print(f"  WRONG in {product.tile}", flush=True)
                continue
            sides: Any = {"alikit": (Ours(), lambda: run(call, arguments))}
            found[product] = measure(sides, rounds=ROUNDS, sample=SAMPLE)["alikit"]["seconds"]
    return found


def tune(
    search: Search, arch: int, machine: Machine, most: int, pool: Executor, clock: Callable[..., dict[Any, float]]
) -> dict[str, Any]:
    """A row: what was predicted and seen of each candidate, the first being the present choice; and the winner."""
    asked = search.asked
    products = compiled(search, candidates(asked, arch, machine, most), arch, pool)
    seconds = clock(search, [asked.chosen, *products])
    now, best = seconds[asked.chosen], min(seconds, key=lambda product: seconds[product])
    tried = [
        {"tile": written.tile_text(p.tile), "predicted": predict(p, asked.images, machine), "seconds": took}
        for p, took in seconds.items()
    ]
    won = best is not asked.chosen and seconds[best] < GAIN * now
    row = {"case": "tune", "name": search.title, "key": list(asked.key), "tried": tried, "now": now}
    return row | {"best": seconds[best], "tile": written.tile_text((best if won else asked.chosen).tile), "won": won}
