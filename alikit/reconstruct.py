"""`python -m alikit.reconstruct RUN [IMAGES...]`: images beside decode(encode(image)), as one PNG."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alikit import console, given, startup
from alikit.errors import UsageError

EXAMPLES = """\
  python -m alikit.reconstruct runs/00000-svhn                     held-out images of the run's data set
  python -m alikit.reconstruct runs/00000-svhn me.jpg you.png      your own pictures, cropped and resized
  python -m alikit.reconstruct runs/00000-svhn ~/pictures --out mine.png
  python -m alikit.reconstruct runs/00000-svhn me.jpg --draws 8    the image, then eight draws of its code
  python -m alikit.reconstruct runs/00001-celeba-conditional me.jpg --attributes Male,Eyeglasses,Young

Odd columns hold the images, even columns the reconstructions, drawn from q(z | x) as in the paper.
"""


def _parser() -> argparse.ArgumentParser:
    cli = console.parser("reconstruct", "Reconstruct images: decode(z), z ~ q(z | x).", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="picture files or folders of them")
    cli.add_argument("--count", metavar="N", type=console.whole(2, 10_000), help="held-out images to take (32)")
    cli.add_argument(
        "--draws",
        metavar="N",
        type=console.whole(1, 100),
        default=1,
        help="reconstructions of each image, side by side (1)",
    )
    cli.add_argument(
        "--pairs", metavar="N", type=console.whole(1, 1000), help="images in a row (4; with --draws fewer)"
    )
    given.add_options(cli, sheets=False)
    cli.add_argument("--seed", metavar="N", type=console.whole(0), default=0, help="of the codes' noise (0)")
    cli.add_argument("--data", metavar="DIR", help="the data set's folder (default: where the run found it)")
    cli.add_argument(
        "-o",
        "--out",
        metavar="FILE.png",
        type=Path,
        default=Path("reconstructions.png"),
        help="default reconstructions.png",
    )
    cli.add_argument("--threads", metavar="N", type=console.whole(1, 4096), help="CPU threads (default all cores)")
    return cli


def _inputs(options: argparse.Namespace, model: Any) -> tuple[Any, Any, str]:
    """The images to reconstruct, (N, H, W, C), their conditions or None, and what they are."""
    from dataclasses import replace
    from functools import partial

    from alikit.inference import training_data
    from alikit.pictures import read_pictures
    from alikit.training.feed import held_out_batch

    named = given.chosen(options, model)
    if options.images:
        if options.count or options.data:
            raise UsageError("--count and --data choose held-out images; pictures were given")
        if model.labels and named is None:
            raise UsageError(f"{options.run}: is conditional; say by --class or --attributes what your pictures show")
        return read_pictures(options.images, model.shape[0]), named, "your pictures"
    config = replace(model.config, data=options.data or model.config.data)
    train = partial(training_data, model, config, console.warn)
    batch, what = held_out_batch(config, train, options.count or 32, quiet=False)
    if batch.y is None or named is not None:
        return batch.x, named, what
    return batch.x, batch.y.reshape(len(batch.y), -1), what


def _reconstruct(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.metrics.reconstruction import reconstruction_error
    from alikit.pictures import as_uint8, check_png
    from alikit.training import images

    out = check_png("--out", options.out)
    backend.set_threads(options.threads or startup.default_threads())
    model = inference.load(options.run, console.warn)
    if model.config.dataset == "mixture":
        raise UsageError("reconstruct shows images; a mixture run draws its points and reconstructions as it trains")
    if not model.networks.encodes:
        raise UsageError(f"{options.run}: is a GAN, which has no encoder; train one by --model posthoc --decoder RUN")
    x, y, what = _inputs(options, model)
    draws = [model.reconstruct(x, options.seed + k, y) for k in range(options.draws)]  # the first is that of --draws 1
    per_row = options.pairs or max(1, 8 // (1 + options.draws))
    images.save_png(out, images.group_grid([as_uint8(x), *map(as_uint8, draws)], per_row))
    error = sum(reconstruction_error(x, r) for r in draws) / len(draws)
    many = "" if options.draws == 1 else f", {options.draws} draws of each, standard deviation {_spread(draws):.4f}"
    console.tell(
        f"{out}: {console.counted(len(x), 'image' if many else 'pair')} ({what}), step {model.step}{many}, "
        f"mean squared error {error:.4f}"
    )
    return 0


def _spread(draws: list[Any]) -> float:
    """How far draws of one code lie apart: the deviation of each pixel over the draws, root mean square over pixels."""
    import numpy as np

    return float(np.sqrt(np.var(np.stack(draws), axis=0, dtype=np.float64).mean()))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _reconstruct(options))


if __name__ == "__main__":
    sys.exit(main())
