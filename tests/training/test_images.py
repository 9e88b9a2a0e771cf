import io
import os
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from alikit.errors import AlikitError
from alikit.training import images

RNG = np.random.default_rng(3)


def test_to_uint8_rounds_to_the_nearest_level_and_clips() -> None:
    x = np.array([-3.0, 0.0, 0.4999 / 255, 0.5001 / 255, 254.4 / 255, 254.6 / 255, 1.0, 7.0, np.inf, -np.inf, np.nan])
    assert images.to_uint8(x).tolist() == [0, 0, 0, 1, 254, 255, 255, 255, 255, 0, 0]
    assert images.to_uint8(x).dtype == np.uint8


def test_every_level_survives_the_way_to_floats_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert (images.to_uint8(levels.astype(np.float32) / np.float32(255)) == levels).all()


def test_grid_puts_each_pixel_in_its_place() -> None:
    tiles = RNG.integers(0, 255, (5, 3, 4, 3), dtype=np.uint8)
    columns, gap, scale = 3, 2, 2
    sheet = images.grid(tiles, columns, gap, scale)
    expected = np.full((2 * (3 * scale + gap) + gap, 3 * (4 * scale + gap) + gap, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        for i in range(3 * scale):
            for j in range(4 * scale):
                top, left = gap + n // columns * (3 * scale + gap), gap + n % columns * (4 * scale + gap)
                expected[top + i, left + j] = tile[i // scale, j // scale]
    assert sheet.dtype == np.uint8
    assert np.array_equal(sheet, expected)


def test_tiles_are_enlarged_to_about_the_papers_size() -> None:
    assert images.grid(np.zeros((1, 32, 32, 3), np.uint8), 1, gap=0).shape == (64, 64, 3)
    assert images.grid(np.zeros((1, 64, 64, 3), np.uint8), 1, gap=0).shape == (64, 64, 3)
    assert images.grid(np.zeros((1, 256, 256, 3), np.uint8), 1, gap=0).shape == (256, 256, 3)


def test_floats_are_converted() -> None:
    sheet = images.grid(np.full((1, 2, 2, 3), 0.6, np.float32), 1, gap=0, scale=1)
    assert (sheet == 153).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3), (64, 8), (65, 9)])
def test_sample_grid_is_about_square(count: int, columns: int) -> None:
    sheet = images.sample_grid(np.zeros((count, 60, 60, 3)))
    assert sheet.shape[1] == columns * 62 + 2
    assert sheet.shape[0] == -(-count // columns) * 62 + 2


def test_reconstructions_stand_to_the_right_of_their_originals() -> None:
    originals, reconstructions = RNG.integers(0, 250, (2, 7, 60, 60, 3), dtype=np.uint8)
    sheet = images.reconstruction_grid(originals, reconstructions, pairs_per_row=3)
    columns = tiles_along(sheet, axis=1)
    rows = tiles_along(sheet, axis=0)
    assert len(columns) == 6
    assert len(rows) == 3
    for n in range(7):
        top, left = rows[n // 3], columns[2 * (n % 3)]
        right = columns[2 * (n % 3) + 1]
        assert np.array_equal(sheet[top : top + 60, left : left + 60], originals[n])
        assert np.array_equal(sheet[top : top + 60, right : right + 60], reconstructions[n])
    gaps = np.diff(columns) - 60
    assert (gaps[0::2] >= 1).all()
    assert (gaps[1::2] > gaps[0]).all()  # the eye must find the pairs


def tiles_along(sheet: np.ndarray, axis: int) -> list[int]:
    """Where tiles begin: the first row or column with colour after a white one."""
    colour = (sheet != 255).any(axis=(2, 1 - axis))
    return [n for n in range(len(colour)) if colour[n] and not colour[n - 1]]


@pytest.mark.parametrize("shape", [(2, 8, 8), (0, 8, 8, 3), (2, 8, 8, 1), (8, 8, 3)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(N, H, W, 3\)"):
        images.sample_grid(np.zeros(shape))


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns is 0"):
        images.grid(np.zeros((1, 2, 2, 3)), 0)
    with pytest.raises(ValueError, match="differ"):
        images.reconstruction_grid(np.zeros((2, 4, 4, 3)), np.zeros((3, 4, 4, 3)))
    for picture in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="wanted uint8"):
            images.save_png(tmp_path / "p.png", picture)
    assert os.listdir(tmp_path) == []


def test_png_holds_the_picture_and_equal_pictures_equal_bytes(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        images.save_png(tmp_path / name, picture)
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(iio.imread(io.BytesIO(content)), picture)
    assert (tmp_path / "b.png").read_bytes() == content
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_full_disk_keeps_the_old_picture(small_disk: Path) -> None:
    path = small_disk / "p.png"
    images.save_png(path, np.zeros((4, 4, 3), np.uint8))
    before = path.read_bytes()
    with pytest.raises(AlikitError, match="No space left on device"):
        images.save_png(path, RNG.integers(0, 256, (800, 800, 3), dtype=np.uint8))
    assert path.read_bytes() == before
    assert os.listdir(small_disk) == ["p.png"]


def test_a_group_holds_a_tile_of_each_column() -> None:
    columns = [RNG.integers(0, 255, (3, 2, 2, 3), dtype=np.uint8) for _ in range(3)]
    sheet = images.group_grid(columns, 2)
    scale, gap = 26, 6
    width = 3 * 2 * scale + 2
    assert sheet.shape == (2 * (2 * scale + gap) + gap, 2 * (width + gap) + gap, 3)
    for n in range(3):
        for k in range(3):
            top, left = gap + n // 2 * (2 * scale + gap), gap + n % 2 * (width + gap) + k * (2 * scale + 1)
            assert np.array_equal(sheet[top : top + 2 * scale : scale, left : left + 2 * scale : scale], columns[k][n])


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animation_repeats_for_ever(name: str, tmp_path: Path) -> None:
    frames = [np.full((8, 12, 3), value, np.uint8) for value in (0, 90, 200)]
    frames[1][2, 3] = (250, 0, 0)
    images.save_animation(tmp_path / name, frames, 0.08)
    with Image.open(tmp_path / name) as picture:
        assert (picture.n_frames, picture.size, picture.info["loop"]) == (3, (12, 8), 0)
        for k, frame in enumerate(frames):
            picture.seek(k)
            assert np.array_equal(np.asarray(picture.convert("RGB")), frame)
            picture.load()
            assert picture.info["duration"] == 80
    before = (tmp_path / name).read_bytes()
    images.save_animation(tmp_path / name, frames, 0.08)
    assert (tmp_path / name).read_bytes() == before
