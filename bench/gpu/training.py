"""A minute of real training: the command that a user runs, with its pictures, its log and its checkpoint.

`python -m alikit.train svhn` trains the paper's networks in bf16 at batch 100 for `--seconds` after its first logged
steps and is then stopped by SIGTERM, as a user would, with pictures and a checkpoint for every epoch's number of steps.
What a step took over that time, all of that included, is extrapolated to the paper's run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.gpu import drawn
from bench.gpu.part import Item, Options, Row, grid
from bench.harness import ROOT

BATCH = 100
EPOCHS, IMAGES = 100, 531_131
EPOCH = -(-IMAGES // BATCH)  # steps
#: minutes for the paper's run: must, aim
TARGETS = (10.0, 5.0)
STARTING = 60.0


def items(options: Options) -> list[Item]:
    """One run."""
    seconds = options.seconds if options.timed else 0.0
    return [Item("svhn, bf16, batch 100", lambda: measure(options, seconds), seconds + 2 * STARTING)]


def arguments(options: Options, run: Path, *more: str) -> list[str]:
    """The command: the paper's networks on the GPU, or a narrow one for a few steps where nothing is timed."""
    data = options.data or str(drawn.prepare(Path(options.out) / "data", quick=not options.timed))
    line = [sys.executable, "-m", "alikit.train", "svhn", "--data", data, "--out", str(run), "--quiet"]
    if options.timed:
        return [*line, "--device", "cuda", "--precision", "bf16", "--batch-size", str(BATCH), *more]
    return [*line, "--device", "cpu", "--width", "0.04", "--nz", "4", "--batch-size", "4", "--threads", "1", *more]


def start(line: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The command as a process; what it prints goes to the log."""
    with log.open("ab") as out:
        return subprocess.Popen(line, stdout=out, stderr=out, cwd=ROOT, env=dict(os.environ))


def lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log that is being written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]


def wait_for_lines(process: subprocess.Popen[bytes], path: Path, count: int, seconds: float) -> None:
    """RuntimeError where the process ends, or too much time goes by, before that many lines are there."""
    until = time.monotonic() + seconds
    while len(lines(path)) < count:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"training wrote no {count} lines to its log in {seconds:.0f} s ({process.poll()})")
        time.sleep(0.02)


def measure(options: Options, seconds: float) -> list[Row]:
    """Trains, stops, reads the log."""
    run = Path(options.out) / "training"
    shutil.rmtree(run, ignore_errors=True)
    length = (
        "--steps",
        "100000000",
        "--log-every",
        "100",
        "--sample-every",
        str(EPOCH),
        "--checkpoint-every",
        str(EPOCH),
    )
    if not options.timed:
        length = ("--steps", "3", "--log-every", "1")
    began = time.monotonic()
    process = start(arguments(options, run, *length), Path(options.out) / "training-run.log")
    wait_for_lines(process, run / "metrics.jsonl", 2 if options.timed else 1, STARTING)
    first, ready = lines(run / "metrics.jsonl")[-1], time.monotonic()
    last, end = watch(process, run / "metrics.jsonl", seconds)
    if options.timed:
        process.send_signal(signal.SIGTERM)
    code = process.wait(STARTING)
    pictures, saved = len(list(run.glob("*.png"))), len(list(run.glob("checkpoint-*.h5")))
    if code not in (0, 128 + signal.SIGTERM) or not pictures or not saved:
        raise RuntimeError(f"training ended with {code}, {pictures} pictures and {saved} checkpoints")
    row: Row = {"start_up": ready - began, "pictures": pictures, "checkpoints": saved, "first": first, "last": last}
    if not options.timed:
        return [row]
    step = (end - ready) / max(1, last["step"] - first["step"])
    return [row | {"step": step, "minutes": step * EPOCHS * EPOCH / 60}]


def watch(process: subprocess.Popen[bytes], path: Path, seconds: float) -> tuple[dict[str, Any], float]:
    """The last line after so many seconds, or after the process's end, and when it was written."""
    until, size, at = time.monotonic() + seconds, path.stat().st_size, time.monotonic()
    while process.poll() is None and (time.monotonic() < until or seconds == 0):
        time.sleep(0.01)
        if path.stat().st_size != size:
            size, at = path.stat().st_size, time.monotonic()
    return lines(path)[-1], at


def table(rows: list[Row]) -> list[str]:
    """The run in a line, and the paper's."""
    found = []
    for row in rows:
        last = row["last"]
        figures = [f"{name} {last[name]:.3f}" for name in ("loss_d", "loss_g", "reconstruction_error") if name in last]
        found.append(f"{last['step']} steps, {row['pictures']} pictures, {', '.join(figures)}")
        if "step" in row:
            must, aim = TARGETS
            verdict = "aim" if row["minutes"] <= aim else "must" if row["minutes"] <= must else "MISSED"
            heads = (
                "start up s",
                "ms a step",
                "images/s",
                f"{EPOCHS} epochs of {IMAGES:,}, minutes",
                "must",
                "aim",
                "",
            )
            line = (row["start_up"], 1e3 * row["step"], BATCH / row["step"], row["minutes"], must, aim, verdict)
            found += grid(heads, [line])
        else:
            found.append("not timed")
    return found
