"""`python -m bench`: all measurements, one table, rows in bench/results/. README.md says what the columns mean."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from alikit.console import whole
from bench import report
from bench.case import Options
from bench.cases import CASES
from bench.harness import ROOT, Mismatch, WorkerError, run_case


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    cli = argparse.ArgumentParser("python -m bench", description="Measures alikit beside PyTorch on this machine.")
    cli.add_argument("--cases", default=",".join(CASES), help="some of %(default)s")
    cli.add_argument("--rounds", type=whole(1), default=15, help="pairs of samples of each figure (%(default)s)")
    cli.add_argument("--threads", type=whole(1), default=2, help="of both sides (%(default)s)")
    cli.add_argument("--quick", action="store_true", help="tiny shapes and one round: does everything run?")
    cli.add_argument("--no-torch", action="store_true", help="alikit alone, unchecked")
    cli.add_argument("--results", type=Path, help="folder for the rows (bench/results; with --quick none)")
    options = cli.parse_args(words)
    unknown = set(options.cases.split(",")) - CASES.keys()
    if unknown:
        cli.error(f"--cases: unknown {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Runs the cases asked for. Returns 0, or 1 where one failed or its answers were wrong."""
    asked = parse(words)
    options, rounds = Options(asked.threads, asked.quick), 1 if asked.quick else asked.rounds
    peer = not asked.no_torch and importlib.util.find_spec("torch") is not None
    if not peer:
        print("PyTorch is left out: nothing is checked and there are no ratios (pip install -e '.[bench]')")
    if preset := report.preset():
        print(f"Preset in the environment and left as it is: {preset}")
    folder = asked.results or (None if asked.quick else ROOT / "bench" / "results")
    where, failed = report.place(), False
    print(report.header())
    for case in (CASES[name] for name in asked.cases.split(",")):
        try:
            rows = run_case(case, options, rounds, ("alikit", "torch") if peer else ("alikit",))
        except (Mismatch, WorkerError) as error:
            print(f"{case.title}: NOT TIMED. {error}", file=sys.stderr)
            failed = True
            continue
        rows = [report.finish(row, options, where) for row in rows]
        if case.several:
            print(case.title)
        for row in rows:
            print(report.line(row, case), flush=True)
        if folder is not None:
            report.append(rows, folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
