"""What a run tells: lines in metrics.jsonl for programs, and a bar or plain lines for the person who watches.

A run that was killed and resumed must end with the same bytes in metrics.jsonl as one that was never stopped. So a
line there depends on the step alone; what depends on the clock (images/s, seconds) goes to a second log, timing.jsonl.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from alikit import console
from alikit.errors import DataError, UsageError
from alikit.training.files import write_error

Value = float | int | bool | str | None  # NumPy scalars too


class MetricsLog:
    """Appends one JSON object per line, "step" first and the other keys sorted, and flushes each line.

    resume_step: None starts a new log, and UsageError if there is one already. S continues after a checkpoint at
        step S: lines of later steps are cut off, and a last line torn by a kill; they will be written again.

    Floats are written by repr, so they read back exactly; NaN and infinities, which JSON lacks, as null. AlikitError
    when the disk refuses, and the file then ends with the last whole line. DataError for a log that is damaged.
    """

    def __init__(self, path: Path | str, resume_step: int | None = None) -> None:
        self.path = Path(path)
        try:
            if resume_step is not None and self.path.exists():
                os.truncate(self.path, _length_up_to(self.path, resume_step))
            exclusive = os.O_EXCL if resume_step is None else 0
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | exclusive, 0o666)
        except FileExistsError:
            raise UsageError(
                f"{self.path} is the log of an earlier run; resume that run or choose another folder"
            ) from None
        except OSError as error:
            raise write_error(self.path, error) from None

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Appends one line for `step`; `values` holds numbers, strings, booleans and None."""
        if "step" in values:
            raise ValueError("MetricsLog.write: 'step' is an argument, not one of the values")
        record = {"step": int(step)} | {name: _plain(name, values[name]) for name in sorted(values)}
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        end = os.fstat(self._file).st_size
        try:
            while line:  # a disk that fills up takes a part first, and says why only when asked again
                line = line[os.write(self._file, line) :]
        except OSError as error:
            os.ftruncate(self._file, end)
            raise write_error(self.path, error) from None

    def sync(self) -> None:
        """Makes the lines so far survive a power cut: call it before the checkpoint that counts on them."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Progress:
    """A bar on a terminal, plain flushed lines elsewhere, nothing but warnings with `quiet`.

    The first step is shown at once. After it a bar is redrawn twice a second; plain lines come after a tenth of the
    time that has passed, between one second and one minute, so that a demo is watched and a week leaves no flood.

        with Progress(steps, start_step=done, quiet=False) as progress:
            progress.update(len(batch), lambda: "L_D ...")   # after each step

    stream: standard output unless told. clock: seconds that never run backwards.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._step, self._quiet, self._clock = total_steps, start_step, quiet, clock
        self._stream = sys.stdout if stream is None else stream
        self._start = self._due = self._last = clock()
        self._rate = _Rate()
        self._bar = None if quiet or not self._stream.isatty() else _bar(total_steps, start_step, self._stream)

    def update(self, images: int, figures: Callable[[], str]) -> None:
        """Counts one step of `images` images; `figures` says a few words about it, and is called only when they are
        shown (reading a GPU costs).
        """
        now = self._clock()
        self._step += 1
        self._rate.add(images, now - self._last)
        self._last = now
        if not self._quiet and (now >= self._due or self._step == self._total):
            self._show(figures())
            elapsed = now - self._start
            self._due = now + (0.5 if self._bar is not None else min(max(elapsed / 10, 1.0), 60.0))

    def note(self, text: str) -> None:
        """Prints a line beside the bar, unless quiet."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Prints a warning, also when quiet."""
        self._print(f"warning: {text}")

    def close(self) -> None:
        """Leaves the bar as it stands, and the cursor on a new line."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show(self, figures: str) -> None:
        rate, left = self._rate.images_per_second(), self._rate.seconds_per_step() * (self._total - self._step)
        text = (  # what a narrow terminal cuts off is the end
            f"{duration(left)} left  {rate:.{0 if rate >= 100 else 1}f} images/s  {figures}"
        )
        if self._bar is None:
            self._print(f"step {self._step}/{self._total}  {text}")
        else:
            self._bar.n = self._step
            self._bar.set_description_str(text)

    def _print(self, text: str) -> None:
        try:
            if self._bar is None:
                print(text, file=self._stream, flush=True)
            else:
                self._bar.write(text, file=self._stream)
        except OSError as error:  # nobody reads along, or there is no room: the run goes on without telling
            self._quiet = True
            console.fall_silent(error, self._stream)


class _Rate:
    """Images per second over about the last half minute: sums whose terms fade as exp(-age / 30 s)."""

    def __init__(self) -> None:
        self._images = self._steps = self._seconds = 0.0

    def add(self, images: int, seconds: float) -> None:
        fade = math.exp(-seconds / 30.0)
        self._images = self._images * fade + images
        self._steps = self._steps * fade + 1
        self._seconds = self._seconds * fade + seconds

    def images_per_second(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0

    def seconds_per_step(self) -> float:
        return self._seconds / self._steps if self._steps else 0.0


def _bar(total: int, start: int, stream: TextIO) -> Any:
    from tqdm import tqdm

    layout = "{n_fmt}/{total_fmt}  {desc} |{bar}|"
    return tqdm(total=total, initial=start, file=stream, bar_format=layout, dynamic_ncols=True)


def duration(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days}d{hours % 24:02d}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m{int(seconds % 60):02d}s" if minutes else f"{int(seconds)}s"


def _plain(name: str, value: Any) -> Value:
    """The value as Python's json knows it; None for what is no finite number."""
    if getattr(value, "ndim", None) == 0:  # a NumPy scalar or an array of no dimensions
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | str):
        return value
    raise ValueError(f"MetricsLog.write: {name!r} is {type(value).__name__}; wanted a number, a string or None")


def _length_up_to(path: Path, step: int) -> int:
    """The bytes of the whole lines of steps up to `step`."""
    length = 0
    *whole, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(whole, start=1):
        try:
            found = int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DataError(f"{path}, line {number}, is not a line of metrics; move the file away to go on") from None
        if found > step:
            break
        length += len(line) + 1
    return length
