"""Three things CPU kernels need: work split over threads, work left to a thread, and scratch memory that is kept.

Threads are our own, each running single-threaded BLAS on its share of the batch: NumPy releases the interpreter lock
inside a ufunc and a matrix product, so that copies, epilogues and products all run side by side, whereas BLAS's own
threads would leave every copy and elementwise pass to one core. Shares are static and sums are taken in a fixed order,
so the same thread count gives the same bytes.

A product of small matrices gains little by being split: it is half done before the other thread is awake. Where nobody
waits for it, as for a weight's gradient while walks go on, it is left to another thread as a whole (`later`), or to
whoever comes first: the thread that waits in the end does what has not been begun.

Fresh temporaries of tens of megabytes cost more in page faults than the product that fills them; `scratch` keeps one
growing buffer for each thread and name instead.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import numpy as np

_local = threading.local()  # scratch memory


class _Own(threading.local):
    """What a thread has left to the last worker of the pool, and not waited for."""

    def __init__(self) -> None:
        self.left: list[_Left] = []


_own = _Own()


class _Left:
    """A job that was left to a worker, what came of it, and whether it is done: waiting twice does no harm. Whoever
    calls first does it, and forgets it with the arrays that it read."""

    def __init__(self, job: Callable[[], object]):
        self.jobs = [job]
        self.running = threading.Lock()  # an Event takes ten times as long to make
        self.running.acquire()
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            job = self.jobs.pop()  # one bytecode: of two threads one gets it
        except IndexError:
            return
        try:
            job()
        except BaseException as error:
            self.error = error
        finally:
            self.running.release()

    def wait(self) -> BaseException | None:
        """For its end; returns the error that it ended with."""
        with self.running:
            return self.error


class _Pool:
    """Worker threads that wait on a queue each; the calling thread takes the first share itself."""

    def __init__(self, threads: int):
        self.threads = threads
        self.queues: list[SimpleQueue] = [SimpleQueue() for _ in range(threads - 1)]
        for queue in self.queues:
            threading.Thread(target=self._serve, args=(queue,), daemon=True).start()

    @staticmethod
    def _serve(queue: SimpleQueue) -> None:
        while (job := queue.get()) is not None:
            job()
            del job  # and with it the arrays it worked on

    def close(self) -> None:
        for queue in self.queues:
            queue.put(None)  # behind all that was left
        settle()

    def leave(self, job: Callable[[], object]) -> None:
        left = _Left(job)
        self.queues[-1].put(left)
        _own.left.append(left)

    def run(self, fn: Callable[[int, int, int], object], bounds: list[int]) -> None:
        done: SimpleQueue = SimpleQueue()
        others = len(bounds) - 2
        for part in range(1, others + 1):
            self.queues[part - 1].put(partial(_answer, done, fn, bounds[part], bounds[part + 1], part))
        try:
            fn(bounds[0], bounds[1], 0)
        finally:
            errors = [done.get() for _ in range(others)]
        _raise_first(errors)


def _answer(done: SimpleQueue, fn: Callable[..., object], *share: int) -> None:
    """Puts down that a share is done, or the error that it ended with."""
    try:
        fn(*share)
        done.put(None)
    except BaseException as error:
        done.put(error)


def _raise_first(errors: list[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


_pool = _Pool(1)


def set_threads(count: int) -> None:
    """Sets the number of threads of all CPU kernels, and BLAS to a single thread in each of them.

    Before the first call there is one thread, and BLAS is as the environment has it.
    """
    from threadpoolctl import threadpool_limits

    resize_pool(count)
    threadpool_limits(1, user_api="blas")


def resize_pool(count: int) -> None:
    """Sets the number of threads alone, where BLAS is known to have a single one: to look for its libraries takes
    milliseconds."""
    global _pool
    if count < 1:
        raise ValueError(f"set_threads: at least one thread, found {count}")
    if count != _pool.threads:
        before, _pool = _pool, _Pool(count)
        before.close()


def threads() -> int:
    """Threads in use."""
    return _pool.threads


def split(fn: Callable[[int, int, int], object], count: int, *, work: float = float("inf"), align: int = 1) -> int:
    """Calls fn(start, stop, part) on contiguous shares of range(count), one for each thread, the caller's somewhat
    larger; returns how many.

    work    operations or elements in all; below `SMALL` the calling thread does it alone
    align   shares begin at multiples of this

    While a thread has something left to it (`later`), the others share what is small; for what is large it is waited
    for. Which it is follows from sizes alone, never from how far that thread is.
    """
    if _own.left and work >= LARGE:
        settle()
    free = _pool.threads - (1 if _own.left else 0)
    units = count // align
    parts = 1 if work < SMALL else min(free, max(1, units))
    if parts == 1:
        fn(0, count, 0)
        return 1
    lead = int((units - parts) * min(0.5, HEAD_START / max(1, work)))  # and a unit at least is left to each
    inner = [(lead + (units - lead) * part // parts) * align for part in range(1, parts)]
    _pool.run(fn, [0, *inner, count])
    return parts


def later(job: Callable[[], object], *, work: float) -> None:
    """Leaves a job to another thread, if there is one and it is worth it, until `settle`, which does it if it has not
    been begun and raises its errors; so does a `split` that waits for it.

    What the job reads must stay as it is until then. It splits nothing: a worker would wait for itself.
    """
    if _pool.threads > 1 and work >= SMALL / 4:
        _pool.leave(job)
    else:
        job()


def settle() -> None:
    """Does what this thread left to another and was not begun there, waits for the rest, and raises its errors."""
    jobs = _own.left
    for job in reversed(jobs):
        job()  # the worker began with the first: what it has not come to is done here
    errors = []
    while jobs:
        errors.append(jobs[0].wait())
        jobs.pop(0)
    _raise_first(errors)


#: Work in one thread that is worth waking another for. Measured: a core does some 5 million a millisecond.
SMALL = 2_000_000

#: What the calling thread has done by the time another is awake, some 35 us: so much more it takes.
HEAD_START = 180_000

#: From here on a product is worth all threads: some milliseconds of one.
LARGE = 8 * SMALL

#: Elements of a block on which several elementwise passes run while it stays in cache. Measured: smaller ones lose more
#: to handing the interpreter lock from thread to thread than they gain from the first levels of cache.
BLOCK = 262_144


#: Bytes of a line of cache, at which scratch memory begins: a vector that lies on two is fetched twice.
LINE = 64


_constants: dict[tuple[float, np.dtype], np.ndarray] = {}


def constant(value: float, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A kept array full of one number, to be read only: NumPy compares with a bare number at a quarter of the speed."""
    size, key = math.prod(shape), (value, dtype)
    kept = _constants.get(key)
    if kept is None or kept.size < size:
        kept = _constants[key] = np.full(size, value, dtype)
    return kept[:size].reshape(shape)


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array in this thread's kept buffer `name`; valid until the thread asks for `name` again."""
    views = _local.__dict__.setdefault(name, {})
    key = (shape, dtype)
    if key not in views:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = views.get("buffer")
        if buffer is None or buffer.nbytes < size:
            views.clear()
            whole = np.empty(size + LINE, np.uint8)
            first = -whole.ctypes.data % LINE
            buffer = views["buffer"] = whole[first : first + size]
        views[key] = buffer[:size].view(dtype).reshape(shape)
    return views[key]
