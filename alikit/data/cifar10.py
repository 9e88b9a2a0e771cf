"""CIFAR-10 (Krizhevsky, 2009), binary version: 32x32 colour images in ten classes.

Six files of 10,000 records: a label byte, then 1024 red, 1024 green and 1024 blue bytes, row by row. They are read
from the folder `cifar-10-batches-bin`, or straight from `cifar-10-binary.tar.gz`; the pickles of the Python version
are never opened. ALI trains on the first 45,000 of the 50,000 training images and watches the last 5,000.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alikit.data import cache, files
from alikit.data.archives import read_tar
from alikit.data.dataset import Dataset
from alikit.data.download import fetch
from alikit.data.files import Place, Published
from alikit.data.labels import LABELS
from alikit.data.reporting import Report
from alikit.errors import DataError

ARCHIVE = Published(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
FOLDER = "cifar-10-batches-bin"
CLASSES = LABELS["cifar10"]
_RECORD = 1 + 3 * 32 * 32  # bytes
_RECORDS = 10_000  # in each file
_TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_FILES = {"train": _TRAIN_FILES, "valid": _TRAIN_FILES[-1:], "test": ("test_batch.bin",)}


def open_cifar10(base: Path, split: str, download: bool, report: Report) -> Dataset:
    """train (45,000), valid (5,000) or test (10,000). DataError where files are missing, cut or foreign."""
    place = Place(base, "cifar10", (FOLDER, ARCHIVE.name))
    source = place.find(FOLDER) or place.find(ARCHIVE.name)

    def read() -> tuple[str, cache.Content]:
        path = source or fetch(ARCHIVE, place.home, download, report)
        report.say(f"reading {path}")
        data, sources = _read_archive(path, split) if path.name == ARCHIVE.name else _read_folder(path, split)
        records = _records(path, data, split)
        labels = np.concatenate([part[:, 0] for part in records])
        shape = (len(labels), 32, 32, 3)
        return _stamp(path, split), cache.Content(shape, lambda: _blocks(records), labels, CLASSES, sources)

    stamp = _stamp(source, split) if source else None
    prepared = cache.prepare(place.cache_paths(f"cifar10-{split}"), stamp, read, report)
    found = source or place.home / ARCHIVE.name
    published = files.compare(found.parent, prepared.sources, [ARCHIVE], report)
    return prepared.as_dataset("cifar10", split, str(found), published)


def _stamp(source: Path, split: str) -> str:
    return files.stamp([source] if source.name == ARCHIVE.name else [source / name for name in _FILES[split]])


def _read_archive(path: Path, split: str) -> tuple[dict[str, bytes], dict[str, str]]:
    data = read_tar(path, dict.fromkeys(_FILES[split], _RECORDS * _RECORD))
    return data, {path.name: files.sha256_of(path)}


def _read_folder(folder: Path, split: str) -> tuple[dict[str, bytes], dict[str, str]]:
    data = {}
    for name in _FILES[split]:
        try:
            data[name] = (folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read ({error.strerror})") from None
    return data, {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}


def _records(source: Path, data: dict[str, bytes], split: str) -> list[np.ndarray]:
    """Each file as (n, 3073) uint8, cut to the split. DataError on a wrong size or a label above 9."""
    parts = []
    for name, content in data.items():
        if len(content) != _RECORDS * _RECORD:
            raise DataError(
                f"{source}: {name} has {len(content):,} bytes instead of {_RECORDS * _RECORD:,}: cut short, or not "
                "the binary version of CIFAR-10; delete it to have it downloaded again, or put a good copy there"
            )
        part = np.frombuffer(content, np.uint8).reshape(_RECORDS, _RECORD)
        if part[:, 0].max() > 9:
            raise DataError(f"{source}: {name} has the label {part[:, 0].max()}, CIFAR-10 has 0..9: damaged or foreign")
        parts.append(part)
    half = _RECORDS // 2
    if split == "train":
        parts[-1] = parts[-1][:half]
    return [parts[0][half:]] if split == "valid" else parts


def _blocks(records: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Records (n, 3073), colour planes after each other -> blocks of (n, 32, 32, 3)."""
    for part in records:
        for start in range(0, len(part), 1024):
            planes = part[start : start + 1024, 1:].reshape(-1, 3, 32, 32)
            yield np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
