"""A run that is killed and goes on ends with the bytes of one that never was: metrics, pictures and checkpoints."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path

from bench.gpu import training
from bench.gpu.part import Item, Options, Row, grid

STEPS, EVERY = 600, 150
QUICK_STEPS, QUICK_EVERY = 6, 2
CLOCKED = {"timing.jsonl", "config.json"}  # hold the machine's time, or how the run was started
PATIENCE = 60.0


def items(options: Options) -> list[Item]:
    """One comparison."""
    return [Item("killed and resumed", lambda: compare(options), 4 * PATIENCE)]


def compare(options: Options) -> list[Row]:
    """Two runs side by side; one of them is killed behind its first checkpoint and resumed."""
    out = Path(options.out)
    whole, killed = out / "whole", out / "killed"
    steps, every = (STEPS, EVERY) if options.timed else (QUICK_STEPS, QUICK_EVERY)
    more = ("--steps", str(steps), "--log-every", "10" if options.timed else "1", "--sample-every", str(2 * every))
    more += ("--checkpoint-every", str(every), "--keep", "100", "--ema", "0.01")
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
    runs = {f: training.start(training.arguments(options, f, *more), out / f"{f.name}.log") for f in (whole, killed)}
    kill(runs[killed], killed)
    again = training.arguments(options, killed, *more, "--resume")
    runs[killed] = training.start(again, out / "killed.log")
    for folder, process in runs.items():
        if code := process.wait(PATIENCE):
            raise RuntimeError(f"the run in {folder.name} ended with {code}")
    files = digests(whole), digests(killed)
    differing = sorted(name for name in files[0].keys() | files[1].keys() if files[0].get(name) != files[1].get(name))
    return [{"files": len(files[0]), "steps": steps, "differing": differing, "bad": bool(differing or not files[0])}]


def kill(process: subprocess.Popen[bytes], folder: Path) -> None:
    """SIGKILL behind the first checkpoint; RuntimeError where none comes, or the run was over before."""
    until = time.monotonic() + PATIENCE
    while not any(folder.glob("checkpoint-*.h5")):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"no checkpoint to be killed behind ({process.poll()})")
        time.sleep(0.001)
    process.kill()
    if process.wait() == 0:
        raise RuntimeError("the run was over before it could be killed")


def digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256, without the files that hold the clock."""
    paths = (path for path in folder.iterdir() if path.name not in CLOCKED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def table(rows: list[Row]) -> list[str]:
    """A line."""
    lines = [(row["item"], row["steps"], row["files"], len(row["differing"])) for row in rows]
    found = grid(("run", "steps", "files", "that differ"), lines)
    return [*found, *(f"DIFFERS {name}" for row in rows for name in row["differing"])]
