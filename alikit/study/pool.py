"""Jobs side by side, each a process with one thread: started, watched, stopped.

A signal to the study is handed on once to every running job, which saves a checkpoint and ends; a second one kills
them. The processes have a session of their own, so that Ctrl-C reaches them through the study alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from alikit.errors import AlikitError
from alikit.study.place import Place
from alikit.study.plan import Job, Settings
from alikit.study.progress import Watch
from alikit.training import runs
from alikit.training.loop import Interrupt

LOOK = 0.2  # seconds between looks at the processes

Start = Callable[[Job], subprocess.Popen]


def starter(place: Place, settings: Settings, checkpoint_every: int) -> Start:
    """start(job): its process, writing to the job's log."""

    def start(job: Job) -> subprocess.Popen:
        given = {
            "job": job.__dict__,
            "settings": settings.to_json(),
            "folder": str(place.folder),
            "checkpoint_every": checkpoint_every,
        }
        with place.log(job.name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "alikit.study.job", json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    return start


class Pool:
    """The running jobs of a study, and what became of them.

    parallel   how many run at a time
    """

    def __init__(self, place: Place, parallel: int, start: Start, watch: Watch):
        self.place, self.parallel, self.start, self.watch = place, parallel, start, watch
        self.running: dict[str, subprocess.Popen] = {}
        self.failed: str | None = None

    def run(self, jobs: Sequence[Job]) -> int:
        """Runs all jobs; returns 0, or 128 + a signal that stopped them.

        AlikitError naming the job and its log where one failed; the others are stopped first and can go on later.
        """
        waiting, told = list(jobs), False
        with Interrupt().listening() as interrupt:
            try:
                while self.running or (waiting and not told):
                    while waiting and not told and len(self.running) < self.parallel:
                        job = waiting.pop(0)
                        self.running[job.name] = self.start(job)
                    time.sleep(LOOK)
                    self._collect(told)
                    if not told and (interrupt.signal is not None or self.failed is not None):
                        told = True
                        if self.failed is None:
                            self.watch.stop()
                        self._tell(signal.SIGTERM)
                    self.watch.look({name: steps_done(self.place, name) for name in self.running})
            except BaseException:
                self._tell(signal.SIGKILL)
                raise
        if self.failed is not None:
            raise AlikitError(self.failed)
        return 0 if interrupt.signal is None else 128 + interrupt.signal

    def _collect(self, told: bool) -> None:
        """Takes out the jobs that have ended; the first to fail before they were told to end is noted."""
        for name in [name for name, process in self.running.items() if process.poll() is not None]:
            process = self.running.pop(name)
            _close(process)
            if process.returncode == 0:
                self.watch.done(name)
            elif not told and self.failed is None:
                self.failed = f"the run {name} failed: {_why(self.place, name, process.returncode)}"

    def _tell(self, number: int) -> None:
        for process in self.running.values():
            process.send_signal(number)
            if number == signal.SIGKILL:
                process.wait()
                _close(process)


def steps_done(place: Place, name: str) -> int:
    """Steps of a run by the last line of its log; 0 before there is one."""
    path = place.run(name) / runs.METRICS
    with suppress(OSError, ValueError, KeyError, IndexError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        return int(json.loads(file.read().splitlines()[-1])["step"])
    return 0


def _close(process: subprocess.Popen) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _why(place: Place, name: str, code: int) -> str:
    """The last line that a failed run wrote, or the signal that ended it, and where to read more."""
    lines = place.log(name).read_text(errors="replace").split("\n")
    last = next((line.removeprefix("alikit: error: ") for line in reversed(lines) if line), "it left no word")
    return f"{f'ended by signal {-code}' if code < 0 else last} (all of it: {place.log(name)})"
