"""`python -m alikit.sample RUN`: decodings of codes from the prior, as one PNG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from alikit import console, startup

EXAMPLES = """\
  python -m alikit.sample runs/00000-svhn
  python -m alikit.sample runs/00000-svhn --count 100 --seed 7 --out sheet.png
  python -m alikit.sample runs/00000-svhn/checkpoint-00001000.h5
"""


def _parser() -> argparse.ArgumentParser:
    cli = console.parser("sample", "Draw samples from a trained model: x = decode(z), z ~ N(0, I).", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument(
        "--count", metavar="N", type=console.whole(1, 100_000), help="samples (64; points of the mixture 10,000)"
    )
    cli.add_argument(
        "--columns", metavar="N", type=console.whole(1, 10_000), help="tiles in a row (as square as it gets)"
    )
    cli.add_argument("--seed", metavar="N", type=console.whole(0), default=0, help="of the codes (0)")
    cli.add_argument("--out", metavar="FILE.png", type=Path, default=Path("samples.png"), help="default samples.png")
    cli.add_argument("--threads", metavar="N", type=console.whole(1, 4096), help="CPU threads (default all cores)")
    return cli


def _sample(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.pictures import check_png
    from alikit.training import images, plots

    out = check_png("--out", options.out)
    backend.set_threads(options.threads or startup.default_threads())
    model = inference.load(options.run, console.warn)
    points = model.config.dataset == "mixture"
    count = options.count or (10_000 if points else 64)
    x = model.sample(count, options.seed)
    picture = plots.points_figure(x.reshape(-1, 2)) if points else images.sample_grid(x, options.columns)
    images.save_png(out, picture)
    weights = "averaged weights" if model.averaged else "weights"
    print(f"{out}: {count} samples, {weights} of step {model.step}, seed {options.seed}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _sample(options))


if __name__ == "__main__":
    sys.exit(main())
