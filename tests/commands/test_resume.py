"""A run that was killed at any moment, or stopped, ends with the bytes of one that never was."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alikit.training import runs
from tests.commands.conftest import NARROW_POINTS

POINTS = ("mixture", "--width", "0.1", "--batch-size", "16", "--lr", "0.003")
POINTS += ("--steps", "75", "--log-every", "1", "--checkpoint-every", "10", "--sample-every", "40", "--ema", "0.1")
IMAGES = ("folder", "--size", "32", "--width", "0.04", "--nz", "3", "--batch-size", "4")
IMAGES += ("--steps", "24", "--log-every", "1", "--checkpoint-every", "5", "--sample-every", "9")

Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(environment: dict[str, str]) -> Start:
    """start(folder, *arguments): the train command as a process of its own; passes: which ones, where it matters."""

    def run(folder: Path, *arguments: object, passes: str = "plain") -> subprocess.Popen:
        line = [sys.executable, "-m", "alikit.train", *map(str, arguments), "--threads", "1", "--out", str(folder)]
        pipe = subprocess.PIPE
        chosen = {**environment, "ALIKIT_PASSES": passes}
        return subprocess.Popen([*line, "--quiet"], stdout=pipe, stderr=pipe, text=True, env=chosen)

    return run


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and stderr."""
    out, err = process.communicate(timeout=120)
    assert out == ""
    return process.returncode, err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.0005)


def lines(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def same_end(folder: Path, whole: Path) -> None:
    """Every file that both runs end with holds the same bytes, but for the clock's and the record of the machine."""
    names = {path.name for path in whole.iterdir()} - {"timing.jsonl", "config.json"}
    kept = {path.name for path in folder.iterdir()} - {"timing.jsonl", "config.json"}
    assert kept == names
    assert len(names) >= 6
    for name in sorted(names):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert json.loads((folder / "config.json").read_text()) == json.loads((whole / "config.json").read_text())


@pytest.fixture(scope="module")
def whole_points(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The run on points that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "points"
    line = [sys.executable, "-m", "alikit.train", *POINTS, "--threads", "1", "--out", str(folder), "--quiet"]
    subprocess.run(line, check=True, env=environment)
    return folder


def test_killed_again_and_again(start: Start, whole_points: Path, tmp_path: Path) -> None:
    """Before the first checkpoint, in the midst of writing one, and at moments that nobody chose."""
    folder, delay = tmp_path / "run", random.Random(4)
    moments = [
        lambda: (folder / "config.json").exists(),
        lambda: any(folder.glob("*.part")),
        lambda: lines(folder) > 25,
        lambda: lines(folder) > 45,
    ]
    killed = []
    for attempt, moment in enumerate(moments):
        process = start(folder, *POINTS, *(("--resume", "auto") if attempt else ()))
        wait_for(moment, process)
        if attempt > 1:
            time.sleep(delay.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        killed.append(finish(process)[0])
    assert killed[0] == -signal.SIGKILL
    assert killed.count(-signal.SIGKILL) >= 3
    assert finish(start(folder, *POINTS, "--resume", "auto")) == (0, "")
    same_end(folder, whole_points)


def test_killed_before_the_first_checkpoint(start: Start, whole_points: Path, tmp_path: Path) -> None:
    """What is left then: the record, lines that no checkpoint stands behind, the last of them torn."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole_points / "config.json", folder)
    for name in ("metrics.jsonl", "timing.jsonl"):
        (folder / name).write_bytes((whole_points / name).read_bytes()[:777])
    (folder / "checkpoint-00000010.h5.part").write_bytes(b"half of one")
    assert finish(start(folder, *POINTS, "--resume", str(folder))) == (0, "")
    same_end(folder, whole_points)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(number: int, code: int, start: Start, whole_points: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, *POINTS)
    wait_for(lambda: lines(folder) > 15, process)
    process.send_signal(number)
    assert finish(process) == (code, "")
    stopped = runs.checkpoints(folder)[-1]
    assert int(stopped.stem[-8:]) == lines(folder)  # saved at the step it had reached
    assert finish(start(folder, *POINTS, "--resume", str(stopped))) == (0, "")
    for name in {path.name for path in whole_points.iterdir()} - {"timing.jsonl", "config.json"}:
        assert (folder / name).read_bytes() == (whole_points / name).read_bytes(), name


def test_networks_with_batch_norm_and_pictures(start: Start, pictures: Path, tmp_path: Path) -> None:
    """By the compiled passes, where they can be."""
    start = functools.partial(start, passes="")
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert finish(start(whole, *IMAGES, "--data", pictures)) == (0, "")
    process = start(folder, *IMAGES, "--data", pictures)
    wait_for(lambda: lines(folder) > 12, process)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert finish(start(folder, *IMAGES, "--resume", "auto")) == (0, "")  # the data are where the run found them
    same_end(folder, whole)


@pytest.fixture
def stopped(image_run: Path, tmp_path: Path) -> Path:
    """A copy of a run of three steps."""
    return Path(shutil.copytree(image_run, tmp_path / "stopped"))


def test_another_configuration_is_refused_with_the_differences(command, stopped: Path) -> None:
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    options = ("--lr", 0.5, "--seed", 3, "--batch-size", 4)
    result = command("train", "folder", "--resume", stopped, *options)
    assert result.code == 2
    assert result.error == (
        "--resume: another configuration than the checkpoint's: "
        "lr is 0.5, the checkpoint has 0.01; seed is 3, the checkpoint has 0"
    )
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


def test_another_set_is_refused(command, stopped: Path) -> None:
    result = command("train", "svhn", "--resume", stopped)
    assert result.code == 2
    assert "dataset is 'svhn', the checkpoint has 'folder'" in result.error


def test_other_pictures_are_refused(command, stopped: Path, pictures: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(pictures, tmp_path / "other"))
    (other / "01.png").write_bytes((other / "02.png").read_bytes())
    result = command("train", "folder", "--resume", stopped, "--data", other, "--steps", 5, "--quiet")
    assert result.code == 2
    assert "the data differ from the checkpoint's" in result.error


def test_a_finished_run_goes_on_when_it_is_given_more_steps(command, stopped: Path) -> None:
    done = command("train", "folder", "--resume", stopped, "--threads", 1)
    assert done.code == 0
    assert "has 3 steps already" in done.out
    assert done.out.endswith(f"done after 3 steps: {stopped}\n")
    assert command("train", "folder", "--resume", stopped, "--steps", 5, "--threads", 1, "--quiet").code == 0
    steps = [json.loads(line)["step"] for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 3, 5]
    assert [path.name for path in runs.checkpoints(stopped)] == ["checkpoint-00000003.h5", "checkpoint-00000005.h5"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_run_goes_on_when_its_reader_has_left(surroundings: dict[str, str], unbuffered: str) -> None:
    line = [sys.executable, "-m", "alikit.train", "mixture", *NARROW_POINTS, "--steps", "6", "--out", "run"]
    environment = {**os.environ, **surroundings, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("run/checkpoint-00000006.h5").exists()
