"""`python -m alikit.train`: the folder it leaves, what it says, how options reach the run."""

import json
from pathlib import Path

import numpy as np
import pytest

from alikit.training import state

POINTS = ("mixture", "--width", 0.03, "--batch-size", 16, "--threads", 1)


def record(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_on_points(command, working_folder: Path) -> None:
    result = command("train", *POINTS, "--steps", 5, "--log-every", 2)
    assert (result.code, result.err) == (0, "")
    run = Path("runs/00000-mixture")
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoint-00000005.h5",
        "config.json",
        "latents-00000005.png",
        "metrics.jsonl",
        "samples-00000005.png",
        "timing.jsonl",
    ]
    assert [line["step"] for line in lines(run)] == [1, 2, 4, 5]
    assert any(name.startswith("coverage_") for name in lines(run)[-1])
    out = result.out.splitlines()
    assert out[0].startswith("device: cpu (")
    assert ", 1 thread, fp32" in out[0]
    assert out[1].startswith("data: 100,000 of mixture train (drawn: 25 Gaussians")
    assert out[1].endswith("held out: valid, not trained on")
    parameters = record(run)["parameters"]
    assert out[2] == f"run: runs/00000-mixture begins; mixture, {parameters:,} parameters, 5 steps"
    assert out[3].startswith("step 1/5")
    assert out[-1] == "done after 5 steps: runs/00000-mixture"


def test_a_run_on_pictures(image_run: Path) -> None:
    names = {path.name for path in image_run.iterdir()}
    assert names >= {f"{kind}-00000003.png" for kind in ("samples", "reconstructions", "latents")}
    last = lines(image_run)[-1]
    assert last["images"] == 12
    assert last["epoch"] == pytest.approx(12 / 39)
    assert 0 < last["reconstruction_error"] < 1
    assert last["reconstruction_ratio"] == pytest.approx(1, abs=0.2)
    options = record(image_run)["options"]
    assert (options["model"], options["size"], options["lr"], options["ema"]) == ("svhn", 32, 0.01, 0.5)
    saved = state.read(image_run / "checkpoint-00000003.h5")
    assert saved.config.dataset == "folder"
    assert not np.array_equal(
        saved.arrays["ema/decoder.layers.0.conv.weight"], saved.arrays["model/decoder.layers.0.conv.weight"]
    )


def test_drawn_house_numbers(command) -> None:
    options = ("--width", 0.03, "--nz", 3, "--batch-size", 4, "--threads", 1, "--steps", 1)
    result = command("train", "svhn", "--data", "synthetic", *options)
    assert (result.code, result.err) == (0, "")
    assert "73,257 of svhn train (drawn by alikit, seed 0); held out: test, not trained on" in result.out
    assert record(Path("runs/00000-svhn"))["data"]["source"] == "drawn by alikit, seed 0"


def test_quiet_says_nothing(command) -> None:
    assert command("train", *POINTS, "--steps", 1, "--quiet") == (0, "", "")


def test_more_images_than_there_are_are_told_of(command) -> None:
    result = command("train", *POINTS, "--steps", 1, "--images", 100_001)
    assert (result.code, result.err) == (
        0,
        "alikit: warning: --images 100,001: more than mixture train has (100,000)\n",
    )
    assert result.out.endswith("done after 1 step: runs/00000-mixture\n")


def test_new_runs_are_numbered(command, working_folder: Path) -> None:
    for _ in range(2):
        command("train", *POINTS, "--steps", 1, "--quiet")
    command("train", *POINTS, "--steps", 1, "--quiet", "--out", "mine/first")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["00000-mixture", "00001-mixture"]
    assert (working_folder / "mine/first/checkpoint-00000001.h5").exists()


def test_a_run_may_begin_in_an_empty_folder(command) -> None:
    Path("empty").mkdir()
    assert command("train", *POINTS, "--steps", 1, "--quiet", "--out", "empty").code == 0


def test_the_same_seed_gives_the_same_bytes(command) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        command("train", *POINTS, "--steps", 4, "--quiet", "--out", name, "--seed", seed, "--log-every", 1)
    for name in ("checkpoint-00000004.h5", "metrics.jsonl", "samples-00000004.png", "latents-00000004.png"):
        a, b, c = (Path(run, name).read_bytes() for run in "abc")
        assert a == b
        assert a != c


def test_every_option_reaches_the_run(command, pictures: Path) -> None:
    data = {"data": str(pictures), "split": "train", "size": 32, "images": 7, "data_seed": 3}
    networks = {"model": "vae:cifar10", "width": 0.1, "nz": 5, "init_std": 0.03}
    game = {
        "steps": 9,
        "batch_size": 6,
        "lr": 0.003,
        "beta1": 0.1,
        "beta2": 0.9,
        "adam_eps": 1e-6,
        "seed": 8,
        "ema": 0.2,
        "kl_warm_up": 70,
    }
    machine = {"device": "cpu", "precision": "fp32", "threads": 2}
    given = data | networks | game | machine | {"log_every": 3, "sample_every": 4, "checkpoint_every": 5, "keep": 6}
    options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    result = command("train", "folder", *options, "--dry-run")
    assert (result.code, result.err) == (0, "")
    printed = json.loads(result.out[: result.out.index("\n}") + 2])
    model = {"game": "vae", "model": "cifar10", "decoder": None, "graph": True, "reconstruction": 0.0}
    model |= {"instance_noise": 0.0, "instance_noise_steps": 10_000}
    model |= {"conditional": False, "labels": None, "labelled_batch": None}
    assert printed == {"dataset": "folder", "epochs": 100.0, **given, **model}
    epochs = command("train", "mixture", "--epochs", 0.25, "--dry-run").out
    assert json.loads(epochs[: epochs.index("\n}") + 2])["epochs"] == 0.25


def test_a_dry_run_counts_parameters_and_writes_nothing(command, working_folder: Path) -> None:
    result = command("train", "svhn", "--dry-run", "--out", "there")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-4:] == [
        "run folder: there",
        "encoder: 3,315,488 parameters",
        "decoder: 1,767,584 parameters",
        "discriminator: 5,283,073 parameters",
    ]
    assert list(working_folder.iterdir()) == []


def test_the_demo_needs_no_data_and_takes_options(command, working_folder: Path) -> None:
    out = command("train", "svhn", "--demo", "--steps", 7, "--dry-run").out
    printed = json.loads(out[: out.index("\n}") + 2])
    assert (printed["data"], printed["steps"]) == ("synthetic", 7)
    assert list(working_folder.iterdir()) == []


def test_epochs_end_with_the_smaller_batch(command, pictures: Path) -> None:
    options = ("--size", 32, "--width", 0.03, "--nz", 3, "--batch-size", 15, "--threads", 1)
    command("train", "folder", "--data", pictures, *options, "--epochs", 1, "--quiet", "--log-every", 1)
    assert [line["images"] for line in lines(Path("runs/00000-folder"))] == [15, 30, 39]
    assert record(Path("runs/00000-folder"))["total_steps"] == 3


def test_the_first_images_of_a_split_alone(command, pictures: Path) -> None:
    options = ("--size", 32, "--width", 0.03, "--nz", 3, "--batch-size", 5, "--threads", 1, "--images", 12)
    result = command("train", "folder", "--data", pictures, *options, "--epochs", 1, "--log-every", 1)
    assert "data: 12 of folder train (" in result.out
    assert [line["images"] for line in lines(Path("runs/00000-folder"))] == [5, 10, 12]
    assert record(Path("runs/00000-folder"))["data"]["images"] == 12


def test_help_names_exit_codes_and_examples(command) -> None:
    for verb in ("train", "sample", "reconstruct"):
        result = command(verb, "--help")
        assert (result.code, result.err) == (0, "")
        assert f"python -m alikit.{verb}" in result.out
        assert "examples:" in result.out
    assert "4 device unusable" in " ".join(command("train", "--help").out.split())
