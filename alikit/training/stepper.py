"""How a run's steps are computed: one by one on the host, or on a device, there as replays of one graph (DESIGN 6).

Both steppers give the loop the same three things: `step` computes a step and says how many images it saw, `result`
tells what the newest one showed, `check` raises where a loss or a gradient was not finite.

On a device nothing of a step passes through the host: images, the epoch's order and the clock (seed, step, updates)
lie there, the figures of the last steps stay in a ring until someone asks, and whether a number was not finite is
noted beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from alikit.backend import from_host, step_memory, to_numpy, zeros
from alikit.ops._dispatch import kernel
from alikit.training.batches import Counts, DeviceBatches
from alikit.training.feed import Feed
from alikit.training.step import Trainer

#: steps whose figures a device remembers
RING = 1024


class Stepper(Protocol):
    """What the loop needs."""

    def step(self, number: int) -> int:
        """Computes step `number` (from 0); returns the images it saw."""

    def result(self) -> Any:
        """What the newest step showed; on a device this waits for it."""

    def check(self) -> None:
        """DivergedError where a loss or a gradient of any step so far was not finite."""


class HostStepper:
    """Steps on NumPy arrays; each is checked at once."""

    def __init__(self, trainer: Trainer, feed: Feed):
        self.trainer, self.feed = trainer, feed
        self._result: Any = None

    def step(self, number: int) -> int:
        batch = self.feed.batch(number)
        self._result = self.trainer.step(batch, number)
        return len(batch.x)

    def result(self) -> Any:
        if self._result is None:
            raise ValueError("result: no step was taken yet")
        return self._result

    def check(self) -> None:
        """Every step was checked when it was taken."""


class DeviceStepper:
    """Steps on a device's arrays, without a wait.

    graph    replay each batch size's step as one CUDA graph, after two eager steps that load what it launches
    say      told in one line where a step cannot be captured; it then runs eagerly
    """

    EAGER = 2

    def __init__(
        self,
        trainer: Trainer,
        feed: Feed,
        *,
        graph: bool = True,
        say: Callable[[str], object] = print,
    ):
        self.trainer, self.graph, self.say = trainer, graph, say
        self.memory = step_memory()
        self.batches = DeviceBatches(feed, trainer.model.dtype)
        self.clock = from_host(np.array([trainer.seed, 0, 0], np.int64))
        self.ring = zeros((RING, len(trainer.rules.result._fields)), np.float32)
        self.bad = from_host(np.array([-1, -1], np.int64))
        self.how = trainer.how(self.clock)
        self._next = -1  # the step that the clock stands at
        self._seen: dict[Counts, int] = {}  # batch sizes -> eager steps so far
        self._graphs: dict[Counts, Any] = {}

    def step(self, number: int) -> int:
        if number != self._next:
            self.clock.set(np.array([self.trainer.seed, number, self.trainer.updates], np.int64))
        counts = self.memory.run(lambda: self.batches.prepare(number))
        if self.graph and counts not in self._graphs and self._seen.get(counts, 0) >= self.EAGER:
            self._capture(counts)
        if counts in self._graphs:
            self._graphs[counts].launch()
            self.trainer.updates += 1
        else:
            self.memory.run(lambda: self._compute(counts))
            self._seen[counts] = self._seen.get(counts, 0) + 1
        self._next = number + 1
        return counts.images

    def result(self) -> Any:
        if self._next < 0:
            raise ValueError("result: no step was taken yet")
        row = self.memory.run(lambda: to_numpy(self.ring[(self._next - 1) % RING]))
        return self.trainer.rules.result(*(float(v) for v in row))

    def check(self) -> None:
        step, index = (int(v) for v in self.memory.run(lambda: to_numpy(self.bad)))
        if step >= 0:
            raise self.trainer.diverged(step, index)

    def _compute(self, counts: Counts) -> Any:
        """Everything that a graph holds: launches only."""
        batch = self.batches.fetch(counts, self.clock)
        figures = self.trainer.compute(batch, self.how)
        kernel("record_step", self.ring)(*figures, out_clock=self.clock, out_ring=self.ring, out_bad=self.bad)
        return figures

    def _capture(self, counts: Counts) -> None:
        updates = self.trainer.updates
        try:
            self._graphs[counts] = self.memory.capture(lambda: self._compute(counts))
        except RuntimeError as error:
            self.graph = False
            self.say(f"{error}; steps run one launch at a time")
        self.trainer.updates = updates  # a captured pass computed nothing
