"""A part's rows survive whatever its items do: raise, kill the process, hang, or take too long."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from bench.gpu import __main__ as command
from bench.gpu.part import Options, Part, Row
from bench.gpu.parts import PARTS, TOTAL, seconds_for
from bench.gpu.runner import run_part, stop

WORKER = """
import json, os, sys, time
items, start = json.loads(sys.argv[1]), int(sys.argv[2])
def say(**message):
    print(json.dumps(message), flush=True)
say(items=items)
print("a library that prints")
for number, name in enumerate(items[start:], start):
    say(begin=number, seconds=0.7 if name == "hangs" else 20)
    if name == "dies":
        print("the last words", file=sys.stderr)
        os._exit(7)
    if name == "raises and dies":
        say(failed="RuntimeError: no device")
        os._exit(3)
    if name in ("hangs", "slow"):
        time.sleep(100)
    if name == "raises":
        say(failed="ValueError: wrong", traceback="...")
    else:
        say(row={"item": name, "value": 1})
    say(end=number)
"""
PART = Part("made-up", "made up", "nothing", 10.0)


def run(items: list[str], folder: Path, seconds: float = 20.0) -> tuple[list[Row], list[Row]]:
    """The rows, and those that were kept as they came."""
    script = folder / "worker.py"
    script.write_text(WORKER)
    kept: list[Row] = []
    make = lambda part, start, options: [sys.executable, str(script), json.dumps(items), str(start)]  # noqa: E731
    return run_part(PART, Options(out=str(folder)), seconds, kept.append, make), kept


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["item"], row.get("failed", "fine")) for row in rows]


def test_what_raises_dies_or_hangs_hides_nothing(tmp_path: Path) -> None:
    items = ["first", "raises", "second", "dies", "third", "raises and dies", "fourth", "hangs", "last"]
    rows, kept = run(items, tmp_path)
    assert rows == kept
    assert told(rows) == [
        ("first", "fine"),
        ("raises", "ValueError: wrong"),
        ("second", "fine"),
        ("dies", "the process died (exit code 7)"),
        ("third", "fine"),
        ("raises and dies", "RuntimeError: no device"),
        ("fourth", "fine"),
        ("hangs", "hung: stopped at its time limit"),
        ("last", "fine"),
    ]
    assert "the last words" in rows[3]["log"]
    assert all(row["part"] == "made-up" for row in rows)


def test_when_the_time_is_over_the_rest_is_named(tmp_path: Path) -> None:
    rows, _ = run(["first", "slow", "third", "fourth"], tmp_path, seconds=1.5)
    assert told(rows) == [
        ("first", "fine"),
        ("slow", "stopped: the part's time was over"),
        ("not run", "2 left out: third, fourth"),
    ]


def test_a_worker_that_never_begins_is_told(tmp_path: Path) -> None:
    kept: list[Row] = []
    make = lambda part, start, options: [sys.executable, "-c", "import nothing_of_that_name"]  # noqa: E731
    rows = run_part(PART, Options(out=str(tmp_path)), 20.0, kept.append, make)
    assert told(rows) == [("start", "the process died (exit code 1)"), ("not run", "1 left out: everything")]
    assert "nothing_of_that_name" in rows[0]["log"]


def test_an_empty_part_is_no_failure(tmp_path: Path) -> None:
    assert run([], tmp_path)[0] == []


def test_children_of_a_worker_end_with_it() -> None:
    import subprocess

    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '100']).pid, flush=True); sys.exit(0)"
    line = [sys.executable, "-c", code]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    stop(process)
    process.stdout.close()
    assert process.returncode == 0
    until = time.monotonic() + 5
    while time.monotonic() < until and running(child):
        time.sleep(0.01)
    assert not running(child)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_budgets_fit_into_eight_minutes_and_pass_on() -> None:
    assert TOTAL <= 475
    parts = list(PARTS.values())
    left, spent = TOTAL, 0.0
    for number, part in enumerate(parts):
        seconds = seconds_for(part, parts[number + 1 :], left, 1.0)
        assert seconds >= part.budget - 1e-9
        took = seconds if part.name in ("parity", "steps") else 0.5 * part.budget
        left, spent = left - took, spent + took
    assert spent <= TOTAL + 1e-9
    assert seconds_for(parts[-1], [], 3.0, 1.0) == 3.0


@pytest.mark.parametrize("words", [("--parts", "nonsense"), ("--minutes", "0"), ("--seconds", "-1")])
def test_impossible_options_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as found:
        command.main(words)
    assert found.value.code == 2


def test_a_table_that_cannot_be_made_hides_no_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = command.Report(tmp_path, {"commit": "c"})
    broken = Part("b", "broken", "convs", 1.0)
    report.show(broken, [{"item": "x", "part": "b"}], 1.0)
    report.show(Part("f", "fine", "resume", 1.0), [{"item": "x", "failed": "why\nmore"}], 1.0)
    printed = capsys.readouterr().out
    assert "FAILED table: KeyError" in printed
    assert "FAILED x: why" in printed
    assert "more" not in printed
    assert report.failed == 2


def test_rows_carry_their_place(tmp_path: Path) -> None:
    report = command.Report(tmp_path, {"commit": "c", "gpu": {"name": "made up"}})
    for value in (1, 2):
        report.keep({"part": "p", "item": "i", "value": value})
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["value"] for row in rows] == [1, 2]
    assert all(row["gpu"]["name"] == "made up" and row["commit"] == "c" for row in rows)


def test_interpreting_is_chosen_where_nothing_is_timed(tmp_path: Path) -> None:
    from bench.gpu.runner import environment

    interpreted = environment(Options(device="interpreted", out=str(tmp_path)))
    on_cuda = environment(Options(out=str(tmp_path)))
    assert set(interpreted.items()) - set(on_cuda.items()) <= {("TRITON_INTERPRET", "1")}
    assert on_cuda.get("ALIKIT_CACHE") == os.environ.get("ALIKIT_CACHE", str(tmp_path / "cache"))
