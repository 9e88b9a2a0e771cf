"""`python -m alikit.study mixture`: ALI and what it is compared with on 25 Gaussians, many runs, one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alikit import console, startup
from alikit.errors import UsageError

if TYPE_CHECKING:  # NumPy must not be imported before BLAS is set up
    from alikit.study.plan import Settings

EXAMPLES = """\
  python -m alikit.study mixture                           search: ten random configurations of five models
  python -m alikit.study mixture --best                    the stated configuration, five seeds
  python -m alikit.study mixture --jobs 1 --quiet          one run at a time, without a word
  python -m alikit.study mixture --configs 2 --steps 500 --models ali,gan --out quick
  python -m alikit.study mixture --report                  the tables and the figure of what is finished

The same command goes on where it was stopped: finished runs are not run again, those that were running lose at most
--checkpoint-every steps. A study is a folder: table.md, table.json, figure.png, results/, logs/ and runs/, which hold
runs like any other. Exit codes as of alikit.train; a run that diverges is counted and ends nothing.
"""


def _parser() -> argparse.ArgumentParser:
    cli = console.parser("study", "ALI, GANs and a VAE on the paper's mixture, side by side.", EXAMPLES)
    whole, number = console.whole, console.number
    cli.add_argument("set", choices=("mixture",), help="the data set")
    plan = cli.add_argument_group("what is run")
    plan.add_argument("--best", action="store_true", help="one stated configuration instead of random ones")
    plan.add_argument("--configs", metavar="N", type=whole(1, 100), help="random configurations (10)")
    plan.add_argument("--seeds", metavar="N", type=whole(1, 1000), help="runs of each configuration (1; with --best 5)")
    plan.add_argument("--models", metavar="A,B", default="ali,gan,inverse,posthoc,vae", help="default all five")
    plan.add_argument("--seed", metavar="N", type=whole(0), help="of data, configurations, first run (0)")
    game = cli.add_argument_group("training")
    game.add_argument("--steps", metavar="N", type=whole(1), help="of every run (15,000; with --best 30,000)")
    game.add_argument("--batch-size", metavar="N", type=whole(2), help="points a step (100)")
    bounds = {
        "lr": (number(0, 1, above=True), "Adam's step size: a value, or a range drawn from (log-uniform)"),
        "beta1": (number(0, 1, below=True), "Adam's beta1, likewise (uniform)"),
        "init-std": (number(0, 10, above=True), "of initial weights, likewise (log-uniform)"),
    }
    for name, (kind, text) in bounds.items():
        game.add_argument(f"--{name}", metavar="X", type=kind, nargs="+", help=text)
    game.add_argument("--ema", metavar="RATE", type=number(0, 1, above=True), help="average the weights at this rate")
    game.add_argument("--width", metavar="X", type=number(0, 16, above=True), help="factor on the hidden layers (1)")
    run = cli.add_argument_group("run")
    run.add_argument("--jobs", metavar="N", type=whole(1, 4096), help="runs side by side, a thread each (all cores)")
    run.add_argument("--checkpoint-every", metavar="N", type=whole(1), default=1000, help="steps (1,000)")
    run.add_argument(
        "-o", "--out", metavar="DIR", type=Path, help="default studies/mixture, with --best studies/mixture-best"
    )
    run.add_argument("--no-figure", action="store_true", help="tables only; needs no matplotlib")
    run.add_argument("--report", action="store_true", help="train nothing: report on the runs that are finished")
    run.add_argument("--dry-run", action="store_true", help="print the settings and the runs, write nothing")
    run.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    return cli


def _settings(options: argparse.Namespace) -> Settings:
    from alikit.study.plan import BEST, SEARCH

    if options.best and options.configs not in (None, 1):
        raise UsageError("--configs: of random ones; --best is one stated configuration")
    given = console.given(options, ("steps", "batch_size", "ema", "width", "seed"))
    ranges = {}
    for name, values in console.given(options, ("lr", "beta1", "init_std")).items():
        if not isinstance(values, list) or len(values) > 2 or values[0] > values[-1]:
            raise UsageError(f"--{name.replace('_', '-')}: a value, or a range from low to high, is wanted")
        if options.best and values[0] < values[-1]:
            raise UsageError(f"--{name.replace('_', '-')}: --best is one stated configuration: one value is wanted")
        ranges[name] = values[0], values[-1]
    return replace(BEST if options.best else SEARCH, **given, **ranges)  # type: ignore[arg-type]


def _study(options: argparse.Namespace) -> int:
    from alikit.study import conduct
    from alikit.study.place import Place
    from alikit.study.plan import check_models

    settings, models = _settings(options), check_models(options.models.split(","))
    configs = options.configs or (1 if options.best else 10)
    scope = conduct.Scope(configs, options.seeds or (5 if options.best else 1), models)
    place = Place(options.out or Path("studies", "mixture-best" if options.best else "mixture"))
    if options.dry_run:
        return conduct.announce(place, settings, scope, options.checkpoint_every)
    if not options.no_figure:
        from alikit.study.figure import check_matplotlib

        check_matplotlib()
    place.prepare(settings, new=not options.report)
    if not options.report:
        with place.locked():
            parallel = options.jobs or startup.default_threads()
            code = conduct.conduct(place, settings, scope, parallel, options.checkpoint_every, options.quiet)
        if code:
            return code
    conduct.report(place, settings, scope, figure=not options.no_figure, quiet=options.quiet)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _study(options))


if __name__ == "__main__":
    sys.exit(main())
