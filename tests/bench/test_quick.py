"""Every case runs, tiny, with and without PyTorch: a benchmark that cannot be run rots."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.case import Options
from bench.cases import CASES
from bench.harness import Client, Mismatch, WorkerError

ROOT = Path(__file__).parents[2]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    """With NumPy's passes: each case is a process, which would load the compiled ones for a few steps."""
    command = [sys.executable, "-m", "bench", *words]
    environment = {**os.environ, "ALIKIT_PASSES": "plain"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_every_case_runs_without_a_peer(tmp_path: Path) -> None:
    done = bench("--quick", "--no-torch", "--threads", "1", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["case"] for row in rows} == CASES.keys()
    assert all(row["ratio"] is None and row["quick"] for row in rows)
    assert all("numpy" in row["about"]["alikit"]["libraries"] for row in rows)
    assert str(ROOT) not in file.read_text()


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed: pip install -e '.[bench]'")
def test_both_sides_are_checked_and_timed(tmp_path: Path) -> None:
    done = bench("--quick", "--cases", "ops", "--threads", "1", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    for row in map(json.loads, file.read_text().splitlines()):
        assert row["ratio"]["median"] > 0
        assert row["checked_to"] <= 1


def test_unknown_case_is_refused() -> None:
    done = bench("--cases", "nonsense")
    assert done.returncode == 2
    assert "svhn-step" in done.stderr


def test_impossible_options_are_refused() -> None:
    assert bench("--threads", "0").returncode == 2


def test_wrong_answers_are_reported_and_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise Mismatch("ops: add/gx differs")

    monkeypatch.setattr(command, "run_case", refuse)
    assert command.main(["--cases", "ops", "--results", str(tmp_path)]) == 1
    assert "NOT TIMED. ops: add/gx differs" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_worker_that_fails_says_why() -> None:
    with Client("nonsense", "alikit", Options()) as client, pytest.raises(WorkerError, match="KeyError: 'nonsense'"):
        client.ask("describe")
