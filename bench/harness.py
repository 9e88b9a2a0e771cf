"""Checks, then times: alikit and PyTorch in turns, never at once.

Each round times both sides, in the opposite order of the round before, and gives one ratio, so that a slow phase of
the machine hits both. A case whose answers differ is not timed. What other processes took meanwhile is recorded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.case import Case, Options

ROOT = Path(__file__).parent.parent
QUICK_SECONDS = 0.002  # of one sample


class Mismatch(Exception):
    """The two sides do not compute the same."""


class WorkerError(Exception):
    """A worker failed; the message is its traceback."""


class Client:
    """A worker process and the pipe to it.

    python, root   of another tree, where its worker is wanted (`trees.py`)
    """

    def __init__(self, case: str, side: str, options: Options, python: str = sys.executable, root: Path = ROOT):
        self.title = f"{case} on {side}"
        words = [case, side, str(options.threads), "quick" if options.quick else "full"]
        self.process = subprocess.Popen(
            [python, "-m", "bench.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            # OpenMP's threads wait by spinning otherwise: that takes time from whoever is being timed, and measured on
            # a machine that does anything else besides it doubles PyTorch's own time
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Sends a command and waits for the result. WorkerError where the worker failed or died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.title}: the worker died (exit code {self.process.wait()})")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.title}:\n{reply['error']}")
        return reply["result"]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def run_case(case: Case, options: Options, rounds: int, sides: tuple[str, ...]) -> list[dict[str, Any]]:
    """Measures a case: one row for each of its names (`report.py` adds where and when). Mismatch, WorkerError."""
    if case.memory:
        return [_peak_memory(case, options, sides)]
    clients = {side: Client(case.name, side, options) for side in sides}
    try:
        about = {side: client.ask("describe") for side, client in clients.items()}
        error = check(case, clients["alikit"], clients["torch"]) if len(clients) == 2 else None
        before = clients["alikit"].ask("ceiling")
        samples = {}
        for name in about["alikit"]["names"]:
            counts = {side: count_for(client, name, case, options) for side, client in clients.items()}
            samples[name] = alternate(clients, name, rounds, counts)
        after = clients["alikit"].ask("ceiling")
        return [
            {
                "case": case.name,
                "name": name,
                "checked_to": error,
                "cost": about["alikit"]["cost"].get(name, {}),
                "ceiling": {kind: max(before[kind], after[kind]) for kind in after},
                "about": {s: {k: a[k] for k in ("libraries", "environment")} for s, a in about.items()},
                "sides": sampled,
            }
            for name, sampled in samples.items()
        ]
    finally:
        for client in clients.values():
            client.__exit__()


def check(case: Case, ours: Client, theirs: Client, whose: str = "PyTorch's") -> float:
    """Compares the answers of both sides; returns the largest share of a tolerance used. Mismatch beyond 1.

    whose   the others' answers are
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        probe = f"{folder}/probe.npz"
        ours.ask("probe", file=probe)
        answers = []
        for number, client in enumerate((ours, theirs)):
            client.ask("answer", probe=probe, file=f"{folder}/{number}.npz")
            answers.append(dict(np.load(f"{folder}/{number}.npz")))
    found, wanted = answers
    if found.keys() != wanted.keys() or not found:
        raise Mismatch(f"{case.name}: only one side answers {sorted(found.keys() ^ wanted.keys())}")
    worst = 0.0
    for name, array in wanted.items():
        error, allowed = distance(found[name], array), case.allowed(name)
        if not error <= allowed:
            raise Mismatch(
                f"{case.name}: {name} differs from {whose} by {error:.2g} of its norm, allowed {allowed:.2g}"
            )
        worst = max(worst, error / allowed)
    return worst


def distance(found: Any, wanted: Any) -> float:
    """|found - wanted| / |wanted| in Euclidean norms; infinite where the shapes differ."""
    import numpy as np

    if found.shape != wanted.shape:
        return float("inf")
    difference, size = (float(np.linalg.norm(a.astype(np.float64).ravel())) for a in (found - wanted, wanted))
    return difference / max(size, 1e-30)


def alternate(clients: dict[str, Client], name: str, rounds: int, counts: dict[str, int]) -> dict[str, Any]:
    """Samples of so many units of work on each side: seconds on the clock and of processor time for each unit, and
    others' share."""
    samples: dict[str, dict[str, Any]] = {
        s: {"count": n, "wall": [], "cpu": [], "others": []} for s, n in counts.items()
    }
    for number in range(rounds):
        for side in list(clients) if number % 2 == 0 else reversed(list(clients)):
            busy = _busy()
            took = clients[side].ask("time", name=name, count=counts[side])
            samples[side]["wall"].append(took["wall"] / counts[side])
            samples[side]["cpu"].append(took["cpu"] / counts[side])
            samples[side]["others"].append(max(0.0, (_busy() - busy - took["cpu"]) / took["wall"]))
    return samples


def count_for(client: Client, name: str, case: Case, options: Options) -> int:
    """Units of work in a sample of the case's length, after warming up."""
    seconds = QUICK_SECONDS if options.quick else case.seconds
    client.ask("time", name=name, count=2)
    count = 1
    while True:
        wall = client.ask("time", name=name, count=count)["wall"]
        if wall > seconds / 4:
            return max(1, round(count * seconds / wall))
        count *= 2 if wall <= 0 else max(2, round(seconds / 2 / wall))


def _busy() -> float:
    """Seconds that the machine's cores have been busy, by any process, since it was started; 0 where unknown."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _peak_memory(case: Case, options: Options, sides: tuple[str, ...]) -> dict[str, Any]:
    """Peak resident bytes of a fresh process of each side, one after the other."""
    found, about = {}, {}
    for side in sides:
        with Client(case.name, side, options) as client:
            description = client.ask("describe")
            about[side] = {k: description[k] for k in ("libraries", "environment")}
            before = client.ask("memory")["now"]
            client.ask("time", name=description["names"][0], count=case.memory)
            found[side] = {"peak": client.ask("memory")["peak"], "before": before}
    name = f"after {case.memory} steps"
    return {
        "case": case.name,
        "name": name,
        "checked_to": None,
        "cost": {},
        "ceiling": {},
        "about": about,
        "sides": found,
    }
