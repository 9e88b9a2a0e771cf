"""Static shares on threads, errors that reach the caller, and scratch memory."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from alikit.kernels.cpu import conv, parallel, patches
from alikit.kernels.cpu.parallel import set_threads, split, threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = threads()
    yield
    set_threads(before)


def shares(count: int, **options: float) -> list[tuple[int, int, int]]:
    """What `split` called, by part; and that it says how many parts there were."""
    calls: list[tuple[int, int, int]] = []
    assert split(lambda start, stop, part: calls.append((start, stop, part)), count, **options) == len(calls)
    return sorted(calls, key=lambda call: call[2])


@pytest.mark.parametrize("align", [1, 4, 16])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 16, 33, 100, 101])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_shares_cover_the_range_once_and_in_order(workers: int, count: int, align: int) -> None:
    set_threads(workers)
    calls = shares(count, align=align)
    assert [part for _, _, part in calls] == list(range(len(calls)))
    assert 1 <= len(calls) <= workers
    assert [start for start, _, _ in calls] == [0, *[stop for _, stop, _ in calls[:-1]]]
    assert calls[-1][1] == count
    assert all(start % align == 0 for start, _, _ in calls)
    sizes = [stop - start for start, stop, _ in calls]
    assert count == 0 or (min(sizes) > 0 and max(sizes) - min(sizes) <= 2 * align)


@pytest.mark.parametrize("workers", [2, 16, 33])
@pytest.mark.parametrize("spare", [0, 1, 5, 200])
@pytest.mark.parametrize("align", [1, 16])
def test_nobody_s_share_is_empty_however_large_the_caller_s(workers: int, spare: int, align: int) -> None:
    set_threads(workers)
    calls = shares((workers + spare) * align + align - 1, work=parallel.SMALL, align=align)
    sizes = [stop - start for start, stop, _ in calls]
    assert len(calls) == workers
    assert min(sizes) > 0
    assert sizes[0] >= max(sizes[1:]) - 2 * align


def test_shares_run_side_by_side_and_small_work_stays_with_the_caller() -> None:
    set_threads(2)
    meeting = threading.Barrier(2, timeout=10)
    ran_on = {}

    def meet(_start: int, _stop: int, part: int) -> None:
        meeting.wait()  # passes only if both shares run at once
        ran_on[part] = threading.get_ident()

    assert split(meet, 2) == 2
    assert ran_on[0] == threading.get_ident() != ran_on[1]
    assert shares(100, work=parallel.SMALL - 1) == [(0, 100, 0)]
    assert len(shares(100, work=parallel.SMALL)) == 2


@pytest.mark.parametrize("part", [0, 1, 2])
def test_an_error_in_any_share_reaches_the_caller_after_all_have_ended(part: int) -> None:
    set_threads(3)
    ended = []

    def fail(_start: int, _stop: int, this: int) -> None:
        if this == part:
            raise ZeroDivisionError(f"in part {this}")
        time.sleep(0.02)
        ended.append(this)

    with pytest.raises(ZeroDivisionError, match=f"in part {part}"):
        split(fail, 3)
    assert sorted(ended) == sorted({0, 1, 2} - {part})
    assert len(shares(3)) == 3  # and the workers live on


def test_an_error_inside_a_kernel_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SMALL", 0)
    set_threads(2)
    caller = threading.get_ident()

    def out_of_memory(x: np.ndarray, *_arguments: object) -> np.ndarray:
        if threading.get_ident() != caller:
            raise MemoryError("no columns today")
        return np.zeros((9 * len(x), 18))

    with monkeypatch.context() as broken:
        broken.setattr(patches, "im2col", out_of_memory)
        with pytest.raises(MemoryError, match="no columns today"):
            conv.conv2d(np.ones((4, 5, 5, 2)), np.ones((3, 3, 3, 2)))
    y, _ = conv.conv2d(np.ones((4, 5, 5, 2)), np.ones((3, 3, 3, 2)))
    np.testing.assert_array_equal(y, 18)


def test_callers_on_several_threads_do_not_disturb_each_other(
    monkeypatch: pytest.MonkeyPatch, stream: Callable
) -> None:
    monkeypatch.setattr(parallel, "SMALL", 0)
    set_threads(2)
    x, w = stream("x").standard_normal((6, 8, 8, 3)), stream("w").standard_normal((4, 3, 3, 3))
    wanted = conv.conv2d(x, w)[0]
    wrong = []

    def caller() -> None:
        for _ in range(20):
            if not np.array_equal(conv.conv2d(x, w)[0], wanted):
                wrong.append(1)

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(timeout=30)
    assert not any(each.is_alive() for each in callers)
    assert not wrong


def test_set_threads_ends_the_workers_it_no_longer_needs() -> None:
    set_threads(1)
    before = set(threading.enumerate())
    set_threads(4)
    workers = set(threading.enumerate()) - before
    assert (threads(), len(workers)) == (4, 3)
    set_threads(1)
    for worker in workers:
        worker.join(timeout=10)
    assert not any(worker.is_alive() for worker in workers)


def test_blas_is_left_one_thread_beside_our_own() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(2, user_api="blas"):  # what the tests' own limit would hide
        set_threads(2)
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.parametrize("resize", [set_threads, parallel.resize_pool])
def test_no_threads_at_all_are_refused(resize: Callable[[int], None], count: int) -> None:
    set_threads(2)
    with pytest.raises(ValueError, match=f"set_threads: at least one thread, found {count}"):
        resize(count)
    assert len(shares(100)) == threads() == 2  # as before


def test_scratch_is_kept_by_name_and_grows() -> None:
    a = parallel.scratch("test", (3, 4), np.dtype(np.float64))
    assert (a.shape, a.dtype, a.flags.c_contiguous) == ((3, 4), np.float64, True)
    assert np.shares_memory(a, parallel.scratch("test", (5,), np.dtype(np.float32)))
    assert not np.shares_memory(a, parallel.scratch("another", (3, 4), np.dtype(np.float64)))
    larger = parallel.scratch("test", (30, 4), np.dtype(np.float64))
    assert larger.shape == (30, 4)
    assert np.shares_memory(larger, parallel.scratch("test", (3, 4), np.dtype(np.float64)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_scratch_begins_with_a_line_of_cache(dtype: type) -> None:
    """Also once it has grown; NumPy's own memory does by chance, one time in four."""
    for count in (1, 7, 100, 1000, 10_000, 100_000):
        for name in ("one of", "another of"):
            array = parallel.scratch(f"{name} {dtype.__name__}", (count,), np.dtype(dtype))
            assert array.ctypes.data % parallel.LINE == 0


def test_scratch_belongs_to_its_thread() -> None:
    set_threads(2)
    buffers: dict[int, np.ndarray] = {}

    def ask(_start: int, _stop: int, part: int) -> None:
        buffers[part] = parallel.scratch("test", (10,), np.dtype(np.float64))

    split(ask, 2)
    assert not np.shares_memory(buffers[0], buffers[1])
