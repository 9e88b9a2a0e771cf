"""Work that is left to another thread: who waits for it, where its errors go, what it keeps."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Function, Tensor, grad, row_grad
from alikit.kernels.cpu import conv, parallel
from alikit.kernels.cpu.adam import adam_step
from alikit.kernels.cpu.parallel import later, set_threads, settle, split, threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = threads()
    yield
    set_threads(before)


def nothing(start: int, stop: int, part: int) -> None:
    """A share of no work."""


def test_what_is_left_to_another_thread_is_there_after_settling() -> None:
    set_threads(2)
    begun, go, ran_on = threading.Event(), threading.Event(), []

    def job() -> None:
        begun.set()
        go.wait(10)
        ran_on.append(threading.get_ident())

    later(job, work=parallel.SMALL)
    assert begun.wait(10)
    assert ran_on == []  # the caller has gone on
    go.set()
    settle()
    settle()
    assert len(ran_on) == 1
    assert ran_on[0] != threading.get_ident()


def test_who_waits_does_what_nobody_has_begun() -> None:
    """From the end: the other thread comes from the beginning."""
    set_threads(2)
    begun, go, ran = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go.wait(10)
        ran.append(("first", threading.get_ident()))

    def last() -> None:
        ran.append(("last", threading.get_ident()))
        go.set()

    me = threading.get_ident()
    later(first, work=parallel.SMALL)
    assert begun.wait(10)
    later(lambda: ran.append(("second", threading.get_ident())), work=parallel.SMALL)
    later(last, work=parallel.SMALL)
    settle()
    assert ran[0] == ("last", me)
    assert sorted(name for name, _ in ran) == ["first", "last", "second"]
    assert dict(ran)["first"] != me


def test_the_caller_takes_more_of_what_is_soon_done() -> None:
    """It begins at once, the others once they are awake."""
    set_threads(2)
    shares = dict[int, int]()
    for work in (parallel.SMALL, float("inf")):
        split(lambda start, stop, part: shares.__setitem__(part, stop - start), 1000, work=work)
        assert sum(shares.values()) == 1000
        assert (shares[0] - shares[1]) / 1000 == pytest.approx(parallel.HEAD_START / work, abs=3e-3)


@pytest.mark.parametrize(("workers", "work"), [(1, float("inf")), (2, parallel.SMALL / 8)])
def test_what_is_not_worth_it_is_done_at_once(workers: int, work: float) -> None:
    set_threads(workers)
    ran_on = []
    later(lambda: ran_on.append(threading.get_ident()), work=work)
    assert ran_on == [threading.get_ident()]


def test_an_error_in_what_was_left_is_raised_once_and_by_settle() -> None:
    set_threads(2)
    done = []
    later(lambda: 1 // 0, work=parallel.SMALL)
    later(lambda: done.append(1), work=parallel.SMALL)
    with pytest.raises(ZeroDivisionError):
        settle()
    assert done == [1]
    settle()
    assert split(nothing, 2) == 2


def test_small_work_is_split_among_the_others_and_large_work_waits() -> None:
    """By sizes alone, so that the same thread count gives the same bytes."""
    set_threads(3)
    done: list[int] = []

    def job() -> None:
        time.sleep(0.02)
        done.append(1)

    later(job, work=parallel.SMALL)
    assert split(nothing, 30, work=parallel.LARGE - 1) == 2
    assert split(nothing, 30, work=parallel.LARGE) == 3
    assert done == [1]


def test_another_number_of_threads_loses_nothing() -> None:
    set_threads(2)
    done: list[int] = []
    later(lambda: (time.sleep(0.02), done.append(1)), work=parallel.SMALL)
    set_threads(3)
    assert done == [1]


@pytest.mark.parametrize("cotangents", [1, 2])
def test_gradients_of_a_weight_that_are_still_computed_are_waited_for(
    cotangents: int, monkeypatch: pytest.MonkeyPatch, stream: Callable
) -> None:
    """By `grad` at its end, and by the walk where two layers share a weight and it adds up what each of them makes."""
    monkeypatch.setattr(parallel, "SMALL", 4)
    set_threads(2)
    x, w = (stream(name).standard_normal((4, 1, 1, 4)).astype(np.float32) for name in "xw")
    weight, leave = Tensor(w, requires_grad=True), parallel._Pool.leave
    monkeypatch.setattr(parallel._Pool, "leave", lambda pool, job: leave(pool, lambda: (time.sleep(0.05), job())))
    y = Tensor(x)
    for _ in range(cotangents):
        y = ops.conv2d(y, weight, partials=True)[0]
    ((found,),) = grad([ops.sum(y)], [[weight]])
    g = found.reshape(4, 4).copy()
    wanted = np.ones((4, 4)) @ x.reshape(4, 4)
    if cotangents == 2:
        whole = w.reshape(4, 4).astype(float)
        inner = x.reshape(4, 4) @ whole.T
        wanted = np.ones((4, 4)) @ inner + (np.ones((4, 4)) @ whole).T @ x.reshape(4, 4)
    np.testing.assert_allclose(g, wanted, rtol=1e-4, atol=1e-5)


def test_adam_waits_for_gradients(monkeypatch: pytest.MonkeyPatch, stream: Callable) -> None:
    monkeypatch.setattr(parallel, "SMALL", 4)
    set_threads(2)
    x, gy = (stream(name).standard_normal((4, 1, 1, 4)).astype(np.float32) for name in ("x", "gy"))
    later(lambda: time.sleep(0.05), work=parallel.SMALL)
    gw = conv.conv2d_weight_grad(x, gy, (1, 1), partials=True)
    p, m, v = np.zeros((3, 16), np.float32)
    adam_step([gw], out=p, out_m=m, out_v=v, step=1, lr=1.0, beta1=0.0, beta2=0.0, eps=1.0)
    np.testing.assert_allclose(m.reshape(4, 4), gy.reshape(4, 4).T @ x.reshape(4, 4), rtol=1e-4, atol=1e-5)


def test_a_walk_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    set_threads(2)

    class Fails(Function):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return x

        def backward(self, gy: np.ndarray) -> np.ndarray:
            later(lambda: time.sleep(0.02), work=parallel.SMALL)
            raise ZeroDivisionError

    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        grad([ops.sum(Fails()(x))], [[x]])
    assert not parallel._own.left


def test_a_walk_that_others_follow_does_not_wait(monkeypatch: pytest.MonkeyPatch, stream: Callable) -> None:
    """Gradients of D's weights are filled while the walk through the generators goes on, whose end waits for them."""
    monkeypatch.setattr(parallel, "SMALL", 4)
    set_threads(2)
    go, leave = threading.Event(), parallel._Pool.leave
    monkeypatch.setattr(parallel._Pool, "leave", lambda pool, job: leave(pool, lambda: (go.wait(5), job())))
    x, w, v = (Tensor(stream(n).standard_normal((4, 1, 1, 4)).astype(np.float32), requires_grad=True) for n in "xwv")
    made = ops.conv2d(x, w, partials=True)[0]
    y = ops.conv2d(made, v, partials=True)[0]
    ones = np.ones((4, 1, 1, 1), np.float32)
    (of_v,), (of_made,) = row_grad(y, [v], ones, [made], np.ones_like(y.data))
    assert len(parallel._own.left) == 1
    go.set()
    grad([made], [[w]], gys=[of_made])
    assert not parallel._own.left
    wanted = np.ones((4, 4)) @ made.data.reshape(4, 4)
    np.testing.assert_allclose(of_v.reshape(4, 4), wanted, rtol=1e-4, atol=1e-5)


def test_wrong_upstream_gradients_are_found_before_any_walk(monkeypatch: pytest.MonkeyPatch, stream: Callable) -> None:
    monkeypatch.setattr(parallel, "SMALL", 4)
    set_threads(2)
    x, w = (Tensor(stream(n).standard_normal((4, 1, 1, 4)).astype(np.float32), requires_grad=True) for n in "xw")
    y = ops.conv2d(x, w, partials=True)[0]
    with pytest.raises(ValueError, match="upstream gradient has shape"):
        grad([y, y], [[w], [w]], gys=[np.ones_like(y.data), np.ones(3)])
    assert not parallel._own.left


def test_what_a_thread_leaves_is_its_own() -> None:
    """Whoever else settles neither waits for it nor hears of its errors."""
    set_threads(2)
    left, go, heard = threading.Event(), threading.Event(), []

    def work() -> None:
        later(lambda: (go.wait(10), 1 / 0), work=parallel.SMALL)
        left.set()
        go.wait(10)
        with pytest.raises(ZeroDivisionError):
            settle()
        heard.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    assert left.wait(10)
    settle()
    assert not go.is_set()
    go.set()
    thread.join()
    assert heard


def test_what_is_done_is_forgotten() -> None:
    """Before anyone settles: arrays of one walk would be kept through the next."""
    set_threads(2)
    array = np.ones(3)
    kept = weakref.ref(array)
    split(partial(lambda array, *_share: array.sum(), array), 2)
    later(partial(np.sum, array), work=parallel.SMALL)
    del array
    for _ in range(200):
        if kept() is None:
            break
        time.sleep(0.01)
    assert kept() is None
