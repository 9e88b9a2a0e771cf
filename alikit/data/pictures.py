"""From picture files of any kind to uint8 arrays of one size: decoding, orientation, colour, resampling, in threads.

Pillow lets go of the interpreter's lock while it decodes and resamples, so threads use all cores. A file that can't be
decoded ends the preparation with its name: dropping it in silence would change the data set behind the user's back.
"""

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alikit.data.files import one_line
from alikit.errors import DataError

BLOCK = 1024  # pictures decoded before they are written away
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
# Of how grey of more than 8 bits becomes bytes: one more where the same file comes to give another picture. Up to 1, it
# was black where its values are floating-point or small.
_DEEP_RECIPE, _DEEP = "2", (".tif", ".tiff", ".pgm")


def list_pictures(root: Path) -> list[str]:
    """The picture files under `root` by suffix, hidden ones left out: names relative to it, `/` between, sorted.

    Links to folders are followed, but none to above `root`, and no folder is entered twice: what lies below `root` has
    its own name, any other folder that of the first link to it. DataError for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})")

    found: list[str] = []
    seen = {_identity(above) for above in Path(os.path.realpath(root)).parents}
    links = [os.fspath(root)]
    while links:  # first `root`, then what links in it lead to, what links in that lead to, ...
        starts, links = sorted(links), []
        for folder, inner, names in (step for start in starts for step in os.walk(start, onerror=refuse)):
            if (here := _identity(folder)) in seen:
                inner.clear()
                continue
            seen.add(here)
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            links += [path for name in inner if os.path.islink(path := os.path.join(folder, name))]
            wanted = [name for name in names if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
            within = os.path.relpath(folder, root).replace(os.sep, "/")
            found += wanted if within == "." else [f"{within}/{name}" for name in wanted]
    return sorted(found)


def one_name_each(root: Path, names: Sequence[str]) -> list[str]:
    """Pictures under `root` without links to one that has another name among them: its own, else the first link's."""
    linked = {name for name in names if os.path.islink(os.path.join(root, name))}
    if not linked:
        return list(names)
    kept, seen = set(), set()
    for name in sorted(names, key=linked.__contains__):  # what is no link goes before
        path = os.path.join(root, name)
        file = _identity(path) if os.path.exists(path) else path  # whoever reads a link to nothing says so
        if name not in linked or file not in seen:
            kept.add(name)
        seen.add(file)
    return [name for name in names if name in kept]


def _identity(path: str | Path) -> tuple[int, int]:
    """The same for all names of a folder, or of a file."""
    about = os.stat(path)
    return about.st_dev, about.st_ino


def recipe(names: Sequence[str]) -> dict[str, str]:
    """What tells pictures decoded today from those that older versions prepared of the same files, for `files.stamp`;
    nothing where they are the same."""
    return {"deep_grey": _DEEP_RECIPE} if any(name.lower().endswith(_DEEP) for name in names) else {}


def decode_blocks(
    names: Sequence[str], read: Callable[[str], bytes], convert: Callable[[Image.Image], Image.Image], where: object
) -> Iterator[np.ndarray]:
    """Decode the pictures `names` in order, in blocks of (n, H, W, 3) uint8, n <= 1024.

    read(name) gives a file's bytes, convert a picture in RGB of the wanted size; both are called from several threads.
    DataError names the first picture that cannot be read or decoded, in the folder or archive `where`.
    """

    def decode_one(name: str) -> np.ndarray:
        try:
            return decode(read(name), convert)
        except Exception as error:  # on hostile bytes Pillow's decoders raise nearly every kind of exception
            raise DataError(f"{where}: the picture {name} cannot be decoded ({one_line(error)})") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF data and palettes: we look at the pixels only
        for start in range(0, len(names), BLOCK):
            yield np.stack(list(pool.map(decode_one, names[start : start + BLOCK])))


def decode(data: bytes, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """(H, W, 3) uint8 from a file's bytes. Raises what Pillow raises."""
    if not data:
        raise ValueError("it is empty")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # its text is about our buffer
        raise ValueError("it is no picture of a known format") from None
    with image:
        return np.asarray(convert(image))


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Upright, in RGB, the largest centred square, resampled to size x size (Lanczos); small pictures are enlarged."""
    image.draft("RGB", (2 * size, 2 * size))  # a JPEG far larger than needed is decoded at 1/2, 1/4 or 1/8
    return ImageOps.fit(to_rgb(ImageOps.exif_transpose(image)), (size, size), Image.Resampling.LANCZOS)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: what is transparent stands on white; 16-bit and floating-point grey is scaled, which Pillow
    would clip. ValueError where nobody can tell what its values mean."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_deep_grey(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits as (H, W) uint8."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise ValueError(f"its floating-point values lie in [{low:g}, {high:g}]; wanted are [0, 1]")
        return np.rint(values * 255).astype(np.uint8)
    # in 32 bits lie 16-bit values as a rule; up to 255 they could as well be bytes
    if image.mode == "I" and not (high == low == 0 or (low >= 0 and 255 < high < 65536)):
        raise ValueError(f"its 32-bit values lie in [{low}, {high}]; wanted are 16 bits, [0, 65535]")
    return (values >> 8).astype(np.uint8)
