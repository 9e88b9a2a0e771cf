"""Commands whose stdout or stderr is closed, or full."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alikit import console
from tests.commands.conftest import NARROW_POINTS, call

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")

NO_SPACE = "alikit: warning: stdout: No space left on device; nothing more is told there\n"


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_closed_streams_are_silent(verb: str, point_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        closed.setattr(sys, "stderr", None)
        arguments = ("mixture", *NARROW_POINTS, "--steps", 1) if verb == "train" else (point_run, "--count", 9)
        code = call(verb, *arguments)
        for stream in (sys.stdout, sys.stderr):
            stream.close()
    assert code == 0


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_a_full_stdout_is_named_and_work_goes_on(verb: str, point_run: Path, monkeypatch, capsys) -> None:
    arguments = ("mixture", *NARROW_POINTS, "--steps", 1) if verb == "train" else (point_run, "--count", 9)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert call(verb, *arguments) == 0
    assert capsys.readouterr().err == NO_SPACE
    assert any(Path().rglob("checkpoint-00000001.h5" if verb == "train" else "samples.png"))


def test_a_full_stderr_hides_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        assert console.run(fail) == 130


@contextmanager
def refusing(how: str) -> Iterator[int]:
    """A stream that is full, or one whose reader has left."""
    if how == "full":
        with open("/dev/full", "w") as full:
            yield full.fileno()
        return
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("how", ["full", "left"])
def test_help_and_usage_errors_that_nobody_can_read(how: str, unbuffered: str, environment: dict[str, str]) -> None:
    """What waits in a buffer is written when Python ends, which has its own words, and exit code 120, for a failure."""
    train = [sys.executable, "-m", "alikit.train", "mixture"]
    options = {"stderr": subprocess.PIPE, "text": True, "env": {**environment, "PYTHONUNBUFFERED": unbuffered}}
    with refusing(how) as stream:
        done = subprocess.run([*train, "--help"], **options, stdout=stream)
        assert (done.returncode, done.stderr) == (0, NO_SPACE if how == "full" else "")
        done = subprocess.run([*train, "--lr", "fast"], **options | {"stderr": stream})
        assert done.returncode == 2


def test_help_and_usage_errors_on_closed_streams(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        assert call("train", "--help") == 0
        sys.stdout.close()
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stderr", None)
        assert call("train", "mnist") == 2
        sys.stderr.close()
    assert capsys.readouterr() == ("", "")
