"""Images to PNG: contact sheets of samples, and pairs of originals and reconstructions in the paper's layout.

The paper (arXiv 1606.00704, figures 2 to 5) shows tiles of about 52 pixels, enlarged without interpolation, with thin
white gaps; in its reconstructions the odd columns are originals and each even column holds the reconstruction of the
image to its left. Here the gap inside a pair is thinner than the gaps around it, so that the eye finds the pairs.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alikit.training.files import write_atomic

WHITE = 255
_TILE = 52  # pixels: about the side of a tile in the paper's figures


def to_uint8(x: np.ndarray) -> np.ndarray:
    """x: floats in [0, 1], any shape -> uint8, rounded to the nearest level; what lies outside is clipped, NaN is 0."""
    return np.rint(np.clip(np.nan_to_num(x), 0.0, 1.0) * 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int, gap: int = 2, scale: int | None = None) -> np.ndarray:
    """Tiles images row by row on white.

    images: (N, H, W, 3), uint8 or floats in [0, 1].
    gap: white pixels between and around the tiles. scale: enlargement by repeating pixels; None makes the tiles about
        as large as the paper's.
    -> (h, w, 3) uint8 with w = columns * (W * scale + gap) + gap; the places left over in the last row stay white.
    """
    tiles = _enlarged(images, scale)
    count, height, width, _ = tiles.shape
    if columns < 1:
        raise ValueError(f"grid: columns is {columns}; wanted at least 1")
    rows = -(-count // columns)
    cells = np.full((rows * columns, height + gap, width + gap, 3), WHITE, np.uint8)
    cells[:count, :height, :width] = tiles
    sheet = cells.reshape(rows, columns, height + gap, width + gap, 3).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + gap), columns * (width + gap), 3)
    return np.pad(sheet, ((gap, 0), (gap, 0), (0, 0)), constant_values=WHITE)


def sample_grid(samples: np.ndarray, columns: int | None = None) -> np.ndarray:
    """samples: (N, H, W, 3) -> a sheet of `columns` columns (as square as it gets unless told), see `grid`."""
    return grid(samples, columns or int(np.ceil(np.sqrt(len(samples)))))


def reconstruction_grid(originals: np.ndarray, reconstructions: np.ndarray, pairs_per_row: int = 4) -> np.ndarray:
    """originals, reconstructions: (N, H, W, 3) -> a sheet, `pairs_per_row` times original and reconstruction a row."""
    if originals.shape != reconstructions.shape:
        raise ValueError(
            f"reconstruction_grid: originals {originals.shape} and reconstructions {reconstructions.shape} differ"
        )
    return group_grid([originals, reconstructions], pairs_per_row)


def group_grid(columns: Sequence[np.ndarray], groups_per_row: int) -> np.ndarray:
    """Tiles that belong together, side by side: columns, each (N, H, W, 3), give N groups of one tile of each.

    A hair of white parts the tiles of a group, a wider gap the groups.
    """
    parts = [_enlarged(columns[0], None)]
    seam = np.full((*parts[0].shape[:2], 1, 3), WHITE, np.uint8)
    for column in columns[1:]:
        parts += [seam, _enlarged(column, None)]
    return grid(np.concatenate(parts, axis=2), groups_per_row, gap=6, scale=1)


def save_png(path: Path | str, picture: np.ndarray) -> None:
    """Writes picture: (h, w, 3) uint8 to `path`, atomically; equal pictures give equal bytes."""
    import imageio.v3 as iio

    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"save_png: picture is {picture.dtype} {picture.shape}; wanted uint8 (h, w, 3)")
    buffer = io.BytesIO()
    iio.imwrite(buffer, picture, extension=".png")
    write_atomic(Path(path), [buffer.getbuffer()])


def save_animation(path: Path | str, frames: Sequence[np.ndarray], seconds: float = 0.06) -> None:
    """Writes frames: (h, w, 3) uint8 each to a GIF or WebP by the name's ending, atomically; it repeats for ever.

    WebP keeps every colour; a GIF has 256, chosen anew for each frame.
    """
    from PIL import Image

    pages = [Image.fromarray(frame) for frame in frames]
    kind = Path(path).suffix.lower().removeprefix(".")
    buffer = io.BytesIO()
    more = {"lossless": True} if kind == "webp" else {}
    pages[0].save(buffer, kind, save_all=True, append_images=pages[1:], duration=round(1000 * seconds), loop=0, **more)
    write_atomic(Path(path), [buffer.getbuffer()])


def _enlarged(images: np.ndarray, scale: int | None) -> np.ndarray:
    if images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(f"images are {images.shape}; wanted (N, H, W, 3) with N at least 1")
    if images.dtype != np.uint8:
        images = to_uint8(images)
    scale = scale or max(1, round(_TILE / images.shape[1]))
    return images.repeat(scale, axis=1).repeat(scale, axis=2)
