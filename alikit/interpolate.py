"""`python -m alikit.interpolate RUN [IMAGE IMAGE]...`: from one image to another through the codes between them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alikit import console, startup
from alikit.errors import UsageError

EXAMPLES = """\
  python -m alikit.interpolate runs/00000-svhn                       between held-out images, the paper's strip
  python -m alikit.interpolate runs/00000-svhn me.jpg you.jpg        between your own pictures, pair by pair
  python -m alikit.interpolate runs/00000-svhn --path spherical --steps 20 --animate morph.webp

A row: an image, the decodings of the codes from its own to the other image's (both ends decoded), the other image.
"""


def _parser() -> argparse.ArgumentParser:
    whole = console.whole
    cli = console.parser("interpolate", "Decode the codes between two images'.", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="picture files, or folders: two by two")
    cli.add_argument("--count", metavar="N", type=whole(2, 1000), help="held-out images to take, two a row (8)")
    cli.add_argument("--steps", metavar="N", type=whole(2, 1000), default=12, help="decoded codes in a row (12)")
    cli.add_argument(
        "--path",
        choices=("linear", "spherical"),
        default="linear",
        help="linear as in the paper; spherical keeps the codes' length (default linear)",
    )
    cli.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the codes' noise (0)")
    cli.add_argument("--data", metavar="DIR", help="the data set's folder (default: where the run found it)")
    cli.add_argument(
        "-o",
        "--out",
        metavar="FILE.png",
        type=Path,
        default=Path("interpolations.png"),
        help="default interpolations.png",
    )
    cli.add_argument(
        "--animate",
        metavar="FILE",
        type=Path,
        help="also write all rows as one animation, there and back: .gif or .webp",
    )
    cli.add_argument("--frames", metavar="N", type=whole(2, 1000), help="--animate: frames from end to end (24)")
    cli.add_argument("--threads", metavar="N", type=whole(1, 4096), help="CPU threads (default all cores)")
    return cli


def _inputs(options: argparse.Namespace, model: Any) -> tuple[Any, str]:
    """The images to go between, (2 R, H, W, C) uint8, and what they are."""
    from dataclasses import replace
    from functools import partial

    from alikit.inference import training_data
    from alikit.pictures import as_uint8, read_pictures
    from alikit.training.feed import held_out

    if options.images:
        if options.count or options.data:
            raise UsageError("--count and --data choose held-out images; pictures were given")
        x, what = read_pictures(options.images, model.shape[0]), "your pictures"
        if len(x) % 2:
            raise UsageError(f"pictures go two by two; there are {len(x)}")
    elif options.count and options.count % 2:
        raise UsageError(f"--count {options.count}: images go two by two; an even number is wanted")
    else:
        config = replace(model.config, data=options.data or model.config.data)
        train = partial(training_data, model, config, console.warn)
        x, what = held_out(config, train, options.count or 8, quiet=False)
        x = x[: len(x) // 2 * 2]  # of few there may be an odd number
    return as_uint8(x), what


def _interpolate(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.pictures import check_name, check_png

    out = check_png("--out", options.out)
    if options.animate:
        check_name("--animate", options.animate, (".gif", ".webp"))
    elif options.frames:
        raise UsageError("--frames goes with --animate")
    backend.set_threads(options.threads or startup.default_threads())
    model = inference.load(options.run, console.warn)
    inference.refuse_conditional(model, options.run, "interpolate")
    if model.config.dataset == "mixture":
        raise UsageError("interpolate shows images; the mixture has points")
    if not model.networks.encodes:
        raise UsageError(f"{options.run}: is a GAN, which has no encoder; train one by --model posthoc --decoder RUN")
    x, what = _inputs(options, model)
    _strip(options, model, x)
    rows = console.counted(len(x) // 2, "row")
    console.tell(f"{out}: {rows} of {options.steps} codes ({what}), {options.path}, step {model.step}")
    if options.animate:
        _animate(options, model, x)
        console.tell(f"{options.animate}: the same as an animation")
    return 0


def _strip(options: argparse.Namespace, model: Any, x: Any) -> None:
    """The paper's figure: a row for each pair, its originals at both ends."""
    import numpy as np

    from alikit.training import images

    first, second = x[::2], x[1::2]
    decoded = images.to_uint8(model.interpolate(first, second, options.steps, options.path, options.seed))
    rows = np.concatenate([first[:, None], decoded, second[:, None]], axis=1)
    images.save_png(options.out, images.grid(rows.reshape(-1, *model.shape), options.steps + 2))


def _animate(options: argparse.Namespace, model: Any, x: Any) -> None:
    """All pairs at once, from the first images to the second ones and back."""
    from alikit.training import images

    decoded = model.interpolate(x[::2], x[1::2], options.frames or 24, options.path, options.seed)
    scale = max(1, round(128 / model.shape[0]))
    columns = min(len(decoded), 4)
    frames = [images.grid(decoded[:, k], columns, scale=scale) for k in range(decoded.shape[1])]
    images.save_animation(options.animate, frames + frames[-2:0:-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _interpolate(options))


if __name__ == "__main__":
    sys.exit(main())
