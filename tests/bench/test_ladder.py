"""Ladders: every rung runs and is right without a GPU; a wrong rung is named and not timed."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alikit import backend
from bench import ladder
from bench.ladder import Ladder, Rung, Step, WrongRung, climb, report

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="Triton (Linux only) is not installed: pip install triton"
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench.ladder", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@needs_triton
def test_every_rung_is_checked() -> None:
    done = run("--why")
    assert done.returncode == 0, done.stderr
    for name in ("plain", "tiled", "implicit GEMM", "fused", "final"):
        assert f"  {name}" in done.stdout
    assert "Every rung was checked against the CPU kernel" in done.stdout
    assert "Nothing was timed" in done.stdout or "GB/s" in done.stdout


def test_unknown_ladders_are_refused() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert "norm, conv" in done.stderr


def double(p: Any) -> list[np.ndarray]:
    """Adds x to
    itself."""
    return [p.x + p.x]


def a_ladder(*rungs: Callable, floor: Callable | None = None) -> tuple[Ladder, Any]:
    """One that doubles numbers, and its problem."""
    return Ladder(
        title="doubling",
        problem=lambda tiny: SimpleNamespace(x=np.arange(1.0, 4.0), least_bytes=10),
        answer=lambda p: [2 * p.x],
        rungs=[Rung(fn.__name__, fn) for fn in rungs],
        floor=Rung("floor", floor) if floor else None,
    ), SimpleNamespace(x=np.arange(1.0, 4.0), least_bytes=10)


def test_right_rungs_pass_and_the_floor_may_say_anything() -> None:
    tower, problem = a_ladder(double, floor=lambda p: [p.x])
    steps = climb(tower, problem, timed=False, tolerance=1e-6)
    assert [(step.name, step.error, step.seconds) for step in steps] == [("floor", 0, None), ("double", 0, None)]
    assert tower.rungs[0].why == "Adds x to itself."


@pytest.mark.parametrize(
    "wrong",
    [lambda p: [2 * p.x + [0, 0, 1e-4]], lambda p: [2 * p.x * [1, np.nan, 1]], lambda p: [2 * p.x[:2]]],
    ids=["a number", "nan", "a shape"],
)
def test_a_wrong_rung_is_named(wrong: Callable) -> None:
    wrong.__name__ = "wrong"
    tower, problem = a_ladder(double, wrong)
    with pytest.raises(WrongRung, match="doubling: wrong is wrong by"):
        climb(tower, problem, timed=False, tolerance=1e-5)


def test_the_command_fails_where_a_rung_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tower, _ = a_ladder(lambda p: [p.x])
    monkeypatch.setenv("TRITON_INTERPRET", "0")  # which main changes
    monkeypatch.setattr(backend, "choose_device", lambda _: ("cpu", "there is none"))
    monkeypatch.setattr(ladder, "import_module", lambda _: SimpleNamespace(LADDER=tower))
    assert ladder.main(["norm"]) == 1
    assert "NOT TIMED. doubling" in capsys.readouterr().err
    tower, _ = a_ladder(double)
    assert ladder.main(["norm"]) == 0
    assert "Nothing was timed: there is none" in capsys.readouterr().out


def test_without_the_compiler_no_rung_can_be_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tower, _ = a_ladder(lambda p: __import__("triton_that_is_not_there"))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(backend, "choose_device", lambda _: ("cpu", "there is none"))
    monkeypatch.setattr(ladder, "import_module", lambda _: SimpleNamespace(LADDER=tower))
    assert ladder.main(["norm"]) == 1
    assert "NOT TIMED. No module named 'triton_that_is_not_there'" in capsys.readouterr().err


def test_gains_are_over_the_rung_below_and_not_over_the_floor() -> None:
    tower, problem = a_ladder(double, double, floor=double)
    steps = [Step("floor", 0, 1, 10, 1e-6), Step("slow", 0, 2, 25, 9e-6), Step("fast", 0, 1, 10, 2e-6)]
    lines = report(tower, problem, steps).splitlines()
    assert "gain" in lines[0]
    assert lines[2].endswith("GB/s")
    assert "2.50x" in lines[2]
    assert lines[3].endswith("4.50x")
    assert "gain" not in report(tower, problem, [Step("slow", 0, 1, 10, None)])


def test_a_call_s_time_is_the_graph_s_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU its graph and its events are stood in for."""
    from alikit.kernels import device, graph

    calls: list[str] = []
    event = SimpleNamespace(record=lambda stream: calls.append(stream), synchronize=lambda: None)
    captured = SimpleNamespace(launch=lambda: calls.append("launch"))
    memory = SimpleNamespace(stream="stream", run=lambda fn: fn(), capture=lambda fn: fn() and captured)
    cuda = SimpleNamespace(Event=lambda: event, get_elapsed_time=lambda start, end: 40.0)
    monkeypatch.setattr(graph, "step_memory", lambda: memory)
    monkeypatch.setattr(device, "module", lambda: SimpleNamespace(cuda=cuda))
    assert ladder._seconds(lambda: calls.append("call") or 1) == pytest.approx(0.040 / ladder.CALLS)
    assert calls.count("call") == 2 * ladder.CALLS  # eagerly, then captured
    assert calls[2 * ladder.CALLS :][:3] == ["stream", "launch", "stream"]
