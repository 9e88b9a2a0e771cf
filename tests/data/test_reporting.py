"""What is told during long preparations: to a terminal, to a log file, and to nobody."""

import sys

import numpy as np
import pytest

from alikit.data import reporting
from alikit.data.reporting import Report

BLOCKS = [np.zeros((3, 2, 2, 3), np.uint8), np.ones((4, 2, 2, 3), np.uint8)]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_blocks_pass_through(monkeypatch, terminal, quiet, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    passed = list(Report(quiet).blocks(BLOCKS, 7, "preparing x"))
    assert [a is b for a, b in zip(passed, BLOCKS, strict=True)] == [True, True]
    said = capsys.readouterr().err
    assert ("preparing x: 100%" in said) == (terminal and not quiet)
    assert terminal or not said


def test_a_log_file_gets_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 4.0, 11.0, 11.0, 15.0, 22.0, 22.0])
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    assert len(list(Report().blocks([BLOCKS[0]] * 4, 12, "preparing x"))) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"alikit: preparing x: {done} of 12 images" for done in (6, 12)]


def test_quiet_keeps_warnings(capsys):
    report = Report(quiet=True)
    report.say("a remark")
    report.warn("a file differs")
    assert capsys.readouterr().err == "alikit: warning: a file differs\n"
