"""`--conditional` from training to sheets, on drawn digits and on drawn faces with all forty attributes."""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

import alikit
import alikit.inference
from alikit import given
from alikit.data import LABELS, EpochOrder
from alikit.errors import UsageError
from alikit.training import state
from alikit.training.config import resolve

LOAD = alikit.inference.load
DIGITS = ("svhn", "--data", "synthetic", "--model", "small", "--width", 0.05, "--nz", 3, "--images", 12, "--threads", 1)
FACES = ("celeba", "--width", 0.02, "--nz", 3, "--threads", 1)


def trained(command, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """A conditional run whose looks are at few images, with weights that make a difference."""
    monkeypatch.setattr("alikit.training.session.HELD_OUT", 8)
    options = ("--conditional", "--batch-size", 4, "--init-std", 0.3, "--quiet")
    result = command("train", *arguments, *options)
    assert result.code == 0, result.err


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen pictures in CelebA's layout."""
    folder, rng = tmp_path_factory.mktemp("faces"), np.random.default_rng(5)
    (folder / "img_align_celeba").mkdir()
    names = [f"{number:06d}.jpg" for number in range(1, 16)]
    rows = np.where(rng.random((15, 40)) < 0.3, 1, -1)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (218, 178, 3), np.uint8)).save(folder / "img_align_celeba" / name)
    lines = [f"{name} {' '.join(map(str, row))}\n" for name, row in zip(names, rows.tolist(), strict=True)]
    (folder / "list_attr_celeba.txt").write_text(f"15\n{' '.join(LABELS['celeba'])}\n{''.join(lines)}")
    partition = [f"{name} {int(number >= 9)}\n" for number, name in enumerate(names)]
    (folder / "list_eval_partition.txt").write_text("".join(partition))
    return folder


def tiles(path: str, side: int, columns: int) -> np.ndarray:
    """A sheet's tiles in order, (N, side, side, 3)."""
    sheet = iio.imread(path)[2:, 2:]
    rows = sheet.shape[0] // (side + 2)
    assert sheet.shape[1] == columns * (side + 2)
    return (
        sheet.reshape(rows, side + 2, columns, side + 2, 3)
        .swapaxes(1, 2)[:, :, :side, :side]
        .reshape(-1, side, side, 3)
    )


def test_digits_by_class(command, monkeypatch) -> None:
    trained(command, monkeypatch, *DIGITS, "--steps", 2)
    run = Path("runs/00000-svhn-conditional")
    assert json.loads((run / "config.json").read_text())["options"]["conditional"] is True
    assert "reconstruction_error" in json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    model = alikit.load(run)
    assert model.labels == tuple("0123456789")
    z = model.prior(2, seed=3)

    result = command("sample", run, "--class", "sheet", "--count", 2, "--seed", 3, "--threads", 1)
    assert result == (0, "samples.png: 20 samples, weights of step 2, seed 3: 2 codes in 10 classes\n", "")
    sheet = tiles("samples.png", 64, 10)
    for row in range(2):
        for digit in (0, 7, 9):
            wanted = model.decode(z[row : row + 1], y=digit)[0]
            np.testing.assert_allclose(sheet[10 * row + digit][::2, ::2] / 255, wanted, atol=0.0021)
    assert not np.allclose(sheet[3] / 255, sheet[7] / 255, atol=0.01)  # the class is heeded

    command("sample", run, "--class", 7, "--count", 2, "--columns", 2, "--seed", 3, "--out", "seven.png")
    np.testing.assert_array_equal(tiles("seven.png", 64, 2)[1], sheet[17])
    command("sample", run, "--count", 12, "--columns", 12, "--out", "turn.png")
    wanted = model.sample(12, y=[*range(10), 0, 1])
    np.testing.assert_allclose(tiles("turn.png", 64, 12)[:, ::2, ::2] / 255, wanted, atol=0.0021)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(command, monkeypatch) -> None:
    options = (*DIGITS, "--ema", 0.3, "--checkpoint-every", 1)
    trained(command, monkeypatch, *options, "--steps", 3, "--out", "whole")
    trained(command, monkeypatch, *options, "--steps", 1, "--out", "parts")
    assert command("train", "svhn", "--steps", 3, "--resume", "parts", "--quiet").code == 0
    for name in ("checkpoint-00000003.h5", "samples-00000003.png", "reconstructions-00000003.png"):
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()
    result = command("train", *DIGITS, "--steps", 4, "--conditional", "--data-seed", 1, "--resume", "whole")
    assert (result.code, "data_seed is 1, the checkpoint has None" in result.error) == (2, True)
    command("train", *DIGITS, "--batch-size", 4, "--steps", 1, "--quiet", "--out", "plain")
    result = command("train", "svhn", "--conditional", "--steps", 2, "--resume", "plain")
    assert (result.code, "conditional is True, the checkpoint has False" in result.error) == (2, True)


def test_faces_by_attributes(command, monkeypatch, faces: Path) -> None:
    trained(command, monkeypatch, *FACES, "--data", faces, "--steps", 1, "--out", "run")
    model = alikit.load("run")
    assert model.labels == LABELS["celeba"]
    result = command("sample", "run", "--attributes", "sheet", "--seed", 2, "--threads", 1)
    assert result == (0, "samples.png: 48 samples, weights of step 1, seed 2: 4 x 12 attributes of one code\n", "")
    sheet, z = tiles("samples.png", 64, 12), model.prior(1, seed=2)
    for place, names in (
        (0, {"Male", "Attractive", "Young"}),
        (12 + 4, {"Male", "Attractive", "Black_Hair", "Wavy_Hair"}),
        (24 + 7, {"Attractive", "Young", "Blond_Hair", "Bald"}),
        (36 + 11, {"Attractive", "Black_Hair", "Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat"}),
    ):
        y = np.array([label in names or label == "No_Beard" for label in LABELS["celeba"]])
        np.testing.assert_allclose(sheet[place] / 255, model.decode(z, y)[0], atol=0.0021)
    command("sample", "run", "--attributes", "smiling,Young", "--count", 1, "--out", "one.png")
    y = np.array([label in ("Smiling", "Young") for label in LABELS["celeba"]])
    np.testing.assert_allclose(tiles("one.png", 64, 1)[0] / 255, model.sample(1, y=y)[0], atol=0.0021)

    picture = faces / "img_align_celeba" / "000001.jpg"
    for options in (("--count", 2), (picture, "--attributes", "none")):
        assert command("reconstruct", "run", *options, "--threads", 1).code == 0
    result = command("reconstruct", "run", picture)
    assert result.code == 2
    assert result.error == "run: is conditional; say by --class or --attributes what your pictures show"


def test_held_out_images_are_given_their_own_labels(command, monkeypatch) -> None:
    trained(command, monkeypatch, *DIGITS, "--steps", 1, "--out", "run")
    seen = []
    reconstruct = alikit.inference.Model.reconstruct
    monkeypatch.setattr(
        "alikit.inference.Model.reconstruct",
        lambda self, x, seed, y: seen.append((x, y)) or reconstruct(self, x, seed, y),
    )
    assert command("reconstruct", "run", "--count", 5).code == 0
    test = alikit.open_dataset("svhn", data="synthetic", split="test")
    (x, y), drawn = seen[0], {test.take([k]).tobytes(): int(test.labels_of([k])[0]) for k in alike(test, 5)}
    for image, row in zip(x, y, strict=True):
        assert drawn[np.rint(image * 255).astype(np.uint8).tobytes()] == row.argmax()


def alike(dataset, count: int) -> list[int]:
    """The images that `held_out` takes with seed 0."""
    return EpochOrder(len(dataset), count, 0).batch_indices(0).tolist()


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("sample", ("--class", "cat"), "--class: there is no 'cat': choose from 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("sample", ("--attributes", "Smiling"), "--attributes: this run is given its --class"),
        ("sample", ("--attributes", "sheet"), "--attributes: this run is given its --class"),
        ("sample", ("--class", 3, "--attributes", "Smiling"), "--attributes: this run is given its --class"),
        ("sample", ("--class", "sheet", "--columns", 3), "a sheet has its own layout: neither --nearest nor --columns"),
        ("reconstruct", ("--class", "sheet"), "--class: there is no 'sheet': choose from 0, 1, 2"),
        ("encode", ("--split", "test"), "run: is conditional; encode works with unconditional runs, sample and"),
        ("interpolate", (), "run: is conditional; interpolate works with unconditional runs"),
        ("evaluate", (), "run: is conditional; evaluate works with unconditional runs"),
    ],
)
def test_what_a_conditional_run_refuses(verb: str, arguments: tuple, message: str, command, run_at_hand: None) -> None:
    result = command(verb, "run", *arguments)
    assert (result.code, result.error[: len(message)]) == (2, message)


@pytest.fixture
def run_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conditional model that was never trained stands for every run."""
    config = resolve("svhn", {"model": "small", "width": 0.05, "nz": 3, "conditional": True})
    model = alikit.inference.Model(state.build_model(config), config, 0, False)
    monkeypatch.setattr("alikit.inference.load", lambda run, warn=None: model)


def test_a_picture_s_class_has_to_be_said(command, run_at_hand: None) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("me.png")
    result = command("reconstruct", "run", "me.png")
    assert (result.code, result.error.partition(" (")[0]) == (
        2,
        "run: is conditional; say by --class or --attributes what your pictures show",
    )
    assert command("reconstruct", "run", "me.png", "--class", 4, "--threads", 1).code == 0


def test_an_attribute_that_there_is_not_and_a_count_of_the_sheet() -> None:
    with pytest.raises(UsageError, match="--attributes: there is no 'Glasses': choose from 5_o_Clock_Shadow, Arched"):
        given.vector(LABELS["celeba"], ["Smiling", "Glasses"])
    sheet = given.attribute_sheet(LABELS["celeba"])
    assert sheet.shape == (48, 40)
    assert len(np.unique(sheet, axis=0)) == 48


@pytest.mark.parametrize("option", [("--class", 3), ("--attributes", "sheet"), ("--class", "sheet")])
def test_a_run_without_conditions_refuses_them(option: tuple, command, image_run: Path) -> None:
    result = command("sample", image_run, *option)
    assert result.code == 2
    assert result.error == f"{option[0]}: {image_run} is no conditional run (train one by --conditional)"


def test_python_wants_labels_of_a_conditional_run_alone(run_at_hand: None, image_run: Path) -> None:
    model = alikit.inference.load("run")
    x = np.zeros((3, 32, 32, 3), np.uint8)
    for call in (model.encode, model.posterior, model.reconstruct):
        with pytest.raises(ValueError, match="y is missing: this run is conditional, on 0, 1, 2"):
            call(x)
    assert model.encode(x, y=[1, 2, 3]).shape == (3, 3)
    assert not np.array_equal(model.posterior(x, y=1)[0], model.posterior(x, y=2)[0])
    for refused in (lambda: model.examine(x), lambda: model.features(x), lambda: model.interpolate(x, x)):
        with pytest.raises(ValueError, match="this run is conditional"):
            refused()
    with pytest.raises(ValueError, match="y: this run is not conditional"):
        LOAD(image_run).sample(2, y=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mixture", "--conditional"), "--conditional: svhn, cifar10, celeba have labels, mixture has none"),
        (("svhn", "--conditional", "--model", "gan"), "--conditional: goes with ALI's own game, not with --model gan"),
        (("svhn", "--conditional", "--reconstruction", 1), "--conditional: goes with ALI's own game, not with --recon"),
    ],
)
def test_what_is_not_trained_conditionally(arguments: tuple, message: str, command) -> None:
    result = command("train", *arguments)
    assert (result.code, result.error[: len(message)]) == (2, message)


def test_a_dry_run_counts_the_embedding(command) -> None:
    result = command("train", "celeba", "--conditional", "--dry-run", "--width", 0.1)
    assert result.code == 0
    assert f"embedding: {26 * 41:,} parameters" in result.out
