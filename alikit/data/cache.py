"""Prepared images: one HDF5 file per split, made once from slow sources (.mat, archives, JPEGs), read in a moment.

The file holds `images` (N, H, W, 3) uint8, uncompressed and contiguous, so that a set larger than memory can be
mapped; `labels`; and as attributes the state and the SHA-256 of the sources, the SHA-256 of the content, and a CRC-32
by which a flipped bit is noticed. Whoever opens a file finds it whole (`hdf5.whole_file`). One that is stale or
damaged is made again; where none can be written, the images are prepared in memory, each time.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alikit.data.dataset import Dataset
from alikit.data.files import one_line
from alikit.data.hdf5 import whole_file
from alikit.data.reporting import Report
from alikit.errors import DataError

FORMAT = "alikit prepared images 1"
# Texts are stored with fixed length, in checksummed headers: HDF5 keeps those of variable length in a heap without
# a checksum, where one flipped bit can send it into an endless loop.
_TEXTS = ("format", "stamp", "label_names", "sources", "checksum")
# What h5py raises on files that are cut, flipped or not its own: the HDF5 library has no single error for them.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True)
class Content:
    """What a reader finds in its sources, in blocks of images, so that a set larger than memory passes through."""

    shape: tuple[int, int, int, int]  # (N, H, W, 3)
    blocks: Callable[[], Iterator[np.ndarray]]  # (n, H, W, 3) uint8 each, C-contiguous, N in all; may be run again
    labels: np.ndarray | None = None  # (N,) or (N, K) uint8, C-contiguous
    label_names: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)  # file name -> SHA-256 of those that were hashed


@dataclass(frozen=True)
class Prepared:
    """A split ready for use; the fields are those of Content and of `alikit.data.dataset.Dataset`."""

    images: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...]
    sources: dict[str, str]
    checksum: str
    path: Path | None

    def as_dataset(self, name: str, split: str, source: str, published: bool | None = None) -> Dataset:
        return Dataset(
            name=name,
            split=split,
            source=source,
            checksum=self.checksum,
            images=self.images,
            labels=self.labels,
            label_names=self.label_names,
            published=published,
            cache=self.path,
        )


def prepare(
    paths: Sequence[Path], stamp: str | None, read: Callable[[], tuple[str, Content]], report: Report
) -> Prepared:
    """The prepared images from the first of `paths` that has them in the state `stamp`; else read and written there.

    stamp   the state of the sources; None: they are gone, and whatever was prepared from them serves
    read    obtains and reads the sources: their state, their content. Its DataErrors pass through
    """
    for path in paths:
        try:
            found = load(path, stamp)
        except DataError as error:
            report.warn(f"{error}; preparing it again")
            continue
        if found is not None:
            return found
    stamp, content = read()
    for path in paths:
        try:
            write(path, stamp, content, report)
        except OSError as error:
            report.say(f"{path}: prepared images cannot be kept there ({error.strerror or error})")
            continue
        found = load(path, stamp)
        if found is not None:
            return found
    report.warn("the prepared images can be kept nowhere: the next start prepares them again")
    return _in_memory(content, report)


def load(path: Path, stamp: str | None) -> Prepared | None:
    """Read a prepared file; None where there is none, or it was made from another state of the sources.

    DataError where it is damaged. A set of more than half the machine's memory is mapped instead of read; its images
    are then not compared with the CRC-32, as that would read them all.
    """
    import h5py

    try:
        # Prepared files are never changed in place; locks only fail (on network file systems)
        with h5py.File(path, "r", locking=False) as file:
            if _text(file, "format") != FORMAT or stamp not in (None, _text(file, "stamp")):
                return None
            labels = file["labels"][()] if "labels" in file else None
            images = _images(file["images"], path)
            if not isinstance(images, np.memmap) and _crc32(images, labels) != file.attrs["crc32"]:
                raise ValueError("its CRC-32 differs")
            names, sources = json.loads(_text(file, "label_names")), json.loads(_text(file, "sources"))
            return Prepared(images, labels, tuple(names), sources, _text(file, "checksum"), path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except _DAMAGE as error:
        raise DataError(f"{path}: the prepared images are damaged ({one_line(error)})") from None


def write(path: Path, stamp: str, content: Content, report: Report) -> None:
    """Write a prepared file, whole or not at all. OSError where the folder or the disk refuses."""
    digest, crc, at = hashlib.sha256(), 0, 0
    with whole_file(path) as (file, check):
        images = file.create_dataset("images", content.shape, np.uint8)
        for block in report.blocks(content.blocks(), content.shape[0], f"preparing {path.stem}"):
            images[at : at + len(block)] = block
            check()
            digest.update(block.data)
            crc, at = zlib.crc32(block.data, crc), at + len(block)
        if content.labels is not None:
            digest.update(content.labels.data)
            crc = zlib.crc32(content.labels.data, crc)
            file["labels"] = content.labels
        names, sources = json.dumps(content.label_names), json.dumps(content.sources)
        for key, text in zip(_TEXTS, (FORMAT, stamp, names, sources, digest.hexdigest()), strict=True):
            file.attrs[key] = np.bytes_(text.encode())
        file.attrs["crc32"] = crc


def _text(file: Any, key: str) -> str:
    return bytes(file.attrs[key]).decode()


def _images(dataset: Any, path: Path) -> np.ndarray:
    """The images of a prepared file, in memory or mapped."""
    shape, offset = dataset.shape, dataset.id.get_offset()
    if dataset.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or offset is None:
        raise ValueError(f"images of shape {shape}, {dataset.dtype}")
    if not _fits_in_memory(dataset.nbytes):
        return np.memmap(path, np.uint8, "r", offset, shape)
    images = np.empty(shape, np.uint8)
    dataset.read_direct(images)
    return images


def _fits_in_memory(nbytes: int) -> bool:
    """Whether so much is at most half of the machine's memory; where the system does not say, it is taken to fit."""
    try:
        return nbytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return True


def _in_memory(content: Content, report: Report) -> Prepared:
    images = np.empty(content.shape, np.uint8)
    at = 0
    for block in report.blocks(content.blocks(), content.shape[0], "preparing in memory"):
        images[at : at + len(block)] = block
        at += len(block)
    digest = hashlib.sha256(images.data)
    if content.labels is not None:
        digest.update(content.labels.data)
    return Prepared(images, content.labels, content.label_names, content.sources, digest.hexdigest(), None)


def _crc32(images: np.ndarray, labels: np.ndarray | None) -> int:
    crc = zlib.crc32(images.data)
    return crc if labels is None else zlib.crc32(np.ascontiguousarray(labels).data, crc)
