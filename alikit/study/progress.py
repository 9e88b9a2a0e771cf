"""What a study tells while it runs: a bar on a terminal, plain lines elsewhere, nothing with `quiet`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from alikit import console
from alikit.training.log import duration


class Watch:
    """Counts the steps of all jobs.

    jobs     of the whole study;  steps: of each
    stream   standard output unless told;  clock: seconds that never run backwards
    """

    def __init__(
        self,
        jobs: int,
        steps: int,
        quiet: bool,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._jobs, self._steps, self._finished, self._quiet, self._clock = jobs, steps, 0, quiet, clock
        self._stream = sys.stdout if stream is None else stream
        self._start = self._due = clock()
        self._first: int | None = None  # steps of all jobs at the first look: those are not this process's doing
        self._running: dict[str, int] = {}
        self._bar = None if quiet or not self._stream.isatty() else _bar(jobs * steps, self._stream)

    def look(self, running: dict[str, int]) -> None:
        """Takes in the steps of the running jobs, and shows them now and then."""
        now, self._running = self._clock(), running
        done = self._done()
        if self._first is None:
            self._first = done
        if self._quiet or now < self._due or not running:
            return
        elapsed = now - self._start
        self._due = now + (1.0 if self._bar is not None else min(max(elapsed / 10, 2.0), 60.0))
        where = ", ".join(f"{name} {steps:,}" for name, steps in running.items())
        self._say(f"{self._finished}/{self._jobs} runs  {self._left(done, elapsed)}  now {where} of {self._steps:,}")

    def done(self, name: str) -> None:
        """Notes a job that has just finished."""
        self._running.pop(name, None)
        self._finished += 1
        self.note(f"{name} is done, {self._finished} of {self._jobs}")

    def skip(self, count: int) -> None:
        """Notes jobs that were finished by an earlier call of the study."""
        self._finished += count
        if self._first is not None:
            self._first += count * self._steps

    def stop(self) -> None:
        """Says that the running jobs were told to end."""
        self.note("stopping: every run saves a checkpoint first; a second signal does not wait for that")

    def note(self, text: str) -> None:
        """A line beside the bar, unless quiet."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif not self._quiet:
            self._print(text)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _done(self) -> int:
        return self._finished * self._steps + sum(min(steps, self._steps) for steps in self._running.values())

    def _left(self, done: int, elapsed: float) -> str:
        """By the pace of all steps so far; models differ, so it is rough."""
        fresh = done - (self._first or 0)
        if not fresh:
            return "no time known yet"
        return f"about {duration((self._jobs * self._steps - done) * elapsed / fresh)} left"

    def _say(self, text: str) -> None:
        if self._bar is None:
            self._print(text)
        else:
            self._bar.n = self._done()
            self._bar.set_description_str(text)

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        except OSError as error:  # nobody reads along, or there is no room: the study goes on without telling
            self._quiet = True
            console.fall_silent(error, self._stream)


def _bar(total: int, stream: TextIO) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, file=stream, bar_format="{desc} |{bar}|", dynamic_ncols=True)
