"""`python -m bench.tune`: tiles of the convolutions of a preset's step, measured, into `kernels/tiles.py`.

For each product, the most expensive first: the tiles that the traffic model likes are compiled by all cores, those that
spill or want too much shared memory are dropped, the others are checked against the present choice and timed in turns
with it, as a graph of many launches. A winner must be faster by more than the noise. What was predicted stands beside
what was seen. Without a GPU nothing is timed and nothing is written: the first product's candidates are compiled.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from alikit.backend import choose_device
from alikit.errors import DeviceError
from bench import report
from bench.gpu import place
from bench.gpu.compiling import jobs
from bench.gpu.part import grid
from bench.harness import ROOT
from bench.tune import written
from bench.tune.measuring import compiled, time_all, tune
from bench.tune.model import Machine, predict
from bench.tune.search import CANDIDATES, candidates, searches

TILES = ROOT / "kernels" / "tiles.py"
PRESETS = ("svhn", "celeba", "cifar10", "tiny-imagenet")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    usual = Machine()
    cli = argparse.ArgumentParser("python -m bench.tune", description="Finds tiles for the convolutions by measuring.")
    cli.add_argument("--preset", choices=PRESETS, default="svhn")
    cli.add_argument("--precision", nargs="+", choices=("bf16", "tf32", "fp32"), default=["bf16"])
    cli.add_argument("--batch-size", type=int, default=100, metavar="N")
    cli.add_argument("--seconds", type=float, default=420.0, help="for everything (%(default)g)")
    cli.add_argument("--candidates", type=int, default=CANDIDATES, help="of each product (%(default)s)")
    cli.add_argument("--l2", type=float, default=usual.l2, help="bytes/s that the model assumes (%(default)g)")
    cli.add_argument("--tiles", type=Path, default=TILES, help="the file whose table is rewritten")
    cli.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder for the rows")
    cli.add_argument("--dry-run", action="store_true", help="time, but leave the table as it is")
    return cli.parse_args(words)


def entry(row: dict[str, Any], gpu: str) -> written.Entry:
    """The winner as a row of the table."""
    return written.Entry(tuple(row["key"]), row["tile"], gpu, f"{1e6 * row['best']:.1f} us of {1e6 * row['now']:.1f}")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each product."""
    lines = []
    for row in rows:
        best = min(row["tried"], key=lambda one: one["seconds"])
        order = sorted(row["tried"], key=lambda one: one["predicted"]).index(best) + 1
        times = (1e6 * row["now"], 1e6 * row["best"], 1e6 * best["predicted"])
        lines.append((row["name"], len(row["tried"]), *times, order, row["tile"] if row["won"] else "as it was"))
    return grid(("product", "tried", "now us", "best us", "predicted", "its place in the prediction", "tile"), lines)


def main(words: Sequence[str] | None = None) -> int:
    """Tunes until the time is over; returns 0."""
    asked = parse(words)
    machine = Machine(l2=asked.l2)
    try:
        choose_device("cuda")
    except DeviceError as error:
        return untimed(asked, machine, str(error))
    from alikit.kernels.launch import arch

    until, where = time.monotonic() + asked.seconds, place.place()
    todo = [s for p in asked.precision for s in searches(asked.preset, p, asked.batch_size, arch(), machine)]
    rows = []
    with ProcessPoolExecutor(jobs(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for number, search in enumerate(todo):
            if time.monotonic() > until:
                print(f"the time is over: {len(todo) - number} of {len(todo)} products are left as they were")
                break
            rows.append(tune(search, arch(), machine, asked.candidates, pool, time_all))
            print(f"{search.title}: {1e6 * rows[-1]['now']:.1f} us, best {1e6 * rows[-1]['best']:.1f} us", flush=True)
    gpu = where["gpu"].get("name", "an unnamed GPU")
    if rows:
        print("\n".join(table(rows)))
        report.append([{**where, **row} for row in rows], asked.results)
    won = [entry(row, gpu) for row in rows if row["won"]]
    if won and not asked.dry_run:
        written.write(asked.tiles, won)
        print(f"{len(won)} rows of {asked.tiles.name} are written: {gpu}")
    return 0


def untimed(asked: argparse.Namespace, machine: Machine, why: str) -> int:
    """Without a GPU: the first product's candidates, compiled."""
    from alikit.kernels.launch import PLAN_ARCH

    print(f"{why}\nNOTHING IS TIMED: the candidates of the first product are compiled for sm_{PLAN_ARCH}")
    first = searches(asked.preset, asked.precision[0], asked.batch_size, PLAN_ARCH, machine)[0]
    products = candidates(first.asked, PLAN_ARCH, machine, asked.candidates)
    with ProcessPoolExecutor(min(2, jobs()), mp_context=multiprocessing.get_context("spawn")) as pool:
        kept = compiled(first, products, PLAN_ARCH, pool)
    print(f"{first.title}: {len(products)} candidates, {len(kept)} can run; predicted:")
    for product in [first.asked.chosen, *kept]:
        seconds = predict(product, first.asked.images, machine)
        print(f"  {written.tile_text(product.tile):<60} {1e6 * seconds:8.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
