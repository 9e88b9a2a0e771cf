"""What befalls a run: a full disk, a damaged checkpoint, training that diverges, an interrupt."""

import resource
from pathlib import Path

import numpy as np
import pytest

import alikit
from alikit.training import runs
from alikit.training.feed import Feed
from alikit.training.games import Batch

POINTS = ("mixture", "--width", 0.1, "--batch-size", 16, "--threads", 1, "--quiet")


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(command) -> None:
    assert command("train", *POINTS, "--out", "run", "--steps", 4, "--checkpoint-every", 2).code == 0
    newest = Path("run/checkpoint-00000004.h5")
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1])
    result = command("train", *POINTS, "--resume", "run")
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert result.err.startswith("alikit: warning: checkpoint run/checkpoint-00000004.h5 is damaged")
    assert newest.read_bytes() == whole


def test_a_full_disk_during_a_checkpoint(command) -> None:
    """A limit on the size of files stands in for the disk: the old checkpoint stays, and the run can go on."""
    options = (*POINTS, "--out", "run", "--checkpoint-every", 2, "--log-every", 1)
    assert command("train", *options, "--steps", 2).code == 0
    checkpoint = Path("run/checkpoint-00000002.h5")
    before = checkpoint.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 1, limits[1]))
    try:
        result = command("train", *options, "--resume", "run", "--steps", 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.code == 1
    assert "cannot write run/checkpoint-00000004.h5: File too large; free some space" in result.error
    assert checkpoint.read_bytes() == before
    assert [path.name for path in Path("run").glob("checkpoint*")] == [checkpoint.name]
    assert command("train", *options, "--resume", "run", "--steps", 4).code == 0
    command("train", *POINTS, "--out", "whole", "--checkpoint-every", 2, "--log-every", 1, "--steps", 4)
    assert Path("run/checkpoint-00000004.h5").read_bytes() == Path("whole/checkpoint-00000004.h5").read_bytes()


def test_training_that_diverges(command, pictures: Path, monkeypatch) -> None:
    """Exit code 5, the step and the tensor by name, and the checkpoint from before."""
    batch = Feed.batch

    def spoilt(self: Feed, step: int) -> Batch:
        found = batch(self, step)
        return found._replace(x=found.x * np.float32("nan")) if step == 5 else found

    monkeypatch.setattr(Feed, "batch", spoilt)
    options = ("--data", pictures, "--size", 32, "--width", 0.04, "--nz", 3, "--batch-size", 4, "--threads", 1)
    result = command("train", "folder", *options, "--steps", 9, "--checkpoint-every", 2, "--out", "run", "--quiet")
    assert (result.code, result.out) == (5, "")
    last = Path("run", "checkpoint-00000004.h5")
    assert result.error == f"step 6: loss_d is not finite; last checkpoint: {last}"
    assert [path.name for path in runs.checkpoints("run")] == ["checkpoint-00000002.h5", "checkpoint-00000004.h5"]
    assert alikit.load("run").step == 4
    assert np.isfinite(alikit.load("run").sample(2)).all()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "alikit: interrupted\n"),
        (MemoryError(), 1, "alikit: error: out of memory; a smaller --batch-size or --width needs less\n"),
        (OSError(5, "Input/output error", "disk/x"), 1, "alikit: error: disk/x: Input/output error\n"),
    ],
)
def test_what_happens_before_the_first_step(error: BaseException, code: int, line: str, command, monkeypatch) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("alikit.training.session.open_training_data", fail)
    assert command("train", *POINTS) == (code, "", line)
