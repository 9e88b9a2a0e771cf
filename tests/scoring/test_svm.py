"""The protocol on features of a few numbers: sets, the choice of C, errors by scikit-learn's own predictions."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from alikit.errors import AlikitError, DataError, UsageError
from alikit.scoring import svm
from alikit.scoring.records import Records
from alikit.scoring.svm import Protocol, Task, labelled_set

SHORT = Protocol(labels=12, repeats=3, grid=5, seed=4)
CLASSES, WIDTH = 3, 6


def data(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    x = rng.normal(size=(count, WIDTH)).astype(np.float32)
    x[np.arange(count), labels] += 1.5
    return x, labels.astype(np.uint8)


def task(prepared: list | None = None) -> Task:
    arrays = {"pool": data(90, 1), "validation": data(60, 2), "test": data(70, 3)}
    rows = {split: (lambda i, x=x: x[i]) for split, (x, _) in arrays.items()}
    keep = (lambda i: None) if prepared is None else prepared.append
    return Task(rows, {split: y for split, (_, y) in arrays.items()}, keep)


def records(folder: Path) -> Records:
    return Records(folder / "svm.jsonl", {})


def run(folder: Path, protocol: Protocol = SHORT, workers: int = 1) -> svm.Outcome:
    return svm.run(task(), protocol, records(folder), workers, "toys", quiet=True)


def test_the_paper_s_constants() -> None:
    protocol = Protocol()
    assert (protocol.labels, protocol.repeats) == (1000, 100)
    exponents = protocol.exponents()
    assert (exponents[0], exponents[-1], len(exponents)) == (-20, 20, 50)
    np.testing.assert_allclose(np.diff(exponents), 40 / 49)
    assert svm.VALIDATION_SETS == 10
    assert svm.validation_count(73_257) == 10_000
    assert svm.validation_count(29_999) == 4_999


def test_labelled_sets_hold_as_many_of_each_class() -> None:
    labels = data(90, 1)[1]
    sets = [labelled_set(labels, 12, number, seed=4) for number in range(40)]
    for rows in sets:
        assert np.bincount(labels[rows]).tolist() == [4, 4, 4]
        assert len(np.unique(rows)) == 12
    assert len({tuple(sorted(rows)) for rows in sets}) == 40
    assert len(np.unique(np.concatenate(sets))) > 80  # drawn from all of the pool
    np.testing.assert_array_equal(labelled_set(labels, 12, 3, 4), sets[3])
    assert not np.array_equal(labelled_set(labels, 12, 3, 5), sets[3])


def test_what_cannot_be_drawn() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    with pytest.raises(UsageError, match="--svm 3: a multiple of the 2 classes is wanted"):
        labelled_set(labels, 3, 0, 0)
    with pytest.raises(DataError, match="class 0 has 2 images to choose from; 3 are wanted"):
        labelled_set(labels, 6, 0, 0)


def error(x: np.ndarray, y: np.ndarray, number: int, c: float) -> float:
    """By scikit-learn alone, on labelled set `number`."""
    pool, labels = data(90, 1)
    rows = labelled_set(labels, 12, number, SHORT.seed)
    model = LinearSVC(C=np.exp(c), random_state=SHORT.seed).fit(pool[rows], labels[rows])
    return float((model.predict(x) != y).mean())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_stage_by_hand(tmp_path: Path) -> None:
    found = run(tmp_path)
    curve = [error(*data(60, 2), 0, c) for c in SHORT.exponents()]
    assert found.curve.tolist() == curve
    assert len(set(curve)) > 2
    c = SHORT.exponents()[int(np.argmin(curve))]
    assert found.c == pytest.approx(np.exp(c))
    assert found.validation.tolist() == [error(*data(60, 2), number, c) for number in range(10)]
    assert found.test.tolist() == [error(*data(70, 3), 10 + number, c) for number in range(3)]
    assert (found.width, found.fits) == (WIDTH, 5 + 10 + 3)


def test_what_is_known_is_not_fitted_again(tmp_path: Path, monkeypatch) -> None:
    whole = run(tmp_path / "whole")
    fits, fit = [], svm.fit

    def counted(*arguments):
        if len(fits) == 8:
            raise KeyboardInterrupt
        fits.append(arguments[2])
        return fit(*arguments)

    monkeypatch.setattr(svm, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    assert len(fits) == 8
    monkeypatch.setattr(svm, "fit", lambda *a: fits.append(a[2]) or fit(*a))
    again = run(tmp_path / "cut")
    assert len(fits) == 5 + 9 + 3  # the first validation set has been fitted for the grid
    for a, b in zip(again, whole, strict=True):
        np.testing.assert_array_equal(a, b)
    run(tmp_path / "cut", Protocol(labels=12, repeats=5, grid=5, seed=4))
    assert len(fits) == 5 + 9 + 5


@pytest.mark.slow
def test_processes_find_the_same(tmp_path: Path) -> None:
    for a, b in zip(run(tmp_path / "a", workers=2), run(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_features_are_prepared_at_once_for_each_stage(tmp_path: Path) -> None:
    prepared: list[np.ndarray] = []
    svm.run(task(prepared), SHORT, records(tmp_path), 1, "toys", quiet=True)
    assert len(prepared) == 3
    assert len(prepared[0]) == 12
    assert len(prepared[1]) > 12


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("classes", [2, 3])
def test_fewer_images_than_features_are_fitted_in_their_own_space(classes: int, stream) -> None:
    """By the same steps to the same planes, also where images lie in a smaller space still: here two are the same."""
    x = stream("x").normal(size=(40, 300)).astype(np.float32)
    x[1] = x[0]
    y = np.arange(40) // 2 % classes
    for c in (1e-4, 1e-2, 1.0):
        *planes, _, converged = svm.fit(x, y, c, seed=3)
        wanted = LinearSVC(C=c, random_state=3).fit(x, y)
        assert converged == (np.max(wanted.n_iter_) < wanted.max_iter)
        for found, array in zip(planes, (wanted.coef_, wanted.intercept_), strict=True):
            np.testing.assert_allclose(found[-len(array) :], array, rtol=0, atol=1e-9 * np.abs(wanted.coef_).max())


def test_fits_that_do_not_converge_are_told(stream) -> None:
    x = np.repeat(stream("x").normal(size=(30, 100)), 2, axis=0)
    y = np.arange(60) % 2  # each point in both classes
    assert [svm.fit(x, y, c, 0)[3] for c in (1e-6, 1e8)] == [True, False]


def test_fits_that_do_not_converge_are_counted(tmp_path: Path, monkeypatch) -> None:
    fit = svm.fit
    monkeypatch.setattr(svm, "fit", lambda x, y, c, seed: (*fit(x, y, c, seed)[:3], c < 1))
    outcome = run(tmp_path)
    assert outcome.c < 1
    assert outcome.unfinished == 3  # c = 0, 10, 20
    assert (tmp_path / "svm.jsonl").read_text().count('"finished": false') == 3


def test_two_classes_have_two_planes() -> None:
    x, y = data(60, 5)
    x, y = x[y < 2], y[y < 2]
    coef, intercept, classes, _ = svm.fit(x, y, 1.0, 0)
    assert coef.shape == (2, WIDTH)
    wanted = LinearSVC(C=1.0, random_state=0).fit(x, y).predict(x)
    np.testing.assert_array_equal(svm.predict(x, coef, intercept, classes), wanted)


def test_without_scikit_learn(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.svm", None)
    with pytest.raises(AlikitError, match=r'--svm needs scikit-learn: pip install "alikit\[eval\]"'):
        run(tmp_path)
