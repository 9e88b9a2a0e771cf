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
    """Lines of a pipe as messages, with a time limit; None at the end of the pipe."""

    def __init__(self, pipe: IO[str]):
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self.messages.put(json.loads(line))
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
        self.names: list[str] = []
        self.current: int | None = None
        self.limit = 0.0
        self.next_item = 0

    def run(self, environment: Mapping[str, str]) -> list[Row]:
        """Its rows, failed ones among them."""
        for _ in range(RESTARTS):
            if self._worker(environment):
                break
        left = self.names[self.next_item :]
        if left or not self.names:
            self._row({"item": "not run", "failed": f"{len(left)} left out: {', '.join(left) or 'everything'}"})
        return self.rows

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
        if self.names and self.next_item == len(self.names):
            return True
        return self._died(process.returncode, log)

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
        name = "start" if self.current is None else self.names[self.current]
        self._row({"item": name, "failed": why, **more})

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
        if self.current is not None and any(r["item"] == self.names[self.current] and "failed" in r for r in self.rows):
            self.next_item = self.current + 1  # it raised, and the device did not survive
            return self.next_item == len(self.names)
        self._fail(f"the process died (exit code {code})", log=log.read_text(encoding="utf-8")[-TAIL:])
        if self.current is None:
            return True
        self.next_item = self.current + 1
        return self.next_item == len(self.names)


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
    environment = {**os.environ, **interpreted(options)}
    return PartRun(part, options, time.monotonic() + seconds, keep, make).run(environment)


def interpreted(options: Options) -> dict[str, str]:
    """What the environment of a process needs for the interpreted device."""
    if options.timed:
        return {}
    from alikit.kernels.launch import INTERPRETED

    return dict(INTERPRETED)
