"""Question: what did a change do? One case on two trees by turns: `python -m bench.trees PYTHON --case mixture-step`.

PYTHON is the interpreter of an environment in which the other tree is installed (`pip install -e TREE`). Each side is
that tree's own worker with that tree's own libraries. Their answers are compared first, as with PyTorch.

What the numbers do not show: anything about a tree that lacks the case, or whose workers are asked otherwise.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from alikit.console import whole
from bench.case import Options
from bench.cases import CASES
from bench.harness import ROOT, Client, Mismatch, WorkerError, alternate, check, count_for
from bench.report import spread


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    cli = argparse.ArgumentParser("python -m bench.trees", description="Times one case of this tree beside another's.")
    cli.add_argument(
        "python", type=interpreter, help="interpreter of an environment in which the other tree is installed"
    )
    cases = [name for name, case in CASES.items() if not case.memory]
    cli.add_argument("--case", choices=cases, default="svhn-step", help="(%(default)s)")
    cli.add_argument("--rounds", type=whole(1), default=25, help="pairs of samples of each figure (%(default)s)")
    cli.add_argument("--threads", type=whole(1), default=2, help="of both sides (%(default)s)")
    cli.add_argument("--quick", action="store_true", help="tiny shapes: does it run?")
    return cli.parse_args(words)


def interpreter(word: str) -> str:
    """A path as one that other folders understand, a name as it is. Links stay: an environment's interpreter is one."""
    return os.path.abspath(word) if os.path.dirname(word) else word


def tree_of(python: str) -> Path:
    """The folder that alikit was installed from there. WorkerError where it is not, or not from a tree."""
    command = [python, "-c", "import alikit; print(alikit.__file__)"]
    try:
        done = subprocess.run(command, cwd=ROOT.anchor, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise WorkerError(f"{python}: cannot import alikit ({error})") from None
    tree = Path(done.stdout.strip()).parents[1]
    if not (tree / "bench" / "worker.py").exists():
        raise WorkerError(f"{python}: alikit was not installed from a tree: pip install -e TREE")
    return tree


def compare(asked: argparse.Namespace) -> None:
    """Prints a line for each figure of the case. Mismatch, WorkerError."""
    case, options = CASES[asked.case], Options(asked.threads, asked.quick)
    tree = tree_of(asked.python)
    with (
        Client(case.name, "alikit", options) as this,
        Client(case.name, "alikit", options, asked.python, tree) as other,
    ):
        names = this.ask("describe")["names"]
        check(case, this, other, "the other tree's")
        sides = {"this": this, "other": other}
        for name in names:
            counts = {side: count_for(client, name, case, options) for side, client in sides.items()}  # warms both
            samples = alternate(sides, name, asked.rounds, counts)
            ratio, cpu = (
                spread([a / b for a, b in zip(samples["this"][key], samples["other"][key], strict=True)])
                for key in ("wall", "cpu")
            )
            scale = case.scale / case.units.get(name, 1)
            times = ", ".join(f"{side} {statistics.median(s['wall']) * scale:.3g}" for side, s in samples.items())
            print(
                f"{case.title}: {name}: {times} {case.unit}; this / other {ratio.median:.3f} "
                f"({ratio.q1:.3f}..{ratio.q3:.3f}), processor time {cpu.median:.3f}"
            )


def main(words: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a side failed or they do not compute the same."""
    try:
        compare(parse(words))
    except (Mismatch, WorkerError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
