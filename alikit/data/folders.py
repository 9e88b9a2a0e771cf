"""Any folder of pictures as a data set: upright, in RGB, the largest centred square, resampled to size x size.

Held out ("valid") is a twentieth of the pictures: those whose names have the smallest SHA-256. That choice is the same
on every machine, and pictures added later hardly move it. A folder that holds `train` and `val` (or `valid`) is
taken as split by its owner, and what lies beside them is no part of the set. What links name again is one picture.
`tiny-imagenet` is such a folder at 64x64: the paper's Tiny ImageNet is all of ILSVRC2012 shrunk, for which nobody has
published a file.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from alikit.console import counted
from alikit.data import cache, files
from alikit.data.dataset import Dataset
from alikit.data.files import DEMO_HINT, data_folder
from alikit.data.pictures import decode_blocks, fit_square, list_pictures, one_name_each, recipe
from alikit.data.reporting import Report
from alikit.errors import DataError

HELD_OUT_SHARE = 20  # one in so many, at least one
_VALID_FOLDERS = ("val", "valid")
_IMAGENET = "https://image-net.org/download-images"


def open_folder(data: Path, split: str, size: int, report: Report) -> Dataset:
    """The pictures under the folder `data`, subfolders included."""
    root = data.expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder of pictures")
    return _open("folder", root, split, size, report)


def open_tiny_imagenet(data: str | Path | None, split: str, size: int, report: Report) -> Dataset:
    """The pictures under tiny-imagenet in the data folder, or under the folder `data` itself where it is named."""
    base = data_folder(data)
    named = base / "tiny-imagenet"
    root = base if data and base.is_dir() and not named.is_dir() else named
    if not root.is_dir():
        raise DataError(
            f"{named} is missing, and ImageNet cannot be downloaded without an account: "
            f"put the pictures of {_IMAGENET} there, or name their folder by --data DIR; {DEMO_HINT}"
        )
    return _open("tiny-imagenet", root, split, size, report)


def _open(name: str, root: Path, split: str, size: int, report: Report) -> Dataset:
    listed = list_pictures(root)
    parts = _owned(listed) or ("",)
    pictures = one_name_each(root, [name for name in listed if name.startswith(parts)])
    names = split_names(pictures, split)
    if not names:
        raise DataError(
            f"{root}: holds {counted(len(pictures), 'picture')}, none of them for {split}: at least two are needed, "
            "or one each in the subfolders train and val"
        )
    listing = files.listing_stamp(root, names)
    stamp = files.stamp([], listing=listing, split=split, size=str(size), **recipe(names))

    def read() -> tuple[str, cache.Content]:
        report.say(f"reading {counted(len(names), 'picture')} of {root}")
        return stamp, cache.Content((len(names), size, size, 3), lambda: _blocks(root, names, size))

    # the user's own folder stays as it is: what is prepared goes to the cache folder
    prepared = cache.prepare([files.private_cache_path(root, f"{name}-{split}-{size}")], stamp, read, report)
    return prepared.as_dataset(name, split, f"{root} ({len(names):,} of {counted(len(pictures), 'picture')})")


def split_names(names: list[str], split: str) -> list[str]:
    """The names of a split, in the order given: by the subfolders train and val, else by the share held out."""
    if owned := _owned(names):
        return [name for name in names if name.startswith(owned[split == "valid"])]
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    held_out = set(ranked[: max(1, len(names) // HELD_OUT_SHARE)])
    return [name for name in names if (name in held_out) == (split == "valid")]


def _owned(names: list[str]) -> tuple[str, ...]:
    """How the names for train and valid begin where the owner has split the folder; else nothing."""
    tops = {name.split("/", 1)[0] for name in names if "/" in name}
    valid_folder = next((folder for folder in _VALID_FOLDERS if folder in tops), None)
    return ("train/", f"{valid_folder}/") if valid_folder and "train" in tops else ()


def _blocks(root: Path, names: list[str], size: int) -> Iterator[np.ndarray]:
    return decode_blocks(names, lambda name: (root / name).read_bytes(), partial(fit_square, size=size), root)
