"""The harness on made-up workers: it refuses wrong answers, times in turns, and never replaces a row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import harness, report
from bench.case import Case, Options


def case(**changes: Any) -> Case:
    def nothing(options: Options) -> Any:
        raise AssertionError("made-up workers stand in for the sides")

    return Case(**{"name": "c", "title": "made up", "alikit": nothing, "torch": nothing, **changes})


class FakeClient:
    """A worker that takes `seconds` for a unit, and answers `answer`."""

    def __init__(self, side: str, log: list[str], seconds: float = 0.01, answer: dict[str, Any] | None = None):
        self.side, self.log, self.seconds, self.answer = side, log, seconds, answer

    def ask(self, do: str, **arguments: Any) -> Any:
        if do == "time":
            self.log.append(self.side)
            return {"wall": self.seconds * arguments["count"], "cpu": self.seconds * arguments["count"] / 2}
        if do == "answer":
            assert self.answer is not None
            np.savez(arguments["file"], **self.answer)
        return None


def clients(ours: dict[str, Any], theirs: dict[str, Any]) -> list[Any]:
    return [FakeClient("alikit", [], answer=ours), FakeClient("torch", [], answer=theirs)]


def test_check_accepts_within_the_tolerance() -> None:
    wanted = {"a/x": np.array([3.0, 4.0]), "b": np.ones(2)}
    found = {"a/x": np.array([3.0, 4.005]), "b": np.ones(2)}  # off by 1e-3 of the norm 5
    share = harness.check(case(tolerance={"": 1e-6, "a/": 2e-3}), *clients(found, wanted))
    assert share == pytest.approx(0.5)


@pytest.mark.parametrize(
    "found",
    [
        {"x": np.array([3.0, 4.1])},
        {"x": np.array([3.0, np.nan])},
        {"x": np.array([[3.0, 4.0]])},
        {"y": np.array([3.0, 4.0])},
        {},
    ],
    ids=["wrong", "not a number", "another shape", "another name", "nothing"],
)
def test_check_refuses(found: dict[str, Any]) -> None:
    with pytest.raises(harness.Mismatch):
        harness.check(case(), *clients(found, {"x": np.array([3.0, 4.0])}))


def test_sides_are_timed_in_turns() -> None:
    log: list[str] = []
    both: Any = {"alikit": FakeClient("alikit", log, 0.01), "torch": FakeClient("torch", log, 0.04)}
    counts = {side: harness.count_for(one, "step", case(seconds=0.2), Options()) for side, one in both.items()}
    samples = harness.alternate(both, "step", 4, counts)
    assert log[-8:] == ["alikit", "torch", "torch", "alikit", "alikit", "torch", "torch", "alikit"]
    assert {side: s["count"] for side, s in samples.items()} == {"alikit": 20, "torch": 5}
    assert samples["alikit"]["wall"] == pytest.approx([0.01] * 4)
    assert samples["torch"]["cpu"] == pytest.approx([0.02] * 4)


def row(ours: list[float], theirs: list[float] | None, name: str = "step") -> dict[str, Any]:
    sides = {"alikit": ours} if theirs is None else {"alikit": ours, "torch": theirs}
    samples = {side: {"count": 1, "wall": w, "cpu": w, "others": [0.0] * len(w)} for side, w in sides.items()}
    plain = {"case": "c", "name": name, "checked_to": 0.1, "cost": {}, "ceiling": {}, "about": {}, "sides": samples}
    return report.finish(plain, Options(), {"time": "2030-01-02T03:04:05+00:00"})


def test_the_ratio_is_taken_in_each_round() -> None:
    # the machine slows down threefold after two rounds: medians of times would mix both phases
    found = row([1.0, 1.0, 3.0, 3.1, 3.0], [2.0, 2.0, 6.0, 6.2, 6.0])
    assert found["ratio"] == pytest.approx({"low": 0.5, "q1": 0.5, "median": 0.5, "q3": 0.5, "high": 0.5})


@pytest.mark.parametrize(("seconds", "verdict"), [(0.6, "aim"), (0.9, "must"), (1.1, "MISSED")])
def test_verdicts(seconds: float, verdict: str) -> None:
    line = report.line(row([seconds], [1.0]), case(targets={"step": (1.0, 0.7)}))
    assert line.split()[-1] == verdict
    assert f"{seconds * 1e3:.0f}" in line


def test_a_missing_peer_is_said() -> None:
    line = report.line(row([1.0], None), case(targets={"step": (1.0, 0.7)}))
    assert "missing" in line
    assert line.endswith("no peer")


def test_noise_is_said() -> None:
    found = row([1.0], [1.0])
    found["sides"]["torch"]["others"] = [0.8]
    assert "others kept 0.8 cores busy" in report.line(found, case())


def test_rows_are_added_and_never_replaced(tmp_path: Path) -> None:
    for seconds in (1.0, 2.0):
        file = report.append([row([seconds], [1.0])], tmp_path)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.name == "2030-01-02.jsonl"
    assert [line["ratio"]["median"] for line in lines] == [1.0, 2.0]


def test_the_longest_prefix_gives_the_tolerance() -> None:
    tolerances = case(tolerance={"": 1.0, "gradient/": 2.0, "gradient/x": 3.0})
    assert [tolerances.allowed(name) for name in ("loss", "gradient/w", "gradient/x.w")] == [1.0, 2.0, 3.0]
