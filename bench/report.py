"""Rows and the table. A row is one JSON object: what was measured, with what, where and from which commit."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.case import LIBRARIES, Case, Options
from bench.harness import ROOT

#: cores that others kept busy, above which a median deserves a warning
NOISE = 0.1


class Spread(NamedTuple):
    """Least, quartiles, greatest."""

    low: float
    q1: float
    median: float
    q3: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one number."""
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Spread(min(values), q1, median, q3, max(values))


def place() -> dict[str, Any]:
    """When, from which commit, and on which machine; no names of hosts or people."""
    return {"time": datetime.now(UTC).isoformat(timespec="seconds"), **_commit(), "machine": _machine()}


def preset() -> str:
    """Settings of BLAS and OpenMP that the user made, which both sides run under."""
    return " ".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(LIBRARIES))


def _commit() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--", "alikit", "kernels")),
    }


def _machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        )
    except OSError:
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}


def ratios(row: dict[str, Any], key: str = "wall") -> list[float]:
    """alikit / torch: of each round, or of the peaks; nothing without PyTorch."""
    sides = row["sides"]
    if "torch" not in sides:
        return []
    if "peak" in sides["alikit"]:
        return [sides["alikit"]["peak"] / sides["torch"]["peak"]]
    return [a / b for a, b in zip(sides["alikit"][key], sides["torch"][key], strict=True)]


def finish(row: dict[str, Any], options: Options, where: dict[str, Any]) -> dict[str, Any]:
    """A row of the harness with its place and its ratios."""
    found = ratios(row)
    summary = {"ratio": spread(found)._asdict(), "ratio_cpu": _cpu_ratio(row)} if found else {"ratio": None}
    return {**where, "threads": options.threads, "quick": options.quick, **row, **summary}


def _cpu_ratio(row: dict[str, Any]) -> float | None:
    return None if "peak" in row["sides"]["alikit"] else statistics.median(ratios(row, "cpu"))


def append(rows: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Adds rows to the day's file in `folder`; nothing is ever replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{rows[0]['time'][:10]}.jsonl"
    with file.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return file


HEADER = ("case", "unit", "alikit", "torch", "ratio", "q1..q3", "cpu", "must", "aim", "rate", "verdict")
LAYOUT = "{:<50} {:>4} {:>9} {:>9} {:>6} {:>11} {:>6} {:>5} {:>5} {:>22}  {}"


def line(row: dict[str, Any], case: Case) -> str:
    """One line of the table; a case of several figures has a line of its own above them (`title`)."""
    ours, theirs = (_figure(row, case, side) for side in ("alikit", "torch"))
    ratio, cpu = row["ratio"], row.get("ratio_cpu")
    must, aim = case.targets.get(row["name"], (None, None))
    cells = (
        f"{'  ' if case.several else case.title + ': '}{row['name']}",
        case.unit,
        _number(ours),
        _number(theirs) if theirs is not None else "missing",
        f"{ratio['median']:.2f}" if ratio else "-",
        f"{ratio['q1']:.2f}..{ratio['q3']:.2f}" if ratio else "-",
        f"{cpu:.2f}" if cpu is not None else "-",
        "-" if must is None else f"{must:g}",
        "-" if aim is None else f"{aim:g}",
        _rate(row),
        " ".join([*_verdict(ratio, must, aim), *_noise(row)]),
    )
    return LAYOUT.format(*cells).rstrip()


def header() -> str:
    """The table's first line."""
    return LAYOUT.format(*HEADER)


def _figure(row: dict[str, Any], case: Case, side: str) -> float | None:
    if side not in row["sides"]:
        return None
    found = row["sides"][side]
    value = found["peak"] if "peak" in found else statistics.median(found["wall"])
    return value * case.scale / case.units.get(row["name"], 1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rate(row: dict[str, Any]) -> str:
    """What alikit's side reaches of the machine's ceiling."""
    for kind, unit in (("flops", "GFLOP/s"), ("bytes", "GB/s")):
        if kind in row["cost"]:
            rate = row["cost"][kind] / statistics.median(row["sides"]["alikit"]["wall"])
            share = f" ({rate / row['ceiling'][kind]:.0%})" if kind in row["ceiling"] else ""
            return f"{rate / 1e9:.0f} {unit}{share}"
    return ""


def _verdict(ratio: dict[str, float] | None, must: float | None, aim: float | None) -> list[str]:
    if must is None or aim is None:
        return []
    if ratio is None:
        return ["no peer"]
    median = ratio["median"]
    return ["aim" if median <= aim else "must" if median <= must else "MISSED"]


def _noise(row: dict[str, Any]) -> list[str]:
    """A warning where other processes took the machine's time."""
    sides = [side for side in row["sides"].values() if "others" in side]
    busy = max((statistics.median(side["others"]) for side in sides), default=0.0)
    return [f"(others kept {busy:.1f} cores busy)"] if busy > NOISE else []
