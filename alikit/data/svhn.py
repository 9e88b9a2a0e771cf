"""SVHN, cropped digits ("format 2"; Netzer et al., 2011): 32x32 colour images of house numbers.

Files {train,test,extra}_32x32.mat, MATLAB 5 with compressed elements: `X` (32, 32, 3, N) uint8 as (row, column,
channel, image), column-major; `y` (N, 1) with 1..10, where 10 stands for the digit 0. SciPy reads them, once.
"""

import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alikit.data import cache, files
from alikit.data.dataset import Dataset
from alikit.data.download import fetch
from alikit.data.files import Place, Published
from alikit.data.reporting import Report
from alikit.errors import DataError

_URL = "http://ufldl.stanford.edu/housenumbers/"
PUBLISHED = {
    split: Published(f"{split}_32x32.mat", f"{_URL}{split}_32x32.mat", size, sha256)
    for split, size, sha256 in (
        ("train", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        ("test", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
        ("extra", 1_329_278_602, "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3"),
    )
}
_BLOCK = 1024
# What SciPy raises on files that are cut, flipped or not its own
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, NotImplementedError, zlib.error)


def open_svhn(base: Path, split: str, download: bool, report: Report) -> Dataset:
    """train, test or extra. DataError where the file is missing and cannot be had, or is not SVHN."""
    file = PUBLISHED[split]
    place = Place(base, "svhn", tuple(f.name for f in PUBLISHED.values()))
    source = place.find(file.name)

    def read() -> tuple[str, cache.Content]:
        path = source or fetch(file, place.home, download, report)
        report.say(f"reading {path}")
        images, digits = read_mat(path)
        names = tuple("0123456789")
        content = cache.Content(
            (len(digits), 32, 32, 3), lambda: _blocks(images), digits, names, {path.name: files.sha256_of(path)}
        )
        return files.stamp([path]), content

    stamp = files.stamp([source]) if source else None
    prepared = cache.prepare(place.cache_paths(f"svhn-{split}"), stamp, read, report)
    folder = source.parent if source else place.home
    published = files.compare(folder, prepared.sources, [file], report)
    return prepared.as_dataset("svhn", split, str(folder / file.name), published)


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (32, 32, 3, N) uint8, as they lie in the file, and digits (N,) uint8. DataError where it isn't SVHN."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError, MatReadWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", MatReadWarning)  # unreadable or doubled variables: a damaged file
            _check_header(path, {name: (shape, kind) for name, shape, kind in whosmat(path)})
            found: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        images, labels = found["X"], found["y"].ravel()
    except (*_DAMAGE, OSError, MatReadError, MatReadWarning) as error:
        raise files.unreadable(path, "an SVHN file in MATLAB 5 format", error) from None
    if not np.isin(labels, np.arange(1, 11)).all():
        raise DataError(f"{path}: labels from {labels.min()} to {labels.max()}, SVHN has 1..10 (10 for the digit 0)")
    return images, (labels % 10).astype(np.uint8)


def _check_header(path: Path, variables: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Compare names, shapes and types before anything is read: a foreign file may claim any size."""
    shape, kind = variables.get("X", ((), "missing"))
    count = shape[3] if len(shape) == 4 else 0
    if shape != (32, 32, 3, count) or kind != "uint8" or count == 0:
        raise DataError(f"{path}: X is {kind} {shape}, SVHN has uint8 (32, 32, 3, N)")
    shape, kind = variables.get("y", ((), "missing"))
    if shape not in ((count, 1), (1, count)) or kind not in ("uint8", "double", "int32", "int64"):
        raise DataError(f"{path}: y is {kind} {shape}, SVHN has one number for each of the {count:,} images")


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """(32, 32, 3, N) -> blocks of (n, 32, 32, 3): transposed piece by piece, so that the copy stays in the cache."""
    for start in range(0, images.shape[3], _BLOCK):
        yield np.ascontiguousarray(images[..., start : start + _BLOCK].transpose(3, 0, 1, 2))
