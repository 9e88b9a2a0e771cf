"""`python -m bench.gpu`: parity, ceilings, kernels, steps, training and resume on an NVIDIA GPU, in eight minutes.

Every part prints its short table as soon as it is done, and all of them stand at the end once more. Rows go to
`--out DIR/rows.jsonl` one by one, what libraries print to `DIR/<part>.log`. Without a GPU the same code runs on tiny
shapes in the kernels' interpreter, and nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alikit.backend import choose_device
from alikit.errors import DeviceError
from bench.gpu import place
from bench.gpu.part import Options, Part, Row
from bench.gpu.parts import PARTS, TOTAL, seconds_for
from bench.gpu.runner import environment, run_part
from bench.gpu.warm import Background


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    cli = argparse.ArgumentParser("python -m bench.gpu", description="Checks and measures alikit on an NVIDIA GPU.")
    cli.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    cli.add_argument("--out", type=Path, default=Path("bench-gpu"), help="folder for rows and logs (%(default)s)")
    cli.add_argument("--data", help="folder of the real SVHN; drawn house numbers without it")
    cli.add_argument("--seconds", type=float, default=60.0, help="of real training (%(default)g)")
    cli.add_argument("--minutes", type=float, default=TOTAL / 60, help="for everything (%(default).1f)")
    cli.add_argument("--only", default="", metavar="TEXT", help="of each part the items with this in their name")
    cli.add_argument("--no-gpu", action="store_true", help="tiny, interpreted, untimed: does it run?")
    options = cli.parse_args(words)
    unknown = set(options.parts.split(",")) - PARTS.keys()
    if unknown:
        cli.error(f"--parts: unknown {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.minutes <= 0 or options.seconds <= 0:
        cli.error("--minutes and --seconds are above 0")
    return options


def device(no_gpu: bool) -> str:
    """ "cuda" or "interpreted"; says so where it is the latter."""
    if not no_gpu:
        try:
            choose_device("cuda")
            return "cuda"
        except DeviceError as error:
            print(f"{error}")
    print("NOTHING IS TIMED: tiny shapes in the kernels' interpreter, to see that everything runs")
    return "interpreted"


class Report:
    """Rows to a file, one by one; short tables to the screen, part by part and once more at the end."""

    def __init__(self, folder: Path, where: dict[str, Any]):
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.where = folder / "rows.jsonl", where
        self.tables: list[str] = []
        self.failed = 0

    def keep(self, row: Row) -> None:
        """Adds a row with its place."""
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({**self.where, **row}) + "\n")

    def show(self, part: Part, rows: list[Row], seconds: float) -> None:
        """Prints a part's table, and what failed below it."""
        failed = [row for row in rows if "failed" in row]
        try:
            table = part.table([row for row in rows if "failed" not in row])
        except Exception as error:  # a table that cannot be made hides no other
            table, failed = [], [*failed, {"item": "table", "failed": repr(error)}]
        lines = [f"== {part.title} ({seconds:.0f} s)", *(table if rows else ["nothing to do here"])]
        lines += [f"FAILED {row['item']}: {row['failed'].strip().splitlines()[0][:300]}" for row in failed]
        self.failed += len(failed) + sum(bool(row.get("bad")) for row in rows)
        self.tables.append("\n".join(lines))
        print(self.tables[-1] + "\n", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the parts asked for. Returns 0, or 1 where anything failed."""
    asked = parse(words)
    kind, out = device(asked.no_gpu), asked.out.resolve()
    options = Options(kind, str(out), asked.data, asked.seconds, max(1.0, 60 * asked.minutes / TOTAL), asked.only)
    where = place.place() | {"device": kind}
    report, began = Report(out, where), time.monotonic()
    print(place.line(where) + "\n", flush=True)
    run_parts([PARTS[name] for name in asked.parts.split(",")], options, report, began + 60 * asked.minutes)
    if len(report.tables) > 1:
        print("=" * 100, place.line(where), *report.tables, sep="\n\n")
    clocks = {name: value for name, value in place.gpu().items() if name.startswith(("clocks", "temp", "power"))}
    print(f"\n{time.monotonic() - began:.0f} s; rows: {report.file}; failed: {report.failed}; at the end {clocks}")
    return 1 if report.failed else 0


def run_parts(parts: list[Part], options: Options, report: Report, deadline: float) -> None:
    """One after the other; beside those that time nothing PyTorch compiles what will be timed later."""
    background: Background | None = None
    if options.timed and PARTS["steps"] in parts and not parts[0].timed and find_spec("torch"):
        background = Background(Path(options.out), environment(options))
    for number, part in enumerate(parts):
        if background is not None and part.timed:
            background.stop()
            background = None
        start = time.monotonic()
        seconds = seconds_for(part, parts[number + 1 :], deadline - start, options.scale)
        rows = run_part(part, options, seconds, report.keep)
        report.show(part, rows, time.monotonic() - start)
    if background is not None:
        background.stop()


if __name__ == "__main__":
    sys.exit(main())
