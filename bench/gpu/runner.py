"""Runs a part in worker processes and keeps whatever it finds, come what may.

An item that raises is a failed row. One that kills its process, or hangs, is a failed row too, and a new worker goes on
behind it. When the part's time is over its worker is stopped, and what was not run is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bench.gpu.part import Options, Part, Row
from bench.harness import ROOT

#: workers of one part that may die
RESTARTS = 12
STARTING = 60.0  # seconds that a worker may take before its first item
TAIL = 600  # characters of the log that tell of a death

Command = Callable[[Part, int, Options], Sequence[str]]


def command(part: Part, start: int, options: Options) -> list[str]:
    """The worker's command line."""
    return [sys.executable, "-m", "bench.gpu.worker", part.name, str(start), json.dumps(options.to_json())]


class Reader:
    """Lines of a pipe as messages, with a time limit; None at the end of the pipe, which is closed then."""

    def __init__(self, pipe: IO[str]):
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self.thread.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                try:
                    self.messages.put(json.loads(line))
                except ValueError:  # no message
                    print(line, end="", file=sys.stderr)
        self.messages.put(None)

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message; TimeoutError."""
        try:
            return self.messages.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError from None


class PartRun:
    """One part from its first worker to its last."""

    def __init__(self, part: Part, options: Options, deadline: float, keep: Callable[[Row], None], make: Command):
        self.part, self.options, self.deadline, self.keep, self.make = part, options, deadline, keep, make
        self.rows: list[Row] = []
        self.names: list[str] | None = None  # not told yet
        self.current: int | None = None
        self.limit = 0.0
        self.next_item = 0

    def run(self, environment: Mapping[str, str]) -> list[Row]:
        """Its rows, failed ones among them."""
        for _ in range(RESTARTS):
            if self._worker(environment):
                break
        left = ["everything"] if self.names is None else self.names[self.next_item :]
        if left:
            self._row({"item": "not run", "failed": f"{len(left)} left out: {', '.join(left)}"})
        return self.rows

    def _name(self, number: int | None) -> str:
        return "start" if self.names is None or number is None else self.names[number]

    def _over(self) -> bool:
        return self.names is not None and self.next_item == len(self.names)

    def _row(self, row: Row) -> None:
        row = {"part": self.part.name, **row}
        self.rows.append(row)
        self.keep(row)

    def _worker(self, environment: Mapping[str, str]) -> bool:
        """One worker, from `next_item` on; whether the part is over."""
        log = Path(self.options.out) / f"{self.part.name}.log"
        self.current, self.limit = None, time.monotonic() + STARTING
        with log.open("a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                self.make(self.part, self.next_item, self.options),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
            )
        assert process.stdout is not None
        reader = Reader(process.stdout)
        try:
            while (message := reader.next(min(self.limit, self.deadline) - time.monotonic())) is not None:
                self._take(message)
        except TimeoutError:
            return self._too_late()
        finally:
            stop(process)
            reader.thread.join(5)  # the process is gone, so the pipe ends
        return self._over() or self._died(process.returncode, log)

    def _take(self, message: dict[str, Any]) -> None:
        if "items" in message:
            self.names = message["items"]
        elif "begin" in message:
            self.current, self.limit = message["begin"], time.monotonic() + message["seconds"]
        elif "row" in message:
            self._row(message["row"])
        elif "failed" in message:
            self._fail(message["failed"], traceback=message.get("traceback"))
        elif "end" in message:
            self.next_item, self.current = message["end"] + 1, None
            self.limit = time.monotonic() + STARTING

    def _fail(self, why: str, **more: Any) -> None:
        self._row({"item": self._name(self.current), "failed": why, **more})

    def _too_late(self) -> bool:
        """After a time limit: the part's own ends it, an item's only skips the item."""
        over = time.monotonic() >= self.deadline
        self._fail("stopped: the part's time was over" if over else "hung: stopped at its time limit")
        if self.current is None:
            return True
        self.next_item = self.current + 1
        return over

    def _died(self, code: int, log: Path) -> bool:
        """After a worker that left before its last item."""
        name = self._name(self.current)
        if not any(row["item"] == name and "failed" in row for row in self.rows):  # else it raised, and so ended
            self._fail(f"the process died (exit code {code})", log=log.read_text(encoding="utf-8")[-TAIL:])
        if self.current is None:
            return True
        self.next_item = self.current + 1
        return self._over()


def stop(process: subprocess.Popen[str], patience: float = 3.0) -> None:
    """Ends a worker that does not end by itself, and whatever it started: its process group, which is its own."""
    until = time.monotonic() + patience
    # not yet reaped, so that the number of the process still is the group's and nobody else's
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and time.monotonic() < until:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_part(
    part: Part, options: Options, seconds: float, keep: Callable[[Row], None], make: Command = command
) -> list[Row]:
    """Runs a part within `seconds`; its rows, each also given to `keep` at once."""
    return PartRun(part, options, time.monotonic() + seconds, keep, make).run(environment(options))


def environment(options: Options) -> dict[str, str]:
    """A worker's: caches that live as long as the rows, and what the interpreted device needs."""
    caches = {"ALIKIT_CACHE": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
    folders = {name: str(Path(options.out) / folder) for name, folder in caches.items()}
    return {**folders, **os.environ, **({} if options.timed else interpreted())}


def interpreted() -> dict[str, str]:
    """What makes a process interpret kernels."""
    from alikit.kernels.launch import INTERPRETED

    return dict(INTERPRETED)
