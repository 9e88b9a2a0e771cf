"""The list of data sets: their splits, sizes and terms of use, and the one door that opens them."""

from pathlib import Path

from alikit.data.dataset import Dataset
from alikit.data.files import data_folder
from alikit.data.reporting import Report
from alikit.errors import UsageError

SPLITS: dict[str, tuple[str, ...]] = {  # the first is what a run trains on
    "svhn": ("train", "test", "extra"),
    "cifar10": ("train", "valid", "test"),
    "celeba": ("train", "valid", "test"),
    "tiny-imagenet": ("train", "valid"),
    "folder": ("train", "valid"),
    "mixture": ("train", "valid"),
}
HELD_OUT = {"svhn": {"train": "test", "test": "train", "extra": "train"}}  # sets without a split of that name
SIZES = {"svhn": 32, "cifar10": 32, "celeba": 64, "tiny-imagenet": 64}  # fixed; a folder's is free
FOLDER_SIZE = 64
LARGEST_SIZE = 1024
TERMS = {
    "svhn": "SVHN: for non-commercial use only. Please cite Netzer et al., Reading Digits in Natural Images, 2011.",
    "cifar10": "CIFAR-10: please cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.",
    "celeba": "CelebA: for non-commercial research only; do not redistribute the images or parts of them. "
    "Please cite Liu et al., Deep Learning Face Attributes in the Wild, 2015.",
    "tiny-imagenet": "ImageNet: for non-commercial research and education only, under the terms you agreed to there.",
    "folder": "Your own pictures: what may be done with them, and with a network trained on them, you know best.",
    "mixture": "The mixture is drawn by this program: free.",
    "synthetic": "These house numbers are drawn by this program: free.",
}


def open_dataset(
    name: str,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    size: int | None = None,
    seed: int = 0,
    download: bool = True,
    quiet: bool = False,
) -> Dataset:
    """Open a split of a data set; fetch and prepare it first where that has not been done.

    name      svhn, cifar10, celeba, tiny-imagenet, folder or mixture
    data      the data folder, else $ALIKIT_DATA, else the user's cache folder; for `folder` the pictures; for svhn
              also "synthetic": house numbers drawn by the program
    split     one of SPLITS[name], the first of them by default
    size      height and width of a folder's images, 64 by default; the other sets have theirs
    seed      of what is drawn (mixture, synthetic); downloaded images do not depend on it
    download  whether missing files may be fetched
    quiet     no progress and no remarks on stderr; warnings are printed all the same

    UsageError on options that do not fit the set, DataError on files that are missing, damaged or foreign.

    >>> train = open_dataset("mixture")
    >>> train.take([0, 1]).shape
    (2, 2)
    """
    split, size = check_options(name, data, split, size, seed)
    if str(data) == "synthetic":
        from alikit.data.drawn import DrawnDigits

        return DrawnDigits(split, seed)
    return _open(name, data, split, size, seed, download, Report(quiet))


def check_options(
    name: str, data: str | Path | None, split: str | None, size: int | None, seed: int
) -> tuple[str, int]:
    """The split and the size that options of `open_dataset` mean; UsageError where they do not fit the set. Nothing is
    opened."""
    if name not in SPLITS:
        raise UsageError(f"there is no data set {name!r}: choose from {', '.join(SPLITS)}")
    split = SPLITS[name][0] if split is None else split
    if split not in SPLITS[name]:
        raise UsageError(f"--split: {name} has no split {split!r}: choose from {', '.join(SPLITS[name])}")
    if seed < 0:
        raise UsageError(f"--seed: from 0 up, not {seed}")
    if str(data) == "synthetic" and name != "svhn":
        raise UsageError(f"--data synthetic draws house numbers: it goes with svhn, not with {name}")
    if data and name == "mixture":
        raise UsageError("--data: the mixture is drawn by this program; it reads no files")
    if not data and name == "folder":
        raise UsageError("folder: name the folder of pictures by --data DIR")
    return split, _checked_size(name, size)


def held_out_split(name: str, split: str) -> str:
    """The split that a run on `split` shows in its reconstructions: images that it never trains on.

    svhn: test for a run on train; train for a run on extra (as in the paper). The others: valid.
    """
    return HELD_OUT.get(name, {"train": "valid", "valid": "train", "test": "valid"})[split]


def judging_split(name: str, split: str) -> str:
    """The split to judge a run on `split` by: test where there is one that was not trained on."""
    return "test" if "test" in SPLITS[name] and split != "test" else held_out_split(name, split)


def _checked_size(name: str, size: int | None) -> int:
    fixed = SIZES.get(name)
    if name == "mixture" and size is not None:
        raise UsageError("--size: the mixture has points, not images")
    if fixed and size not in (None, fixed):
        raise UsageError(f"--size: images of {name} are {fixed}x{fixed}; only `folder` takes other sizes")
    size = size if size is not None else fixed or FOLDER_SIZE
    if not 1 <= size <= LARGEST_SIZE:
        raise UsageError(f"--size: from 1 to {LARGEST_SIZE}, not {size}")
    return size


def _open(
    name: str, data: str | Path | None, split: str, size: int, seed: int, download: bool, report: Report
) -> Dataset:
    """Each set's module is imported when it is asked for: Pillow and the like take time to load."""
    if name == "mixture":
        from alikit.data.mixture import open_mixture

        return open_mixture(split, seed)
    if name == "folder":
        from alikit.data.folders import open_folder

        return open_folder(Path(data or ""), split, size, report)
    if name == "tiny-imagenet":
        from alikit.data.folders import open_tiny_imagenet

        return open_tiny_imagenet(data, split, size, report)
    base = data_folder(data)
    if name == "svhn":
        from alikit.data.svhn import open_svhn

        return open_svhn(base, split, download, report)
    if name == "cifar10":
        from alikit.data.cifar10 import open_cifar10

        return open_cifar10(base, split, download, report)
    from alikit.data.celeba import open_celeba

    return open_celeba(base, split, download, report)
