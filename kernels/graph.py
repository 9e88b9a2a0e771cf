"""A whole training step as one CUDA graph: captured once, replayed by one launch.

What a captured step may not do: copy to or from the host, wait for the device, or free what the graph still writes to.
So the step draws its memory from a pool of its own that lives as long as the graph; what it reads anew at each replay
(step, batch, noise) lies in device memory; and tables of addresses, known only once the arrays exist, are filled in
between capture and first replay (`device.deferred_uploads`).

The first passes run eagerly on the same stream and pool: they compile and load every kernel, which is not allowed while
capturing. They are real steps, with the same bytes as a replay.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Protocol

from . import device


class Memory(Protocol):
    """Where a step's launches get their memory, and what captures them."""

    def run(self, fn: Callable[[], Any]) -> Any:
        """fn(), eagerly."""

    def capture(self, fn: Callable[[], Any]) -> Graph:
        """The launches of fn(), which must have run eagerly before; RuntimeError where that cannot be."""


class PlainMemory:
    """The device's usual memory, where there are no graphs: interpreted or planned launches."""

    def run(self, fn: Callable[[], Any]) -> Any:
        return fn()

    def capture(self, fn: Callable[[], Any]) -> Graph:
        raise RuntimeError(f"the {device.mode()} device has no graphs")


def step_memory() -> Memory:
    """The memory that goes with the device in use."""
    return GraphMemory() if device.mode() == "cuda" else PlainMemory()


class Graph:
    """A captured sequence of launches.

    launch()   enqueues all of them on the stream they were captured on
    stream     that stream
    """

    def __init__(self, graph: Any, stream: Any, keep: Any):
        self._graph, self.stream = graph, stream
        #: whatever the graph reads or writes: its arrays, tables and their pool
        self._keep = keep

    def launch(self) -> None:
        self._graph.launch(self.stream)


class GraphMemory:
    """The stream and the memory pool of a step that is to be captured.

    The stream is one that waits for the null stream and is waited for by it: pictures, checkpoints and uploads go
    there, between steps, and must neither see half a step nor be overtaken by one.
    """

    def __init__(self) -> None:
        import cupy

        self.stream = cupy.cuda.Stream()
        self.pool = cupy.cuda.MemoryPool()

    def run(self, fn: Callable[[], Any]) -> Any:
        """fn() eagerly, on the stream and from the pool."""
        import cupy

        with self.stream, cupy.cuda.using_allocator(self.pool.malloc):
            return fn()

    def capture(self, fn: Callable[[], Any]) -> Graph:
        """The launches of fn(), which must have run eagerly before; nothing is computed yet.

        RuntimeError where the capture fails; fn may be run eagerly afterwards.
        """
        import cupy

        self.stream.synchronize()

        def record() -> tuple[Any, Any]:
            # a collection could unload a module or destroy a graph in mid-capture, which would spoil it
            gc.collect()
            gc.disable()
            self.stream.begin_capture()
            try:
                kept = fn()
            finally:
                gc.enable()
                graph = self.stream.end_capture()
            return graph, kept

        try:
            with device.deferred_uploads() as tables:
                graph, kept = self.run(record)
            with self.stream:
                tables.upload()
                self.stream.synchronize()
        except (cupy.cuda.runtime.CUDARuntimeError, NotImplementedError) as error:
            raise RuntimeError(f"the step cannot be captured as a CUDA graph ({error})") from error
        return Graph(graph, self.stream, (kept, tables, self.pool))


def capture(fn: Callable[[], Any], *, warmups: int = 1) -> Graph:
    """Runs fn `warmups` times eagerly and captures its launches."""
    memory = step_memory()
    for _ in range(warmups):
        memory.run(fn)
    return memory.capture(fn)
