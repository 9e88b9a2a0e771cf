"""Whoever measures a run does so on its data: those it was trained on, drawn by its seed, found from anywhere."""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import alikit
from alikit import evaluate
from alikit.data import open_dataset
from alikit.errors import AlikitError
from alikit.training import classifier, state
from alikit.training.config import PRESETS
from tests.commands.conftest import NARROW_IMAGES


class Opened(Exception):
    """With the seed that was asked for."""


@pytest.mark.parametrize("arguments", [("evaluate", "run"), ("encode", "run", "--split", "train", "-o", "codes.h5")])
def test_the_run_s_own(command, pictures: Path, arguments: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--data", pictures, "--steps", 1, "--seed", 3, "--data-seed", 7, "--out", "run", "--quiet")
    assert command("train", "folder", *NARROW_IMAGES, *options).code == 0

    def noted(*_: object, seed: int, **__: object) -> None:
        raise Opened(seed)

    monkeypatch.setattr("alikit.data.open_dataset", noted)
    with pytest.raises(Opened, match=r"^7$"):
        command(*arguments)


@pytest.mark.parametrize("arguments", [("reconstruct",), ("interpolate",), ("encode", "--split", "train")])
def test_other_pictures_than_the_run_s_are_told_of(command, image_run: Path, arguments: tuple) -> None:
    """Where they stand for what it was trained on: of five pictures one is held out, which is too few to look at."""
    folder, rng = Path("few"), np.random.default_rng(0)
    folder.mkdir()
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    verb, *options = arguments
    result = command(verb, image_run, *options, "--data", folder, "--threads", 1)
    assert result.code == 0
    assert "alikit: warning: few (4 of 5 pictures): not the data that this run was trained on" in result.err


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, ("10",), "--svm needs classes, as svhn and cifar10 have; folder has none"),
        ({"dataset": "svhn"}, ("15",), "--svm 15: a multiple of the 10 classes is wanted"),
        (
            {"dataset": "svhn", "game": "gan"},
            ("10", "--features", "encoder"),
            "--features encoder: this run has pixels",
        ),
    ],
)
def test_what_svms_cannot_work_with(
    command, image_run: Path, changes: dict, arguments: tuple, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before any data are read."""
    trained = alikit.load(image_run)
    config = replace(trained.config, **changes)
    model = alikit.inference.Model(state.build_model(config), config, 3, False)
    monkeypatch.setattr("alikit.inference.load", lambda *_: model)
    monkeypatch.setattr("alikit.data.open_dataset", lambda *_, **__: pytest.fail("opened"))
    result = command("evaluate", image_run, "--svm", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(message)


def test_a_data_folder_is_found_again_from_elsewhere(command, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here").symlink_to(pictures)
    assert (
        command("train", "folder", *NARROW_IMAGES, "--data", "here", "--steps", 1, "--out", "run", "--quiet").code == 0
    )
    place = Path("elsewhere")
    place.mkdir()
    monkeypatch.chdir(place)
    assert command("interpolate", "../run", "--out", "strip.png").code == 0  # between held-out images, however many


@pytest.fixture
def run_on_many(command) -> Path:
    """A run on pictures of which seven are held out, in `many`."""
    folder, rng = Path("many"), np.random.default_rng(0)
    folder.mkdir()
    for number in range(150):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    options = ("--data", folder, "--steps", 1, "--out", "run", "--quiet")
    assert command("train", "folder", *NARROW_IMAGES, *options).code == 0
    return Path("run")


def test_scores_are_told_where_they_cannot_be_written(command, run_on_many: Path, monkeypatch) -> None:
    lines = []

    def refuse(_: Path, line: dict) -> None:
        lines.append(line)
        raise AlikitError("cannot write there")

    monkeypatch.setattr("alikit.scoring.records.append", refuse)
    result = command("evaluate", run_on_many, "--count", 10, "--draws", 1, "--quiet", "--threads", 1)
    assert (result.code, result.error) == (1, "cannot write there")
    assert "Frechet" in result.out
    assert (lines[0]["run"], lines[0]["step"], lines[0]["averaged"]) == ("run", 1, False)


def test_codes_between_go_two_by_two(command, run_on_many: Path) -> None:
    for count in ((), ("--count", 10)):
        strip = command("interpolate", run_on_many, "--out", "strip.png", *count)
        assert strip.out.startswith("strip.png: 3 rows of 12 codes")  # of seven pictures
    result = command("interpolate", run_on_many, "--count", 3)
    assert (result.code, result.error) == (2, "--count 3: images go two by two; an even number is wanted")


def test_scores_name_the_recipe_of_the_classifier_that_was_read(command, run_on_many: Path) -> None:
    data, recipe = open_dataset("folder", data="many", size=32, quiet=True), classifier.Recipe(seed=5)
    classifier.train(data, 20, Path("c.h5"), lambda steps, _: steps, recipe)
    options = ("--classifier", "c.h5", "--count", 10, "--draws", 1, "--quiet", "--threads", 1)
    result = command("evaluate", run_on_many, *options)
    assert result.code == 0
    assert "c.h5: this classifier was trained on other data, or by another recipe" in result.err
    line = json.loads((run_on_many / "scores.jsonl").read_text().splitlines()[0])
    assert line["classifier_recipe"] == asdict(recipe)
    assert line["classifier_key"] == classifier.key(data, 20, recipe)


def test_labels_of_a_run_on_extra_are_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the paper: the encoder has seen `extra`, the SVM gets labels of the official training split."""
    opened = []
    monkeypatch.setattr("alikit.data.open_dataset", lambda *_, split, **__: opened.append(split) or range(73_257))
    options = argparse.Namespace(data=None, quiet=True)
    model, extra = SimpleNamespace(config=replace(PRESETS["svhn"], split="extra", images=500)), range(600)
    _, count = evaluate._labelled(options, model, extra)
    assert (opened, count) == (["train"], 73_257)
    model.config = replace(model.config, split="train")
    assert evaluate._labelled(options, model, extra) == (extra, 500)
