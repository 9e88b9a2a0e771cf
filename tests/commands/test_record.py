"""What a run that goes on takes from its record, and what is wrong with records."""

import json
import shutil
from pathlib import Path

import pytest

from alikit.training import checkpoint, runs
from alikit.training.config import DEMO
from tests.commands.conftest import NARROW_POINTS


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"options": {"dataset": "mixture", "model": "mixture", "lr": -5}}', "lr: a number above 0 to 1 is wanted"),
        (
            '{"options": {"dataset": "mixture", "model": "mixture", "game": "inverse"}}',
            'decoder: the run whose decoder "game": "inverse" takes is wanted, not null',
        ),
        (
            '{"options": {"dataset": "mixture", "model": "mixture", "game": "posthoc", "decoder": ""}}',
            'decoder: the run whose decoder "game": "posthoc" takes is wanted, not ""',
        ),
        ("[]", 'is no record of a run: it has no "options"'),
    ],
)
def test_a_record_edited_by_hand(record: str, message: str, command) -> None:
    """Of a run that has no checkpoint yet."""
    Path("run").mkdir()
    Path("run/config.json").write_text(record)
    result = command("train", "mixture", "--resume", "run")
    assert result.code == 3
    assert result.error.startswith(f"run/config.json: {message}")
    assert Path("run/config.json").read_text() == record


def test_a_data_folder_that_a_run_on_points_recorded(command, point_run: Path) -> None:
    """Older versions took one, and never read it."""
    for early in (False, True):
        run = Path(shutil.copytree(point_run, f"early-{early}"))
        (path,) = runs.checkpoints(run)
        arrays, meta = checkpoint.load(path)
        checkpoint.save(path, arrays, meta | {"config": meta["config"] | {"data": "/gone"}})
        record = json.loads((run / "config.json").read_text())
        record["options"]["data"] = "/gone"
        (run / "config.json").write_text(json.dumps(record))
        if early:  # stopped before its first checkpoint
            path.unlink()
        options = ("--resume", run, "--steps", 4, "--threads", 1, "--quiet")
        refused = command("train", "mixture", *options, "--data", ".")
        assert (refused.code, refused.error.split(":")[0]) == (2, "--data")
        assert command("train", "mixture", *options).code == 0
        assert json.loads((run / "config.json").read_text())["options"]["data"] is None


def test_auto_begins_where_there_is_nothing_to_go_on_with(command) -> None:
    options = ("mixture", "--width", 0.03, "--batch-size", 16, "--threads", 1, "--quiet", "--resume")
    begun = command("train", *options[:-2], "--resume", "--steps", 1)
    assert begun.code == 0
    assert "run: runs/00000-mixture begins (no earlier one to go on with); mixture, " in begun.out
    assert command("train", *options, "--steps", 2).code == 0
    assert [path.name for path in Path("runs").iterdir()] == ["00000-mixture"]
    steps = [json.loads(line)["step"] for line in Path("runs/00000-mixture/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


def test_a_demo_goes_on_to_its_own_length(command) -> None:
    small = ("mixture", "--demo", *NARROW_POINTS, "--out", "run")
    assert command("train", *small, "--steps", 4, "--quiet").code == 0
    printed = command("train", *small, "--resume", "--dry-run").out
    assert json.loads(printed[: printed.index("\n}") + 2])["steps"] == 4


def test_a_demo_goes_on_with_what_it_was_given(command) -> None:
    """As any run does; what is given again and differs is refused."""
    small = ("mixture", "--demo", "--width", 0.03, "--threads", 1, "--out", "run")
    assert command("train", *small, "--batch-size", 16, "--lr", 0.002, "--steps", 2, "--quiet").code == 0
    printed = command("train", *small, "--resume", "--dry-run").out
    settings = json.loads(printed[: printed.index("\n}") + 2])
    assert (settings["batch_size"], settings["lr"], settings["init_std"]) == (16, 0.002, DEMO["mixture"]["init_std"])
    result = command("train", *small, "--resume", "--lr", 0.001)
    assert (result.code, result.error.split(": ")[2]) == (2, "lr is 0.001, the checkpoint has 0.002")
    assert command("train", "celeba", "--demo", "--resume", "run").error.startswith("--demo: shows svhn")


def test_an_end_that_lies_behind_is_refused_in_dry_runs_too(command, point_run: Path) -> None:
    options = ("--resume", point_run, "--threads", 1, "--dry-run", "--steps")
    for steps, code in ((2, 2), (3, 0), (4, 0)):
        assert command("train", "mixture", *options, steps).code == code
    assert command("train", "mixture", *options, 2).error == (
        "--resume: the end would be step 2 (--steps, --epochs); the run is at step 3 already"
    )


def test_a_run_that_begins_again_has_the_threads_it_had(command) -> None:
    options = ("mixture", "--width", "0.03", "--batch-size", 16, "--out", "run")
    assert command("train", *options, "--steps", 3, "--threads", 3, "--quiet").code == 0
    for path in Path("run").glob("checkpoint-*"):
        path.unlink()
    printed = command("train", *options, "--resume", "--dry-run").out
    assert json.loads(printed[: printed.index("\n}") + 2])["threads"] == 3
