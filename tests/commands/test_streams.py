"""Commands whose stdout or stderr is closed, or full."""

import io
import sys
from pathlib import Path

import pytest

from alikit import console
from tests.commands.conftest import NARROW_POINTS, call

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full device of Linux")


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
    assert capsys.readouterr().err == ("alikit: warning: stdout: No space left on device; nothing more is told there\n")
    assert any(Path().rglob("checkpoint-00000001.h5" if verb == "train" else "samples.png"))


def test_a_full_stderr_hides_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(full, write_through=True))
        assert console.run(fail) == 130
