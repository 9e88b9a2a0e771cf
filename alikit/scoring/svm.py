"""Features for few labels: linear SVMs on small labelled sets, the protocol of the paper's code (method 6.1).

1. The pool is the training split without its last 10,000 images, which are for validation.
2. A labelled set holds N images of the pool, as many of each class.
3. scikit-learn's LinearSVC with its defaults (squared hinge, L2 penalty, one against the rest), C = exp(c) with c on 50
   evenly spaced points from -20 to 20, each trained on one labelled set: the C of least validation error is kept, the
   smallest of equals. With it 10 sets, that one first, give the validation error.
4. 100 further labelled sets, an SVM each, give the test error: mean and population standard deviation.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from alikit import console
from alikit.data import balanced_set
from alikit.errors import AlikitError, UsageError
from alikit.scoring.records import Records

VALIDATION = 10_000
VALIDATION_SETS = 10
GRID = (-20.0, 20.0, 50)  # c from, to, points
TEST_SETS = 100
BLOCK = 1000

Rows = Callable[[np.ndarray], np.ndarray]  # indices -> features (n, F)


@dataclass(frozen=True)
class Protocol:
    """labels: in a labelled set;  repeats: test sets;  grid: values of C;  seed: of the sets, and of liblinear's order.

    The paper's code has 1000, 100 and 50.
    """

    labels: int = 1000
    repeats: int = TEST_SETS
    grid: int = GRID[2]
    seed: int = 0

    def exponents(self) -> np.ndarray:
        """The c of C = exp(c)."""
        return np.linspace(GRID[0], GRID[1], self.grid)


class Task(NamedTuple):
    """Features by index and labels (n,), by split: "pool", "validation" and "test".

    prepare   has the features of images of the pool made, all at once, with progress
    """

    rows: dict[str, Rows]
    labels: dict[str, np.ndarray]
    prepare: Callable[[np.ndarray], None]


class Outcome(NamedTuple):
    """Errors are shares: validation (10,), test (repeats,); curve: validation error for each C, (grid,).

    unfinished   fits among `fits` that liblinear's 1,000 iterations did not bring to an end
    """

    width: int
    c: float
    curve: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    unfinished: int
    fits: int


def validation_count(images: int) -> int:
    """Images at the end of the training split that are for validation: 10,000, or a sixth of a smaller split."""
    return VALIDATION if images >= 3 * VALIDATION else images // 6


def labelled_set(labels: np.ndarray, count: int, number: int, seed: int) -> np.ndarray:
    """The indices of labelled set 0, 1, ...: `count` of labels: (n,), as many of each class, (count,) in class order.

    UsageError where `count` is no multiple of the classes, DataError where a class has too few images.
    """
    classes = len(np.unique(labels))
    if count % classes or not count:
        raise UsageError(f"--svm {count}: a multiple of the {classes} classes is wanted")
    return balanced_set(labels, count, number, seed)


def run(task: Task, protocol: Protocol, records: Records, workers: int, what: str, quiet: bool = False) -> Outcome:
    """The whole protocol on one kind of features. Fits that `records` knows are not made again."""
    _need_sklearn()
    stages = _Stages(task, protocol, records, what, quiet)
    with _pool(workers) as pool:
        stages.fit = lambda tasks: _windowed(pool, tasks, workers)
        curve = stages.errors("grid", [(0, float(c)) for c in protocol.exponents()], "validation")
        c = float(protocol.exponents()[int(np.argmin(curve))])
        checks = [(n, c) for n in range(VALIDATION_SETS)]
        validation = stages.errors("validation", checks, "validation")
        tests = [(VALIDATION_SETS + n, c) for n in range(protocol.repeats)]
        test = stages.errors("test", tests, "test")
    fits = len(curve) + len(validation) + len(test)
    return Outcome(stages.width, float(np.exp(c)), curve, validation, test, stages.unfinished, fits)


class _Stages:
    """The protocol's stages share their task, what is known already, and what they count."""

    def __init__(self, task: Task, protocol: Protocol, records: Records, what: str, quiet: bool):
        self.task, self.protocol, self.records, self.what, self.quiet = task, protocol, records, what, quiet
        self.fit: Callable[[Iterable[tuple]], Iterator[tuple]]
        self.unfinished = 0
        self.width = task.rows["pool"](self._set(0)[:1]).shape[1]

    def errors(self, stage: str, fits: list[tuple[int, float]], split: str) -> np.ndarray:
        """Errors (n,) of the fits [(labelled set, c)], judged on the images of a split."""
        known = [self.records.get(split=split, set=number, c=c) for number, c in fits]
        missing = [fit for fit, record in zip(fits, known, strict=True) if record is None]
        if missing:
            self.task.prepare(np.unique(np.concatenate([self._set(n) for n in {number for number, _ in missing}])))
            labels = self.task.labels[split]
            images = self.task.rows[split](np.arange(len(labels)))
            results = zip(missing, self.fit(map(self._fit_task, missing)), strict=True)
            for (number, c), (*planes, done) in console.follow(
                results, len(missing), f"SVMs on {self.what}, {stage}", self.quiet
            ):
                error = float((predict(images, *planes) != labels).mean())
                self.records.add({"error": error, "finished": done}, split=split, set=number, c=c)
        found = [self.records.get(split=split, set=number, c=c) for number, c in fits]
        self.unfinished += sum(not record["finished"] for record in found if record)
        return np.array([record["error"] for record in found if record])

    def _set(self, number: int) -> np.ndarray:
        return labelled_set(self.task.labels["pool"], self.protocol.labels, number, self.protocol.seed)

    def _fit_task(self, fit: tuple[int, float]) -> tuple:
        rows = self._set(fit[0])
        return self.task.rows["pool"](rows), self.task.labels["pool"][rows], float(np.exp(fit[1])), self.protocol.seed


def fit(x: np.ndarray, y: np.ndarray, c: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """LinearSVC on x: (n, F), y: (n,) -> coefficients (K, F), intercepts (K,), classes (K,), whether it converged.

    Where images are much fewer than features, liblinear is given their coordinates in the space that they span.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    basis: np.ndarray | None = None
    dual: bool | str = "auto"
    if 2 * len(x) <= x.shape[1]:
        dual = True  # as "auto" has it for such x
        x, basis = _spanned(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted and reported instead
        svm = LinearSVC(C=c, dual=dual, random_state=seed).fit(x, y)
    coef, intercept = svm.coef_ if basis is None else svm.coef_ @ basis.T, svm.intercept_
    if len(svm.classes_) == 2:  # scikit-learn gives one plane for two classes
        coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
    return coef, intercept, svm.classes_, bool(np.max(svm.n_iter_) < svm.max_iter)


#: What `_spanned` was last asked for (by its hash), and what it found.
_newest: tuple[bytes, np.ndarray, np.ndarray] | None = None


def _spanned(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x: (n, F) -> z: (n, n) and an orthonormal basis (F, n) with x = z basis^T, by a QR decomposition.

    liblinear's steps follow from the inner products of x, which are those of z. And z is triangular, of which it reads
    half: for 1,000 images with 5,376 features a tenth of the numbers. The newest is kept, since all values of C are
    tried on one labelled set.
    """
    global _newest
    key = hashlib.blake2b(np.ascontiguousarray(x).data).digest()
    if _newest is None or _newest[0] != key:
        basis, r = np.linalg.qr(x.T.astype(np.float64))
        _newest = key, r.T, basis
    return _newest[1:]


def predict(x: np.ndarray, coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The classes (n,) of x: (n, F), as LinearSVC.predict: in float64, but block by block."""
    blocks = (x[start : start + BLOCK].astype(np.float64) for start in range(0, len(x), BLOCK))
    return np.concatenate([classes[np.argmax(block @ coef.T + intercept, axis=1)] for block in blocks])


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Processes to fit in; None for one worker: this one. liblinear draws from one generator a process, so that fits
    in threads would depend on one another."""
    if workers == 1:
        yield None
        return
    fresh = multiprocessing.get_context("spawn")  # a fork would take our kernels' threads half along
    executor = ProcessPoolExecutor(workers, mp_context=fresh, initializer=_begin)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")  # there is a process for each core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends its workers


def _windowed(pool: Executor | None, tasks: Iterable[tuple], workers: int) -> Iterator[tuple]:
    """`fit` of each task, in order, a few at a time: every task carries its features along."""
    if pool is None:
        yield from (fit(*task) for task in tasks)
        return
    pending: deque[Future[Any]] = deque()
    for task in tasks:
        pending.append(pool.submit(fit, *task))
        if len(pending) > workers:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _need_sklearn() -> None:
    try:
        import sklearn.svm  # noqa: F401
    except ImportError:
        raise AlikitError('--svm needs scikit-learn: pip install "alikit[eval]"') from None
