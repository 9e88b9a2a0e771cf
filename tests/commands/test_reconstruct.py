import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

import alikit
from alikit.data import open_dataset

SIDE = 64  # of a tile: 32 pixels, doubled


def picture(name: str, size: tuple[int, int], seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(name)
    return Path(name)


def pairs_of(sheet: np.ndarray, count: int, per_row: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(original, reconstruction) of each pair, 32x32: the gap is 6 pixels, the seam inside a pair one."""
    found = []
    for k in range(count):
        top, left = 6 + k // per_row * (SIDE + 6), 6 + k % per_row * (2 * SIDE + 1 + 6)
        right = left + SIDE + 1
        rows = slice(top, top + SIDE, 2)
        found.append((sheet[rows, left : left + SIDE : 2], sheet[rows, right : right + SIDE : 2]))
    return found


def test_the_user_s_own_pictures(command, image_run: Path) -> None:
    """Files and folders, of any size, cropped to a square; odd columns show them, even ones what ALI makes of them."""
    picture("own.png", (32, 32), 1)
    Path("more").mkdir()
    picture("more/large.png", (90, 50), 2)
    picture("more/small.jpg", (9, 14), 3)
    result = command("reconstruct", image_run, "own.png", "more", "--pairs", 2, "--seed", 4, "--threads", 1)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("reconstructions.png: 3 pairs (your pictures), step 3, mean squared error 0.")
    sheet = iio.imread("reconstructions.png")
    assert sheet.shape == (6 + 2 * (SIDE + 6), 6 + 2 * (2 * SIDE + 7), 3)
    pairs = pairs_of(sheet, 3, 2)
    own = iio.imread("own.png")
    np.testing.assert_array_equal(pairs[0][0], own)
    originals = np.stack([original for original, _ in pairs])
    rebuilt = alikit.load(image_run).reconstruct(originals, seed=4)
    for (_, right), wanted in zip(pairs, rebuilt, strict=True):
        np.testing.assert_allclose(right / 255, wanted, atol=0.003)


def test_without_pictures_held_out_ones_of_the_run_are_taken(command, image_run: Path, pictures: Path) -> None:
    result = command("reconstruct", image_run, "--threads", 1)
    assert (result.code, result.err) == (0, "")
    assert "2 pairs (valid, not trained on), step 3" in result.out
    held_out = open_dataset("folder", data=pictures, size=32, split="valid", quiet=True).images
    shown = {original.tobytes() for original, _ in pairs_of(iio.imread("reconstructions.png"), 2, 4)}
    assert shown == {image.tobytes() for image in held_out}
    error = float(result.out.rsplit(" ", 1)[1])
    lines = (image_run / "metrics.jsonl").read_text().splitlines()
    assert error == pytest.approx(json.loads(lines[-1])["reconstruction_error"], abs=0.02)


def test_the_same_seed_gives_the_same_bytes(command, image_run: Path) -> None:
    for out, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert command("reconstruct", image_run, "--seed", seed, "--out", out, "--threads", 1).code == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_pictures_on_their_side_are_turned_upright(command, image_run: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    Image.fromarray(pixels).save("side.png", exif=exif)
    assert command("reconstruct", image_run, "side.png", "--threads", 1).code == 0
    ((original, _),) = pairs_of(iio.imread("reconstructions.png"), 1, 4)
    np.testing.assert_array_equal(original, np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "x.png: there is no such picture"),
        (b"", r"x.png: cannot be decoded as a picture"),
        (b"no picture at all", r"x.png: cannot be decoded as a picture"),
        ("cut", r"x.png: cannot be decoded as a picture"),
    ],
)
def test_what_cannot_be_decoded(content: bytes | str | None, message: str, command, image_run: Path) -> None:
    if content == "cut":
        whole = picture("x.png", (60, 60)).read_bytes()
        Path("x.png").write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        Path("x.png").write_bytes(content)
    result = command("reconstruct", image_run, "x.png")
    assert result.code == 3
    assert result.error.startswith(message)
    assert "object at 0x" not in result.error
    assert not Path("reconstructions.png").exists()


def test_a_folder_without_pictures(command, image_run: Path) -> None:
    Path("notes").mkdir()
    Path("notes/readme.txt").write_text("words")
    result = command("reconstruct", image_run, "notes")
    assert (result.code, result.error) == (3, "notes: no pictures in this folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("own.png", "--count", 4), "--count and --data choose held-out images; pictures were given"),
        (("own.png", "--data", "."), "--count and --data choose held-out images; pictures were given"),
        (("own.png", "--out", "x.gif"), "--out x.gif: a name ending in .png is wanted"),
        (("own.png", "--pairs", 0), "argument --pairs: from 1 up is wanted, not 0"),
        (("--count", 1), "argument --count: from 2 up is wanted, not 1"),
    ],
)
def test_bad_options(arguments: tuple, message: str, command, image_run: Path) -> None:
    picture("own.png", (32, 32))
    result = command("reconstruct", image_run, *arguments)
    assert result.code == 2
    assert result.error.startswith(message)


def test_points_have_no_pictures(command, point_run: Path) -> None:
    result = command("reconstruct", point_run)
    assert result.code == 2
    assert "reconstruct shows images" in result.error


def test_data_that_have_gone(command, image_run: Path) -> None:
    result = command("reconstruct", image_run, "--data", "nowhere")
    assert result.code == 3
    assert result.error == "nowhere: there is no such folder of pictures"
