"""`--labels N`: runs whose D learns classes, from the first step to the table at the end, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import alikit
import alikit.evaluate
from alikit.training import labels

NARROW = ("--width", 0.04, "--nz", 3, "--batch-size", 8, "--lr", 0.01, "--init-std", 0.2, "--threads", 1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with 50 images of SVHN's kind to train on, five of each class, and 30 to be judged by."""
    folder, rng = tmp_path_factory.mktemp("digits"), np.random.default_rng(8)
    for split, count in (("train", 50), ("test", 30)):
        images = rng.integers(0, 256, (32, 32, 3, count), np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": images, "y": np.arange(count)[:, None] % 10 + 1})
    return folder


def lines(run: str) -> list[dict]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def test_a_run_with_labels_and_one_that_went_on(command, digits: Path, monkeypatch) -> None:
    """Seven steps of 8 images and, of 20 labels, of 8, 8, 4; the other run begins again at the checkpoint of step 4."""
    monkeypatch.setattr(labels, "SUBSET", 10)
    options = ("svhn", "--data", digits, "--labels", 20, *NARROW, "--ema", 0.3, "--log-every", 1)
    options = (*options, "--sample-every", 3, "--checkpoint-every", 2)
    result = command("train", *options, "--steps", 7, "--out", "whole")
    assert result.code == 0
    assert command("train", *options, "--steps", 7, "--quiet").code == 0  # the same in a folder of its own name
    assert [path.name for path in Path("runs").iterdir()] == ["00000-svhn-20labels"]

    found = lines("whole")
    assert [line["step"] for line in found if "test_error" in line] == [3, 6, 7]
    assert all(0 <= line["label_accuracy"] <= 1 < line["loss_label"] for line in found)
    assert {name for line in found for name in line if line["step"] < 3} >= {"loss_d", "prob_sample", "grad_norm_g"}
    last = found[-1]
    assert last["test_images"] == 30
    assert (last["test_error"] * 10) % 1 == pytest.approx(0, abs=1e-9)
    table = result.out.splitlines()
    place = next(i for i, line in enumerate(table) if line.startswith("test error  "))
    assert table[place + 2].split()[:5] == ["this", "run", "20", "7", f"{100 * last['test_error_all']:.2f}"]
    assert "30 images of svhn test (NOT the published file)" in table[place + 2]
    assert "90.00" in table[place + 3]
    assert table[place + 4].split()[7:11] == ["1,000", "7.42", "+-", "0.65"]
    assert f"test error {last['test_error_all']:.2%}" in result.out

    Path("parts").mkdir()
    for name in ("checkpoint-00000004.h5", "config.json", "metrics.jsonl", "timing.jsonl"):
        Path("parts", name).write_bytes(Path("runs/00000-svhn-20labels", name).read_bytes())
    result = command("train", *options, "--steps", 7, "--resume", "parts")
    assert (result.code, "goes on from checkpoint-00000004.h5" in result.out) == (0, True)
    for name in ("metrics.jsonl", "test-error.png", "checkpoint-00000006.h5", "checkpoint-00000007.h5"):
        whole = Path("whole", name).read_bytes()
        assert whole == Path("parts", name).read_bytes(), name
        assert whole == Path("runs/00000-svhn-20labels", name).read_bytes(), name
    result = command("train", *options, "--resume", "parts", "--steps", 7)  # finished already: the table again
    assert (result.code, f"{100 * last['test_error_all']:.2f}" in result.out) == (0, True)


def test_what_evaluate_and_the_python_interface_say(command, digits: Path, monkeypatch) -> None:
    options = ("svhn", "--data", digits, "--labels", 10, *NARROW, "--ema", 0.3)
    assert command("train", *options, "--steps", 3, "--quiet", "--out", "run").code == 0
    error = lines("run")[-1]["test_error_all"]
    model = alikit.load("run")
    test = alikit.open_dataset("svhn", data=digits, split="test", quiet=True)
    logits = model.classify(test.images)
    assert logits.shape == (30, 10)
    assert (logits.argmax(axis=1) != test.labels).mean() == error
    assert model.classify(test.images[:0]).shape == (0, 10)
    monkeypatch.setattr(alikit.evaluate, "_scores", lambda *_: 0)
    result = command("evaluate", "run", "--threads", 1, "--quiet")
    row = next(line for line in result.out.splitlines() if line.startswith("this run"))
    assert row.split()[2:5] == ["10", "3", f"{100 * error:.2f}"]
    assert command("sample", "run", "--count", 4).code == 0


def test_a_run_without_labels_classifies_nothing(image_run: Path) -> None:
    with pytest.raises(ValueError, match="classify: this run was trained without --labels"):
        alikit.load(image_run).classify(np.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("svhn", "--labels", 7), 2, "--labels 7: a multiple of the 10 classes is wanted"),
        (("svhn", "--labels", 25), 2, "--labels 25: a multiple of the 10 classes is wanted"),
        (("svhn", "--labels", 60), 2, "--labels 60: class 0 has 5 images to choose from; 6 are wanted"),
        (("svhn", "--labels", 20, "--images", 12), 2, "--labels 20: class 0 has 1 images to choose from; 2 are wanted"),
        (("svhn", "--labels", 20, "--model", "gan"), 2, "--labels: goes with --model ali, not with gan"),
        (("svhn", "--labelled-batch", 20), 2, "--labelled-batch: goes with --labels"),
        (("celeba", "--labels", 100), 2, "--labels: celeba has no classes; svhn and cifar10 have"),
        (("folder", "--size", 32, "--labels", 100), 2, "--labels: folder has no classes"),
        (("mixture", "--labels", 100), 2, "--labels: mixture has no classes"),
    ],
)
def test_what_does_not_fit(arguments: tuple, code: int, message: str, command, digits: Path) -> None:
    result = command("train", *arguments, "--data", digits, *NARROW[:6], "--quiet", "--steps", 1, "--out", "run")
    assert result.code == code
    assert message in result.err.splitlines()[-1]
    assert not Path("run").exists()


def test_images_to_be_judged_by_must_be_there(command, digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without-test"
    folder.mkdir()
    (folder / "train_32x32.mat").write_bytes((digits / "train_32x32.mat").read_bytes())
    options = ("svhn", "--data", folder, *NARROW, "--quiet", "--steps", 1)
    result = command("train", *options, "--labels", 10, "--out", "run")
    assert (result.code, "test_32x32.mat" in result.err, Path("run").exists()) == (3, True, False)
    assert command("train", *options, "--out", "run").code == 0


def test_a_run_goes_on_with_the_labels_it_has(command, digits: Path) -> None:
    options = ("svhn", "--data", digits, *NARROW, "--quiet", "--out", "run")
    assert command("train", *options, "--labels", 10, "--steps", 1).code == 0
    result = command("train", *options, "--labels", 20, "--steps", 2, "--resume")
    assert (result.code, "labels is 20, the checkpoint has 10" in result.error) == (2, True)
    assert command("train", *options, "--steps", 2, "--resume").code == 0
