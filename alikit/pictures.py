"""The user's own picture files as a network's inputs, and pictures written where the user wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alikit.data.files import one_line
from alikit.data.pictures import decode, fit_square, list_pictures
from alikit.errors import DataError, UsageError
from alikit.training import images


def read_pictures(paths: Sequence[Path], size: int) -> np.ndarray:
    """Picture files, and all below folders, as (N, size, size, 3) uint8: upright, centre-cropped, resized.

    DataError naming a file that is missing or cannot be decoded, or a folder without pictures.
    """
    return read_files(list_files(paths), size)


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and all pictures below folders. DataError for a folder without pictures."""
    files: list[Path] = []
    for path in paths:
        inside = [path / name for name in list_pictures(path)] if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: no pictures in this folder")
        files += inside
    return files


def read_files(files: Sequence[Path], size: int) -> np.ndarray:
    """Picture files as (N, size, size, 3) uint8; DataError naming one that is missing or cannot be decoded."""
    return np.stack([_read(file, size) for file in files])


def _read(file: Path, size: int) -> np.ndarray:
    try:
        return decode(file.read_bytes(), lambda image: fit_square(image, size))
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such picture") from None
    except Exception as error:  # on hostile bytes Pillow's decoders raise nearly every kind of exception
        reason = one_line(error).partition(" <")[0]  # without the address of the buffer that Pillow was given
        raise DataError(f"{file}: cannot be decoded as a picture ({reason})") from None


def check_png(option: str, path: Path) -> Path:
    """UsageError unless `path` names a PNG file in a folder that exists."""
    return check_name(option, path, (".png",))


def check_name(option: str, path: Path, endings: Sequence[str]) -> Path:
    """UsageError unless `path` ends in one of `endings` and its folder exists."""
    if path.suffix.lower() not in endings:
        raise UsageError(f"{option} {path}: a name ending in {' or '.join(endings)} is wanted")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
    return path


def as_uint8(x: np.ndarray) -> np.ndarray:
    """Images as bytes: uint8 as they are, floats in [0, 1] rounded."""
    return x if x.dtype == np.uint8 else images.to_uint8(x)
