"""The loop: step, log, look, save. It knows nothing about losses.

Order at a step's end: the metrics line, the pictures, then the checkpoint that counts on both. A run killed at any
moment goes on from its newest checkpoint and writes the same lines and pictures again.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from alikit.errors import DivergedError
from alikit.training import runs, state
from alikit.training.config import Config
from alikit.training.feed import Feed
from alikit.training.log import MetricsLog, Progress
from alikit.training.monitor import Monitor
from alikit.training.step import Trainer
from alikit.training.stepper import Stepper


class Pace:
    """Mean time of a step and images a second since the last line; a device's steps end only when one looks."""

    images = steps = 0
    seconds = 0.0

    def add(self, images: int, seconds: float) -> None:
        """Counts a step."""
        self.images, self.steps, self.seconds = self.images + images, self.steps + 1, self.seconds + seconds

    def line(self) -> dict[str, float]:
        """What timing.jsonl gets; counting begins again."""
        found = {
            "seconds": round(self.seconds / self.steps, 6),
            "images_per_second": round(self.images / self.seconds, 2),
        }
        self.images, self.steps, self.seconds = 0, 0, 0.0
        return found


@dataclass
class Run:
    """A run in progress: everything the loop needs."""

    folder: Path
    config: Config
    trainer: Trainer
    feed: Feed
    stepper: Stepper
    monitor: Monitor
    total_steps: int
    step: int = 0  # steps done
    continued: bool = False  # whether the folder holds an earlier part of this run
    pace: Pace = field(default_factory=Pace)


class Interrupt:
    """Turns SIGINT and SIGTERM into a flag that the loop looks at; a second signal acts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


def train(run: Run, *, quiet: bool) -> int:
    """Runs to the end, or to a signal; returns the exit code: 0, 130 or 143.

    DivergedError where training diverged: the last checkpoint is then the last good one.
    """
    resume_step = run.step if run.continued else None
    with (
        warnings.catch_warnings(),
        Interrupt().listening() as interrupt,
        MetricsLog(run.folder / runs.METRICS, resume_step) as metrics,
        MetricsLog(run.folder / runs.TIMING, resume_step) as timing,
        Progress(run.total_steps, start_step=run.step, quiet=quiet) as progress,
    ):
        # what is not finite is found and reported by name; NumPy would tell of it by the line
        warnings.simplefilter("ignore", RuntimeWarning)
        if run.continued and (aside := runs.rewind(run.folder, run.step)):
            progress.warn(f"{len(aside)} checkpoints of later steps are set aside under names ending in .old")
        last = run.step >= run.total_steps
        while not last:
            try:
                _one_step(run, metrics, timing, progress)
                # asked once a step: what comes later stops the next one, which then is saved
                last = run.step == run.total_steps or interrupt.signal is not None
                due = last or run.step % run.config.checkpoint_every == 0
                if due:
                    run.stepper.check()
            except DivergedError as error:
                good = runs.checkpoints(run.folder)
                raise DivergedError(f"{error}; last checkpoint: {good[-1] if good else 'none yet'}") from None
            if due:
                metrics.sync()
                save(run)
    return 0 if interrupt.signal is None else 128 + interrupt.signal


def save(run: Run) -> None:
    """Writes the checkpoint of this step and removes those that `keep` no longer covers."""
    path = runs.checkpoint_path(run.folder, run.step)
    state.save(path, run.trainer, run.config, run.step, run.feed.dataset.checksum)
    runs.prune(run.folder, run.config.keep, path)


def _one_step(run: Run, metrics: MetricsLog, timing: MetricsLog, progress: Progress) -> None:
    began = time.perf_counter()
    images = run.stepper.step(run.step)
    run.step += 1
    progress.update(images, lambda: run.trainer.rules.show(run.stepper.result()))
    end = run.step == run.total_steps
    look = end or run.step % run.config.sample_every == 0
    if look or run.step == 1 or run.step % run.config.log_every == 0:
        run.stepper.check()
        result = run.stepper.result()
        run.pace.add(images, time.perf_counter() - began)
        seen = run.monitor.look(run.step, end) if look else {}
        metrics.write(run.step, _line(run, result) | seen)
        timing.write(run.step, run.pace.line())
        if seen:
            progress.note(_summary(run.step, seen))
    else:
        run.pace.add(images, time.perf_counter() - began)


def _line(run: Run, result: Any) -> dict[str, float]:
    images = run.step // run.feed.order.steps_per_epoch * run.feed.order.n
    images += run.step % run.feed.order.steps_per_epoch * run.feed.order.batch_size
    return {"images": images, "epoch": images / run.feed.order.n} | result._asdict()


def _summary(step: int, seen: dict[str, float]) -> str:
    """A line about a look; a model without an encoder has no reconstructions and no codes."""
    parts = ["pictures"]
    if "reconstruction_error" in seen:
        parts += [
            f"reconstruction error {seen['reconstruction_error']:.4f}, "
            f"{seen['reconstruction_ratio']:.2f} of a random image's (1: the encoder is ignored)",
            f"codes' mean KS distance to the prior {seen['latent_ks_mean']:.3f}",
        ]
    if "test_error" in seen:
        parts.append(f"test error {seen.get('test_error_all', seen['test_error']):.2%}")
    if "coverage_modes_covered" in seen:
        parts.append(f"modes {seen['coverage_modes_covered']}, within 3 sd {seen['coverage_share_covered']:.0%}")
    return f"step {step}: {'; '.join(parts)}"
