"""`python -m alikit.data SET`: fetch and prepare a data set ahead of time, and say what it holds and its terms."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alikit import console
from alikit.data.catalogue import SPLITS, TERMS, held_out_split, open_dataset
from alikit.data.dataset import Dataset
from alikit.errors import AlikitError, UsageError

_EXAMPLES = """\
  python -m alikit.data svhn                            the training split and the one held out, 246 MB to download
  python -m alikit.data svhn --split extra              the paper's training split, 1.3 GB
  python -m alikit.data svhn --data synthetic --contact-sheet digits.png
  python -m alikit.data folder --data ~/pictures --size 64 --contact-sheet pictures.png

Files are looked for in --data DIR, else in $ALIKIT_DATA, else in the user's cache folder, there and in the subfolder
named after the set; what is missing is downloaded. Exit codes: 0 done, 1 failure, 2 usage, 3 data missing or damaged.
"""
_SHEET_SIDE = 8  # images in a row and in a column of the contact sheet
_GAP = 2  # pixels


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (argparse exits by itself, with 2, on options it does not know)."""
    options = _parser().parse_args(argv)
    return console.run(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    what = "Fetch and prepare a data set ahead of time; print what it holds and its terms of use."
    parser = console.parser("data", what, _EXAMPLES)
    parser.add_argument("set", choices=list(SPLITS), help="the data set")
    parser.add_argument("--data", metavar="DIR", help="the data folder; svhn also: synthetic, house numbers drawn here")
    parser.add_argument("--split", metavar="NAME", help="only this split; default: to train on, and its held-out one")
    parser.add_argument(
        "--size", metavar="N", type=console.whole(1), help="height and width of a folder's images (default 64)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=console.whole(0), default=0, help="of what is drawn: synthetic, mixture"
    )
    parser.add_argument("--contact-sheet", metavar="FILE.png", type=Path, help="write 64 images of the (first) split")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _run(options: argparse.Namespace) -> int:
    sheet = options.contact_sheet
    if sheet and options.set == "mixture":
        raise UsageError("--contact-sheet: shows images; the mixture has points")
    if sheet and sheet.suffix.lower() != ".png":
        raise UsageError(f"--contact-sheet {sheet}: a name ending in .png is wanted")
    first = options.split or SPLITS[options.set][0]
    for split in [first] if options.split else [first, held_out_split(options.set, first)]:
        dataset = open_dataset(
            options.set, data=options.data, split=split, size=options.size, seed=options.seed, quiet=options.quiet
        )
        console.tell(describe(dataset))
        if sheet and split == first:
            _save(contact_sheet(dataset), sheet)
            console.tell(f"  contact sheet  {sheet}")
    console.tell(f"terms of use: {TERMS['synthetic' if options.data == 'synthetic' else options.set]}")
    return 0


def describe(dataset: Dataset) -> str:
    """What a set holds, in lines for people."""
    things = "points" if len(dataset.shape) == 1 else f"images of {dataset.shape[0]}x{dataset.shape[1]}"
    checked = {True: "as published", False: "not the published files", None: "nothing published to compare with"}
    lines = [
        f"{dataset.name} {dataset.split}: {len(dataset):,} {things}",
        f"  source         {dataset.source}",
        f"  source files   {checked[dataset.published]}",
        f"  content        SHA-256 {dataset.checksum}",
    ]
    if dataset.cache:
        lines.append(f"  prepared file  {dataset.cache} ({dataset.cache.stat().st_size / 1e6:,.1f} MB)")
    return "\n".join(lines)


def contact_sheet(dataset: Dataset) -> np.ndarray:
    """64 images, evenly spaced over the set, on white: (8 (H + 2) + 2, 8 (W + 2) + 2, 3) uint8, small ones enlarged."""
    images = dataset.take(np.linspace(0, len(dataset) - 1, _SHEET_SIDE**2).astype(np.int64))
    scale = max(1, 96 // images.shape[1])
    tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = tiles.shape[1] + _GAP, tiles.shape[2] + _GAP
    sheet = np.full((_SHEET_SIDE * height + _GAP, _SHEET_SIDE * width + _GAP, 3), 255, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // _SHEET_SIDE * height + _GAP, place % _SHEET_SIDE * width + _GAP
        sheet[top : top + len(tile), left : left + tile.shape[1]] = tile
    return sheet


def _save(sheet: np.ndarray, path: Path) -> None:
    from PIL import Image

    try:
        Image.fromarray(sheet).save(path)
    except OSError as error:
        raise AlikitError(f"{path}: cannot be written ({error.strerror or error})") from None


if __name__ == "__main__":
    sys.exit(main())
