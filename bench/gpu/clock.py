"""Times on the device: events around captured graphs of many launches, samples of both sides in turns, quantiles.

A sample is one replay of a graph of `count` launches, long enough that an event's resolution (half a microsecond) and
the graph's own start do not matter. Where a peer is timed, a round takes one sample of each side, in the opposite
order of the round before, and gives one ratio. Small working sets stay in the L2 cache, as they do within a training
step; where that is not wanted, `flush` overwrites the cache before each sample, outside the timed region.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

Launch = Callable[[], object]

SAMPLE = 2e-3  # seconds
ROUNDS = 15
MOST = 200  # launches in a graph: nodes cost memory and capture time
FLUSHED = 256 << 20  # bytes, several times any L2


class Run(NamedTuple):
    """What a sample runs. stream: CuPy's, where it is not the current one."""

    launch: Launch
    stream: Any = None


class Ours:
    """CuPy's events and alikit's graphs. stream: where plain calls run, if not on the current one."""

    def __init__(self, stream: Any = None) -> None:
        from alikit.kernels import device

        self.cuda, self.stream = device.module().cuda, stream

    def plain(self, fn: Launch, count: int) -> Run:
        """`count` calls, launch by launch."""
        return Run(lambda: repeat(fn, count), self.stream)

    def seconds(self, run: Run, before: Launch | None = None) -> float:
        """What a run takes on the device, `before` not counted."""
        with run.stream or self.cuda.get_current_stream() as stream:
            if before is not None:
                before()
            begin, end = self.cuda.Event(), self.cuda.Event()
            begin.record(stream)
            run.launch()
            end.record(stream)
            end.synchronize()
        return self.cuda.get_elapsed_time(begin, end) * 1e-3

    def graph(self, fn: Launch, count: int) -> Run:
        """A launch of `count` calls."""
        from alikit.kernels.graph import capture

        graph = capture(lambda: repeat(fn, count))
        return Run(graph.launch, graph.stream)


class Torch:
    """The same of PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def plain(self, fn: Launch, count: int) -> Run:
        """`count` calls, launch by launch."""
        return Run(lambda: repeat(fn, count))

    def seconds(self, run: Run, before: Launch | None = None) -> float:
        """What a run takes on the device, `before` not counted."""
        if before is not None:
            before()
            self.torch.cuda.synchronize()
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run.launch()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3

    def graph(self, fn: Launch, count: int) -> Run:
        """A launch of `count` calls."""
        cuda = self.torch.cuda
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):  # cuDNN chooses, and workspaces are made, on the stream that captures
            for _ in range(3):
                fn()
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, stream=stream):
            repeat(fn, count)
        return Run(graph.replay)


def repeat(fn: Launch, count: int) -> None:
    """Calls it; results are dropped, so that their memory serves the next call."""
    for _ in range(count):
        fn()


def calls(clock: Any, fn: Launch, sample: float = SAMPLE) -> int:
    """How many calls make a sample, after warming up."""
    repeat(fn, 3)
    once = min(clock.seconds(clock.plain(fn, 5)) / 5 for _ in range(3))
    return max(1, min(MOST, round(sample / max(once, 1e-7))))


def repeated(clock: Any, fn: Launch, sample: float = SAMPLE, captured: bool = True) -> tuple[Run, int]:
    """A sample and the number of calls in it, run once already."""
    count = calls(clock, fn, sample)
    run = clock.graph(fn, count) if captured else clock.plain(fn, count)
    clock.seconds(run)
    return run, count


def flusher() -> Launch:
    """Overwrites the L2 cache, on CuPy's current stream."""
    from alikit.kernels import device

    memory = device.empty(FLUSHED // 4)
    return lambda: memory.data.memset_async(0, FLUSHED)


def measure(
    sides: dict[str, tuple[Any, Launch]],
    *,
    rounds: int = ROUNDS,
    sample: float = SAMPLE,
    captured: bool = True,
    flush: Launch | None = None,
) -> dict[str, dict[str, Any]]:
    """Times of every side in turns. sides: name -> (clock, fn).

    Returns name -> {"seconds": median of one call, "q20", "q80", "count", "samples"}.
    """
    ready = {name: (clock, *repeated(clock, fn, sample, captured)) for name, (clock, fn) in sides.items()}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(ready) if number % 2 == 0 else reversed(list(ready)):
            clock, run, count = ready[name]
            samples[name].append(clock.seconds(run, flush) / count)
    return {name: summary(times) | {"count": ready[name][2], "samples": times} for name, times in samples.items()}


def summary(times: list[float]) -> dict[str, float]:
    """Median, and the second and eighth tenth."""
    if len(times) == 1:
        return dict.fromkeys(("seconds", "q20", "q80"), times[0])
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return {"seconds": statistics.median(times), "q20": tenths[1], "q80": tenths[7]}


def ratio(found: dict[str, dict[str, Any]], above: str, below: str) -> dict[str, float]:
    """Quantiles of above / below, round by round."""
    pairs = zip(found[above]["samples"], found[below]["samples"], strict=True)
    quantiles = summary([a / b for a, b in pairs])
    return {"ratio": quantiles["seconds"], "q20": quantiles["q20"], "q80": quantiles["q80"]}
