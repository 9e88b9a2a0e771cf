from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import alikit


def test_a_sheet_of_samples(command, image_run: Path) -> None:
    result = command("sample", image_run, "--count", 6, "--columns", 2, "--seed", 5, "--threads", 1)
    assert result == (0, "samples.png: 6 samples, averaged weights of step 3, seed 5\n", "")
    sheet = iio.imread("samples.png")
    samples = alikit.load(image_run).sample(6, seed=5)
    side, gap = 64, 2  # tiles of 32 pixels, doubled
    assert sheet.shape == (3 * (side + gap) + gap, 2 * (side + gap) + gap, 3)
    for k in range(6):
        top, left = gap + k // 2 * (side + gap), gap + k % 2 * (side + gap)
        np.testing.assert_allclose(sheet[top : top + side : 2, left : left + side : 2] / 255, samples[k], atol=0.0021)


def test_defaults_are_a_square_of_64(command, image_run: Path) -> None:
    assert command("sample", image_run, "--threads", 1).code == 0
    assert iio.imread("samples.png").shape == (8 * 66 + 2, 8 * 66 + 2, 3)


def test_a_folder_and_its_checkpoint_give_the_same_bytes_and_seeds_differ(command, image_run: Path) -> None:
    checkpoint = image_run / "checkpoint-00000003.h5"
    for out, run, seed in (("a.png", image_run, 1), ("b.png", checkpoint, 1), ("c.png", image_run, 2)):
        assert command("sample", run, "--count", 4, "--seed", seed, "--out", out, "--threads", 1).code == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_points(command, point_run: Path) -> None:
    result = command("sample", point_run, "--out", "points.png", "--threads", 1)
    assert result == (0, "points.png: 10,000 samples, weights of step 3, seed 0\n", "")
    picture = iio.imread("points.png")
    assert picture.ndim == 3
    assert picture.std() > 0


def test_points_stand_in_no_columns(command, point_run: Path) -> None:
    result = command("sample", point_run, "--columns", 3)
    assert (result.code, Path("samples.png").exists()) == (2, False)
    assert result.error == "--columns: of a sheet of images; the mixture's points are one picture"


def test_a_newer_sheet_replaces_the_old_one(command, image_run: Path) -> None:
    Path("samples.png").write_bytes(b"old")
    assert command("sample", image_run, "--count", 1, "--threads", 1).code == 0
    assert iio.imread("samples.png").shape == (68, 68, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--out", "x.jpg"), 2, "--out x.jpg: a name ending in .png is wanted"),
        (("--out", "no/x.png"), 2, "--out no/x.png: there is no folder no"),
        (("--count", 0), 2, "argument --count: from 1 up is wanted, not 0"),
        (("--count", "many"), 2, "argument --count: a whole number is wanted, not 'many'"),
        (("--columns", 0), 2, "argument --columns: from 1 up"),
        (("--seed", -1), 2, "argument --seed: from 0 up"),
        (("--size", 3), 2, "unrecognized arguments: --size 3"),
    ],
)
def test_bad_options(arguments: tuple, code: int, message: str, command, image_run: Path) -> None:
    result = command("sample", image_run, *arguments)
    assert result.code == code
    assert result.error.startswith(message)


@pytest.fixture
def loaded(image_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is read before the user becomes one who may not read it."""
    model = alikit.load(image_run)
    monkeypatch.setattr("alikit.inference.load", lambda run, warn=None: model)


def test_a_folder_that_cannot_be_written(command, image_run: Path, loaded: None, readonly_folder: Path) -> None:
    result = command("sample", image_run, "--count", 1, "--out", readonly_folder / "x.png", "--threads", 1)
    assert result.code == 1
    assert f"cannot write {readonly_folder / 'x.png'}: Permission denied; choose a folder that" in result.error
