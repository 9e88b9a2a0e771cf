"""`python -m alikit.study mixture`: from nothing to the tables, stopped and gone on with, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import alikit
from alikit.study.plan import SEARCH
from alikit.training import checkpoint
from tests.commands.conftest import call, surrounded_by

STUDY = "study.__main__"
NARROW = ("mixture", "--width", 0.03, "--batch-size", 16, "--no-figure")


@pytest.fixture(scope="module")
def study(surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a GAN and inference for it. Not to be written to."""
    folder = tmp_path_factory.mktemp("studies") / "small"
    options = (*NARROW, "--configs", 1, "--models", "gan,posthoc", "--steps", 4, "--jobs", 2, "--quiet")
    with surrounded_by(surroundings):
        assert call(STUDY, *options, "--out", folder) == 0
    return folder


def result(folder: Path, name: str) -> dict:
    return json.loads((folder / "results" / f"{name}.json").read_text())


def test_a_study_leaves_runs_results_and_tables(study: Path) -> None:
    assert sorted(p.name for p in study.iterdir()) == [
        "logs",
        "results",
        "runs",
        "study.json",
        "table.json",
        "table.md",
    ]
    names = ["gan-00-s0", "posthoc-00-s0-on-gan-00-s0"]
    assert sorted(p.name for p in (study / "runs").iterdir()) == names
    for name in names:
        assert alikit.load(study / "runs" / name).step == 4
        found = result(study, name)
        assert (found["job"]["name"], found["diverged"], found["steps"]) == (name, False, 4)
    assert "reconstruction_error" not in result(study, names[0])["numbers"]
    assert result(study, names[1])["numbers"].keys() == {
        *("modes_nearest", "modes_covered", "share_covered", "reconstruction_error", "reconstruction_ratio", "mmd")
    }
    points, _ = checkpoint.load(study / "results" / f"{names[1]}.h5")
    assert {name: array.shape for name, array in points.items()} == dict.fromkeys(
        ("codes", "generated", "prior", "reconstructions"), (2500, 2)
    )
    text = (study / "table.md").read_text()
    assert "| GAN + post-hoc learned inference   | 1    | " in text
    assert json.loads((study / "table.json").read_text())["models"]["gan"]["runs"] == 1


def test_numbers_are_those_of_the_run_on_held_out_points(study: Path) -> None:
    numbers = result(study, "posthoc-00-s0-on-gan-00-s0")["numbers"]
    model = alikit.load(study / "runs/posthoc-00-s0-on-gan-00-s0")
    held_out = alikit.open_dataset("mixture", split="valid", seed=0)
    x = held_out.take(range(10_000)).reshape(-1, 1, 1, 2)
    assert numbers["reconstruction_error"] == pytest.approx(float(((model.reconstruct(x) - x) ** 2).mean()), rel=1e-4)
    train = alikit.open_dataset("mixture", split="train", seed=0)
    assert not np.isin(x[:, 0, 0, 0], train.images[:, 0]).all()


def test_every_run_can_be_repeated_by_its_command(study: Path, environment: dict[str, str]) -> None:
    found = result(study, "gan-00-s0")
    arguments = found["command"][3:]
    arguments[arguments.index("--out") + 1] = "again"
    subprocess.run([sys.executable, "-m", "alikit.train", *arguments, "--quiet"], env=environment, check=True)
    z = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_array_equal(alikit.load("again").decode(z), alikit.load(study / "runs/gan-00-s0").decode(z))


def test_finished_runs_are_not_run_again(study: Path, command) -> None:
    before = {
        path: path.stat().st_mtime_ns for part in ("runs", "results", "logs") for path in (study / part).rglob("*")
    }
    options = (*NARROW, "--configs", 1, "--models", "gan,posthoc", "--steps", 4, "--out", study)
    for more in ((), ("--report",)):
        shown = command(STUDY, *options, *more)
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith("# The 25 Gaussians\n")
        assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("begun", ["with a checkpoint", "without one"])
def test_a_moved_study_goes_on(begun: str, study: Path, command) -> None:
    name, moved = "posthoc-00-s0-on-gan-00-s0", Path("moved/study")
    shutil.copytree(study, moved)
    (moved / f"results/{name}.json").unlink()
    if begun == "without one":
        (moved / f"runs/{name}/checkpoint-00000004.h5").unlink()
    options = (*NARROW, "--configs", 1, "--models", "gan,posthoc", "--steps", 4, "--jobs", 1, "--quiet")
    done = command(STUDY, *options, "--out", moved)
    assert (done.code, done.err) == (0, "")
    assert result(moved, name)["numbers"] == result(study, name)["numbers"]


def test_a_killed_study_goes_on_from_its_checkpoints(environment: dict[str, str], tmp_path: Path, command) -> None:
    """SIGKILL to the study: its run ends by itself with a checkpoint, and what it had done is not done again."""
    options = (*NARROW, "--configs", 1, "--models", "ali", "--steps", 90, "--checkpoint-every", 10, "--quiet")
    argv = [sys.executable, "-m", "alikit.study", *map(str, options), "--out", "killed"]
    process = subprocess.Popen(argv, env=environment, cwd=tmp_path)
    run = tmp_path / "killed/runs/ali-00-s0"
    while not list(run.glob("checkpoint-*.h5")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed/results/ali-00-s0.json").exists()
    deadline = time.monotonic() + 60
    while not _ended(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    before = (run / "timing.jsonl").read_bytes()
    steps = [json.loads(line)["step"] for line in before.splitlines()]
    assert 0 < steps[-1] < 90
    assert command(STUDY, *options, "--out", "killed").code == 0
    assert (run / "timing.jsonl").read_bytes().startswith(before)  # the clock does not repeat itself
    assert command(STUDY, *options, "--out", "whole").code == 0
    killed, whole = (result(tmp_path / name, "ali-00-s0") for name in ("killed", "whole"))
    assert killed["numbers"] == whole["numbers"]


def _ended(run: Path) -> bool:
    """Whether no process writes to the run's log any more: the lock on it can be had."""
    import fcntl

    with (run.parents[1] / "logs" / f"{run.name}.txt").open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def test_ctrl_c_saves_and_says_how_it_ended(environment: dict[str, str], tmp_path: Path) -> None:
    options = (*NARROW, "--configs", 1, "--models", "vae", "--steps", 10**6, "--checkpoint-every", 10**6)
    argv = [sys.executable, "-m", "alikit.study", *map(str, options), "--out", "study"]
    process = subprocess.Popen(argv, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    run = tmp_path / "study/runs/vae-00-s0"
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping: every run saves a checkpoint first" in out
    assert len(list(run.glob("checkpoint-*.h5"))) == 1


def test_a_study_is_announced_without_a_trace(command, working_folder: Path) -> None:
    shown = command(STUDY, "mixture", "--configs", 2, "--dry-run", "--lr", "1e-4", "--beta1", 0.1, 0.2)
    assert (shown.code, shown.err) == (0, "")
    settings = json.loads(shown.out[: shown.out.index("\n}") + 2])
    assert (settings["lr"], settings["beta1"], settings["runs"]) == ([1e-4, 1e-4], [0.1, 0.2], 10)
    assert settings["folder"] == "studies/mixture"
    lines = [line for line in shown.out.splitlines() if line.startswith("python -m alikit.train mixture --model ")]
    assert len(lines) == 10
    best = command(STUDY, "mixture", "--best", "--dry-run", "--models", "ali", "--lr", "1e-3")
    assert best.out.count("python -m alikit.train mixture --model ali ") == 5
    assert best.out.count(" --lr 0.001 ") == 5
    assert list(working_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("svhn",), 2, "argument set: invalid choice: 'svhn'"),
        (("mixture", "--models", "ali,wgan"), 2, "--models: there is no 'wgan'"),
        (("mixture", "--models", "posthoc"), 2, "--models: inverse and posthoc build on a GAN: add gan"),
        (("mixture", "--lr", "1e-3", "1e-4"), 2, "--lr: a value, or a range from low to high, is wanted"),
        (("mixture", "--beta1", "0.1", "0.2", "0.3"), 2, "--beta1: a value, or a range from low to high, is wanted"),
        (
            ("mixture", "--best", "--lr", "1e-4", "1e-3", "--dry-run"),
            2,
            "--lr: --best is one stated configuration: one value is wanted",
        ),
        (
            ("mixture", "--best", "--configs", "2", "--dry-run"),
            2,
            "--configs: of random ones; --best is one stated configuration",
        ),
        (("mixture", "--lr", "nan"), 2, "argument --lr: a number above 0 to 1 is wanted, not nan"),
        (("mixture", "--configs", "0"), 2, "argument --configs: from 1 up is wanted, not 0"),
        (("mixture", "--jobs", "0"), 2, "argument --jobs: from 1 up is wanted, not 0"),
        (("mixture", "--out", "full", "--no-figure"), 2, "--out full: exists already and holds no study"),
        (("mixture", "--out", "file", "--no-figure"), 2, "--out file: exists already and holds no study"),
        (("mixture", "--out", "nowhere", "--no-figure", "--report"), 3, "--out nowhere: holds no study"),
        (
            ("mixture", "--out", "STUDY", "--no-figure", "--steps", "5"),
            2,
            "holds another study: steps is 5, the study has 4",
        ),
        (("mixture", "--out", "STUDY", "--no-figure", "--report", "--best"), 2, "holds another study: best is True"),
    ],
)
def test_what_is_refused(arguments: tuple, code: int, message: str, command, study: Path, tmp_path: Path) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    narrow = ("--width", 0.03, "--batch-size", 16) if "STUDY" in arguments else ()
    found = command(STUDY, *(str(study) if a == "STUDY" else a for a in arguments), *narrow, "--quiet")
    assert (found.code, found.out) == (code, "")
    assert message in found.error
    assert sorted(p.as_posix() for p in Path().rglob("*")) == ["file", "full", "full/notes.txt"]


def test_two_at_once_on_one_study_are_refused(study: Path, command) -> None:
    import fcntl

    options = (*NARROW, "--configs", 1, "--models", "gan,posthoc", "--steps", 4, "--out", study)
    with (study / "study.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = command(STUDY, *options)
        assert (found.code, "another process is working on this study" in found.error) == (2, True)
        assert command(STUDY, *options, "--report").code == 0


def test_a_run_that_diverges_is_a_result(command, tmp_path: Path) -> None:
    """A huge step in float32: the loss overflows, the study goes on."""
    options = (*NARROW, "--configs", 1, "--models", "vae", "--lr", 1, "--init-std", 10, "--steps", 30, "--quiet")
    assert command(STUDY, *options, "--out", "study").code == 0
    found = result(tmp_path / "study", "vae-00-s0")
    assert found["diverged"]
    assert "numbers" not in found
    assert "(1 diverged)" in Path("study/table.md").read_text()


def test_a_run_that_fails_ends_the_study_with_its_name_and_log(command) -> None:
    options = (*NARROW, "--configs", 1, "--models", "ali", "--steps", 3, "--quiet", "--out", "study")
    Path("study/runs").mkdir(parents=True)
    Path("study/runs/ali-00-s0").write_text("in the way")
    settings = {**SEARCH.to_json(), "width": 0.03, "batch_size": 16, "steps": 3}
    Path("study/study.json").write_text(json.dumps(settings))
    found = command(STUDY, *options)
    assert found.code == 1
    assert "the run ali-00-s0 failed: " in found.error
    assert found.error.endswith("(all of it: study/logs/ali-00-s0.txt)")
    assert "Not a directory" in Path("study/logs/ali-00-s0.txt").read_text()
    Path("study/runs/ali-00-s0").unlink()
    assert command(STUDY, *options).code == 0


def test_a_damaged_record_is_named(command) -> None:
    Path("study").mkdir()
    Path("study/study.json").write_text("{")
    found = command(STUDY, *NARROW, "--quiet", "--out", "study")
    assert (found.code, "study/study.json: cannot be read" in found.error) == (3, True)


def test_a_run_with_a_number_that_is_not_finite_counts_as_diverged(command, monkeypatch: pytest.MonkeyPatch) -> None:
    from alikit.study import job, measure
    from alikit.study.place import Place
    from alikit.study.plan import Job, from_json

    folder = Path("odd")
    command(STUDY, *NARROW, "--configs", 1, "--models", "gan", "--steps", 2, "--jobs", 1, "--quiet", "--out", folder)
    known = json.loads((folder / "results/gan-00-s0.json").read_text())
    settings = from_json(json.loads((folder / "study.json").read_text()))
    monkeypatch.setattr(measure, "measure", lambda *_: ({"modes_nearest": 3, "share_covered": float("nan")}, {}))
    assert job.perform(Place(folder), Job(**known["job"]), settings, 2) == 0
    found = result(folder, "gan-00-s0")
    assert (found["diverged"], "numbers" in found) == (True, False)
