"""CelebA, aligned and cropped (Liu et al., 2015): 202,599 faces with 40 yes-or-no attributes.

Read from the folder `img_align_celeba` or the zip of the same name, with the lists of attributes and of the official
partition. As the authors' data library does it: each 178x218 JPEG is resampled (Lanczos) to width 64 and height 78,
of which the rows 7..70 are kept.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from alikit.data import cache, files
from alikit.data.archives import open_zip
from alikit.data.dataset import Dataset
from alikit.data.download import fetch
from alikit.data.files import Place, Published
from alikit.data.pictures import decode_blocks, list_pictures, to_rgb
from alikit.data.reporting import Report
from alikit.errors import DataError

_URL = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
ARCHIVE = Published(
    "img_align_celeba.zip",
    f"{_URL}0B7EVK8r0v71pZjFTYXZWM3FlRnM",
    1_443_490_838,
    "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
)
ATTRIBUTES = Published(
    "list_attr_celeba.txt",
    f"{_URL}0B7EVK8r0v71pblRyaVFSWGxPY0U",
    26_721_026,
    "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
)
PARTITION = Published(
    "list_eval_partition.txt",
    f"{_URL}0B7EVK8r0v71pY0NSMzRuSXJEVkk",
    2_836_386,
    "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
)
FOLDER = "img_align_celeba"
SIDE = 64
_HEIGHT, _TOP = 78, 7  # of the resampled face, and the first row kept
_CODES = {"train": "0", "valid": "1", "test": "2"}  # in the partition file


class _Sources(NamedTuple):
    partition: Path
    attributes: Path
    images: Path  # folder or zip

    def stamp(self) -> str:
        lists = [self.attributes, self.partition]
        if self.images.name == ARCHIVE.name:
            return files.stamp([self.images, *lists])
        return files.stamp(lists, images=files.listing_stamp(self.images, list_pictures(self.images)))


def open_celeba(base: Path, split: str, download: bool, report: Report) -> Dataset:
    """train, valid or test by the partition file. DataError where files are missing, cut or foreign."""
    place = Place(base, "celeba", (FOLDER, ARCHIVE.name, ATTRIBUTES.name, PARTITION.name))
    images = place.find(FOLDER) or place.find(ARCHIVE.name)
    attributes, partition = place.find(ATTRIBUTES.name), place.find(PARTITION.name)

    def read() -> tuple[str, cache.Content]:
        found = _Sources(
            partition=partition or fetch(PARTITION, place.home, download, report),
            attributes=attributes or fetch(ATTRIBUTES, place.home, download, report),
            images=images or fetch(ARCHIVE, place.home, download, report),
        )
        return found.stamp(), _read(found, split, report)

    stamp = _Sources(partition, attributes, images).stamp() if partition and attributes and images else None
    prepared = cache.prepare(place.cache_paths(f"celeba-{split}"), stamp, read, report)
    found = images or place.home / ARCHIVE.name
    published = files.compare(found.parent, prepared.sources, [ARCHIVE, ATTRIBUTES, PARTITION], report)
    return prepared.as_dataset("celeba", split, str(found), published)


def _read(sources: _Sources, split: str, report: Report) -> cache.Content:
    report.say(f"reading {sources.images}")
    names = [name for name, code in read_partition(sources.partition).items() if code == _CODES[split]]
    attribute_names, attributes = read_attributes(sources.attributes)
    members = _members(sources.images)
    for present, where in ((members, sources.images), (attributes, sources.attributes)):
        missing = [name for name in names if name not in present]
        if missing:
            raise DataError(f"{where}: lacks {len(missing):,} images of {sources.partition.name}, first {missing[0]}")
    if not names:
        raise DataError(f"{sources.partition}: lists no image of the split {split}")
    hashed = [path for path in sources if path.is_file()]
    return cache.Content(
        (len(names), SIDE, SIDE, 3),
        lambda: _blocks(sources.images, [members[name] for name in names]),
        np.array([attributes[name] for name in names], np.uint8),
        attribute_names,
        {path.name: files.sha256_of(path) for path in hashed},
    )


def _members(images: Path) -> dict[str, str]:
    """Image name -> its name within the folder or zip."""
    if images.name != ARCHIVE.name:
        return {PurePosixPath(name).name: name for name in list_pictures(images)}
    with open_zip(images) as archive:
        return {PurePosixPath(name).name: name for name in archive.namelist()}


def _blocks(images: Path, members: list[str]) -> Iterator[np.ndarray]:
    if images.name != ARCHIVE.name:
        yield from decode_blocks(members, lambda name: (images / name).read_bytes(), crop_face, images)
        return
    with open_zip(images) as archive:
        yield from decode_blocks(members, archive.read, crop_face, images)


def crop_face(image: Image.Image) -> Image.Image:
    """An aligned face to 64x64 RGB."""
    scaled = to_rgb(image).resize((SIDE, _HEIGHT), Image.Resampling.LANCZOS)
    return scaled.crop((0, _TOP, SIDE, _TOP + SIDE))


def read_partition(path: Path) -> dict[str, str]:
    """Image name -> "0", "1" or "2". DataError naming the line where the file is something else."""
    partition = {}
    for number, fields in enumerate(_lines(path, "CelebA's partition list"), 1):
        if len(fields) != 2 or fields[1] not in _CODES.values():
            raise DataError(f"{path}: line {number} is not an image name with 0, 1 or 2")
        partition[fields[0]] = fields[1]
    return partition


def read_attributes(path: Path) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """The attributes' names, and per image 0 or 1 for each. DataError where the file is cut short or something else."""
    lines = _lines(path, "CelebA's attribute list")
    if len(lines) < 2 or len(lines[0]) != 1 or lines[0][0] != str(len(lines) - 2):
        raise DataError(f"{path}: its first line is not the number of images that follow: cut short, or foreign")
    names, rows, values = tuple(lines[1]), {}, {"1": 1, "-1": 0}
    for number, (image, *row) in enumerate(lines[2:], 3):
        if len(row) != len(names) or not values.keys() >= set(row):
            raise DataError(f"{path}: line {number} is not an image name with {len(names)} values of 1 or -1")
        rows[image] = [values[value] for value in row]
    return names, rows


def _lines(path: Path, wanted: str) -> list[list[str]]:
    """The words of each line that has any. DataError where the file is empty, a web page or no text."""
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise files.unreadable(path, wanted, error) from None
    if not text.strip() or files.looks_like_html(path):
        raise files.unreadable(path, wanted)
    return [line.split() for line in text.splitlines() if line.strip()]
