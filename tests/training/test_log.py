import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alikit import console
from alikit.errors import AlikitError, DataError, UsageError
from alikit.training.log import MetricsLog, Progress

FIGURES = "L_D 0.50  L_G 2.25  D(x,z^) 0.75  D(x~,z) 0.12"


def write_steps(path: Path, steps: range, resume_step: int | None) -> None:
    with MetricsLog(path, resume_step) as log:
        for step in steps:
            log.write(step, {"loss_g": np.float32(1 / (step + 1)), "loss_d": step / 3, "modes": np.int64(step)})


def steps_in(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_have_a_fixed_order_and_exact_floats(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.write(3, {"b": 0.1, "a": np.float32(0.1), "c": True, "d": None, "e": "text", "f": np.uint8(7)})
    expected = '{"step": 3, "a": 0.10000000149011612, "b": 0.1, "c": true, "d": null, "e": "text", "f": 7}\n'
    assert (tmp_path / "m.jsonl").read_text() == expected


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.write(1, {"a": float("nan"), "b": np.float32("inf"), "c": float("-inf")})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 1, "a": null, "b": null, "c": null}\n'


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        for step in range(3):
            log.write(step, {"a": 1.0})
            assert len((tmp_path / "m.jsonl").read_text().splitlines()) == step + 1


@pytest.mark.parametrize("value", [np.zeros(2), [1.0], {"a": 1}, 1j])
def test_values_that_are_no_plain_values(tmp_path: Path, value: object) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log, pytest.raises(ValueError, match="'a' is"):
        log.write(1, {"a": value})  # type: ignore[dict-item]


def test_step_is_not_a_value(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log, pytest.raises(ValueError, match="'step'"):
        log.write(1, {"step": 2})


def test_a_new_log_never_continues_an_old_one(tmp_path: Path) -> None:
    write_steps(tmp_path / "m.jsonl", range(3), None)
    before = (tmp_path / "m.jsonl").read_bytes()
    with pytest.raises(UsageError, match="log of an earlier run"):
        MetricsLog(tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes() == before


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_killed_and_resumed_ends_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The file is cut at any byte (a kill), then continued from any checkpoint before the cut."""
    folder = tmp_path_factory.mktemp("log")
    write_steps(folder / "whole", range(1, 21), None)
    whole = (folder / "whole").read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    resume = data.draw(st.integers(0, whole[:cut].count(b"\n")))
    (folder / "killed").write_bytes(whole[:cut])
    write_steps(folder / "killed", range(resume + 1, 21), resume)
    assert (folder / "killed").read_bytes() == whole


def test_a_torn_last_line_is_cut_even_at_the_resumed_step(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 2, "a": 1}')  # whole JSON, but the line was not finished
    MetricsLog(path, resume_step=2).close()
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_log_that_was_moved_away_starts_again(tmp_path: Path) -> None:
    write_steps(tmp_path / "m.jsonl", range(5, 7), resume_step=4)
    assert steps_in(tmp_path / "m.jsonl") == [5, 6]


@pytest.mark.parametrize("bad", [b"\0\0\0", b"not json", b"[1]", b'{"a": 1}', b'{"step": "x"}', b"[" * 100_000])
def test_a_damaged_line_is_refused_and_nothing_is_cut(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "m.jsonl"
    content = b'{"step": 1}\n' + bad + b'\n{"step": 3}\n{"step": 4}\n'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"m.jsonl, line 2, is not a line of metrics"):
        MetricsLog(path, resume_step=3)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_whole_lines(small_disk: Path) -> None:
    path = small_disk / "m.jsonl"
    with MetricsLog(path) as log:
        log.write(1, {"a": "x" * 1000})
        with pytest.raises(OSError, match="No space"):
            (small_disk / "ballast").write_bytes(bytes(1 << 20))
        with pytest.raises(AlikitError, match="No space left on device; free some space"):
            log.write(2, {"a": "y" * 5000})
        assert path.read_text().count("\n") == 1
        (small_disk / "ballast").unlink()
        log.write(2, {"a": "z"})
        assert steps_in(path) == [1, 2]


def test_a_readonly_folder(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match="Permission denied; choose a folder"):
        MetricsLog(readonly_folder / "m.jsonl")


def test_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    with MetricsLog(tmp_path / "m.jsonl") as log:
        monkeypatch.setattr(os, "fsync", synced.append)
        log.sync()
        assert [os.readlink(f"/proc/self/fd/{handle}") for handle in synced] == [str(tmp_path / "m.jsonl")]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watch(
    stream: io.StringIO, steps: int, seconds: float, total: int = 10_000, start: int = 0, quiet: bool = False
) -> int:
    """Runs steps of 50 images; returns how often the figures were read."""
    clock, read = Clock(), []
    with Progress(total, start, quiet, stream, clock) as progress:
        for _ in range(steps):
            clock.now += seconds
            progress.update(50, lambda: read.append(1) or FIGURES)
    return len(read)


def test_the_first_line_comes_with_the_first_step_and_says_everything() -> None:
    stream = io.StringIO()
    watch(stream, steps=1, seconds=2.0, total=1810, start=9)
    expected = "step 10/1810  1h00m left  25.0 images/s  L_D 0.50  L_G 2.25  D(x,z^) 0.75  D(x~,z) 0.12\n"
    assert stream.getvalue() == expected


def test_lines_come_at_growing_intervals_and_at_the_end() -> None:
    stream = io.StringIO()
    read = watch(stream, steps=10_000, seconds=0.5)
    seconds = [int(line.split()[1].split("/")[0]) * 0.5 for line in stream.getvalue().splitlines()]
    gaps = np.diff(seconds)
    assert seconds[0] == 0.5
    assert seconds[-1] == 5000.0
    assert (gaps[:8] <= 1.5).all()
    assert (np.diff(gaps[:-1]) >= -0.5).all()
    assert gaps[:-1].max() == 60.0
    assert read == len(seconds)  # figures are read only when they are shown


def test_the_rate_follows_a_change_of_pace() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, stream=stream, clock=clock)
    for seconds in [10.0] * 20 + [1.0] * 180:  # a slow start, then 100 images/s
        clock.now += seconds
        progress.update(100, lambda: FIGURES)
    last = stream.getvalue().splitlines()[-1]
    assert float(last.split("left")[1].split()[0]) == pytest.approx(100, rel=0.05)


def test_no_time_at_all_is_no_division_by_zero() -> None:
    stream = io.StringIO()
    watch(stream, steps=1, seconds=0.0)
    assert "0.0 images/s" in stream.getvalue()


def test_quiet_prints_nothing_but_warnings() -> None:
    stream = io.StringIO()
    assert watch(stream, steps=100, seconds=10.0, total=100, quiet=True) == 0
    progress = Progress(10, quiet=True, stream=stream)
    progress.note("a note")
    progress.warn("take care")
    assert stream.getvalue() == "warning: take care\n"


def test_notes_and_warnings_are_lines_of_their_own() -> None:
    stream = io.StringIO()
    with Progress(10, stream=stream) as progress:
        progress.note("a note")
        progress.warn("take care")
    assert stream.getvalue() == "a note\nwarning: take care\n"


def test_a_terminal_gets_one_bar() -> None:
    stream = Terminal()
    clock = Clock()
    with Progress(40, 8, stream=stream, clock=clock) as progress:
        for _ in range(32):
            clock.now += 1.0
            progress.update(50, lambda: FIGURES)
        progress.note("a note")
    shown = stream.getvalue()
    assert "\r9/40  31s left  50.0 images/s  L_D 0.50  L_G 2.25  D(x,z^) 0.75  D(x~,z) 0.12" in shown
    assert "40/40  0s left" in shown
    assert "\ra note\n" in shown or "\na note\n" in shown
    assert shown.count("\n") == 2  # the note's and the bar's own
    assert shown.endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7080, "1h58m"), (360_000, "4d04h")]
)
def test_time_left_is_readable(seconds: int, text: str) -> None:
    stream = io.StringIO()
    watch(stream, steps=1, seconds=float(seconds), total=2)
    assert f"step 1/2  {text} left" in stream.getvalue()


def test_nothing_is_told_once_the_reader_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor tried again when the process ends."""

    class Left(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    silent: list[object] = []
    monkeypatch.setattr(sys, "stdout", Left())
    monkeypatch.setattr(console, "fall_silent", lambda _error, stream: silent.append(stream))
    with Progress(3) as progress:
        progress.note("first")
        progress.note("second")
    assert silent == [sys.stdout]
