"""`python -m alikit.sample RUN`: decodings of codes from the prior, as one PNG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alikit import console, given, startup
from alikit.errors import UsageError

EXAMPLES = """\
  python -m alikit.sample runs/00000-svhn
  python -m alikit.sample runs/00000-svhn --count 100 --seed 7 --out sheet.png
  python -m alikit.sample runs/00000-svhn/checkpoint-00001000.h5
  python -m alikit.sample runs/00001-celeba-conditional --attributes sheet      one face, 48 sets of attributes
  python -m alikit.sample runs/00001-celeba-conditional --attributes Smiling,Eyeglasses,Young
  python -m alikit.sample runs/00002-cifar10-conditional --class horse          or sheet: a column for each class
  python -m alikit.sample runs/00000-svhn --nearest    odd columns samples, even columns the nearest training image
"""


def _parser() -> argparse.ArgumentParser:
    cli = console.parser("sample", "Draw samples from a trained model: x = decode(z), z ~ N(0, I).", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument(
        "--count",
        metavar="N",
        type=console.whole(1, 100_000),
        help="samples (64; with --nearest 32; points of the mixture 10,000)",
    )
    cli.add_argument(
        "--columns", metavar="N", type=console.whole(1, 10_000), help="tiles in a row (as square as it gets)"
    )
    cli.add_argument(
        "--nearest",
        action="store_true",
        help="beside each sample the nearest training image: has it been learnt by heart?",
    )
    cli.add_argument("--pairs", metavar="N", type=console.whole(1, 1000), help="--nearest: pairs in a row (4)")
    cli.add_argument("--data", metavar="DIR", help="--nearest: the data set's folder (default: where the run found it)")
    given.add_options(cli, sheets=True)
    cli.add_argument("--seed", metavar="N", type=console.whole(0), default=0, help="of the codes (0)")
    cli.add_argument(
        "-o", "--out", metavar="FILE.png", type=Path, default=Path("samples.png"), help="default samples.png"
    )
    cli.add_argument("--threads", metavar="N", type=console.whole(1, 4096), help="CPU threads (default all cores)")
    return cli


def _sample(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.pictures import check_png
    from alikit.training import images, plots

    out = check_png("--out", options.out)
    _check(options)
    backend.set_threads(options.threads or startup.default_threads())
    model = inference.load(options.run, console.warn)
    points = model.config.dataset == "mixture"
    if points and options.nearest:
        raise UsageError("--nearest shows images; the mixture has points")
    if points and options.columns:
        raise UsageError("--columns: of a sheet of images; the mixture's points are one picture")
    count, columns, about = options.count or (10_000 if points else 32 if options.nearest else 64), options.columns, ""
    if given.wants_sheet(options):
        x, columns, about = given.sheet(options, model, options.count)
        count, about = len(x), f": {about}"
    else:
        x = model.sample(count, options.seed, given.of_samples(options, model, count))
    if options.nearest:
        picture, about = _with_nearest(options, model, x)
    else:
        picture = plots.points_figure(x.reshape(-1, 2)) if points else images.sample_grid(x, columns)
    images.save_png(out, picture)
    weights = "averaged weights" if model.averaged else "weights"
    console.tell(
        f"{out}: {console.counted(count, 'sample')}, {weights} of step {model.step}, seed {options.seed}{about}"
    )
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.nearest and options.columns:
        raise UsageError("--columns: with --nearest, --pairs says how many pairs stand in a row")
    if given.wants_sheet(options) and (options.nearest or options.columns):
        raise UsageError("a sheet has its own layout: neither --nearest nor --columns goes with it")
    if not options.nearest and (options.pairs or options.data):
        raise UsageError("--pairs and --data go with --nearest")


def _with_nearest(options: argparse.Namespace, model: Any, x: Any) -> tuple[Any, str]:
    """The sheet of samples x: (N, H, W, C) beside their nearest training images, and a line about the distances.

    Distances are root mean squares over pixels in [0, 1], with those of as many held-out images to compare with.
    """
    from dataclasses import replace

    from alikit.inference import training_data
    from alikit.pictures import as_uint8
    from alikit.scoring.memory import nearest_training_images
    from alikit.training import images
    from alikit.training.feed import held_out

    config = replace(model.config, data=options.data or model.config.data)
    train = training_data(model, config, console.warn, quiet=True)
    used = min(config.images or len(train), len(train))
    fresh, what = held_out(config, lambda: train, len(x), quiet=True)
    both = [as_uint8(x), as_uint8(fresh)]
    found, distance = nearest_training_images(both, train, used)
    line = (
        f"; nearest of {used:,} images of {train.name} {train.split}, mean distance {distance[0].mean():.4f}"
        f" (of {len(fresh)} images of {what}: {distance[1].mean():.4f})"
    )
    return images.reconstruction_grid(both[0], train.take(found[0]), options.pairs or 4), line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _sample(options))


if __name__ == "__main__":
    sys.exit(main())
