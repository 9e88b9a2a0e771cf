"""Which images have labels, and how wrong D is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.data import Dataset
from alikit.errors import UsageError
from alikit.nn import Pass
from alikit.training import labels, state
from alikit.training.average import for_looking
from alikit.training.config import CLASSES, PRESETS, Config, resolve
from alikit.training.labels import Exam, history, labelled_feed
from alikit.training.monitor import Monitor

CONFIG = replace(PRESETS["svhn"], labels=20, batch_size=8, width=0.04, nz=3, seed=3, init_std=0.3)
NAMES = tuple("0123456789")


def dataset(stream, count: int = 90) -> Dataset:
    """Ten classes, at least six images of each."""
    rng = stream("images")
    y = np.concatenate([np.repeat(np.arange(10), 6), rng.integers(0, 10, count - 60)]).astype(np.uint8)
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return Dataset(
        name="svhn",
        split="train",
        source="here",
        checksum="",
        images=images,
        labels=rng.permutation(y),
        label_names=NAMES,
    )


def chosen(config: Config, data: Dataset) -> np.ndarray:
    feed = labelled_feed(config, data)
    assert feed is not None
    return np.sort(feed.permutation(0))


def test_as_many_of_each_class_and_the_same_for_a_seed(stream) -> None:
    data = dataset(stream)
    rows = chosen(CONFIG, data)
    assert len(np.unique(rows)) == 20
    assert np.bincount(data.labels_of(rows)).tolist() == [2] * 10
    np.testing.assert_array_equal(chosen(CONFIG, data), rows)
    assert not np.array_equal(chosen(replace(CONFIG, seed=4), data), rows)
    assert chosen(replace(CONFIG, images=80), data).max() < 80
    assert labelled_feed(replace(CONFIG, labels=None), data) is None


def test_batches_of_labelled_images_have_their_classes(stream) -> None:
    data = dataset(stream)
    feed = labelled_feed(CONFIG, data)
    assert feed is not None
    sizes = []
    for step in range(4):
        batch, rows = feed.batch(step), feed.indices(step)
        np.testing.assert_allclose(batch.x, data.images[rows] / 255, rtol=1e-6)
        assert batch.y.shape == (len(rows), 1, 1, 10)
        np.testing.assert_array_equal(batch.y.reshape(len(rows), 10).argmax(axis=1), data.labels_of(rows))
        np.testing.assert_array_equal(batch.y.sum(axis=-1), 1)
        sizes.append(len(rows))
    assert sizes == [8, 8, 4, 8]  # an epoch of 20
    orders = [labelled_feed(replace(CONFIG, seed=seed), data).order.permutation(0) for seed in (3, 3, 4)]
    assert [np.array_equal(order, orders[0]) for order in orders] == [True, True, False]
    assert len(labelled_feed(replace(CONFIG, labelled_batch=5), data).batch(0).x) == 5
    assert len(labelled_feed(replace(CONFIG, batch_size=30), data).batch(0).x) == 20  # all there are


def test_more_labels_than_images(stream) -> None:
    with pytest.raises(UsageError, match=r"--labels 90: class \d has \d+ images to choose from; 9 are wanted"):
        labelled_feed(replace(CONFIG, labels=90), dataset(stream))
    with pytest.raises(UsageError, match="--labels: here has no images of some classes"):
        labelled_feed(replace(CONFIG, images=12), dataset(stream))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("svhn", {"labels": 7}, "--labels 7: a multiple of the 10 classes is wanted"),
        ("svhn", {"labels": 0}, "--labels 0: a multiple of the 10 classes is wanted"),
        ("svhn", {"labels": 1005}, "--labels 1005: a multiple of the 10 classes is wanted"),
        ("celeba", {"labels": 100}, "--labels: celeba has no classes; svhn and cifar10 have"),
        ("mixture", {"labels": 100}, "--labels: mixture has no classes"),
        ("folder", {"labels": 100, "size": 32}, "--labels: folder has no classes"),
        ("svhn", {"labels": 100, "game": "gan"}, "--labels: goes with --model ali, not with gan"),
        (
            "svhn",
            {"labels": 100, "reconstruction": 1.0},
            "--labels: goes with --model ali, not with .* --reconstruction",
        ),
        ("svhn", {"labelled_batch": 10}, "--labelled-batch: goes with --labels"),
        ("svhn", {"labels": 20, "labelled_batch": 21}, "--labelled-batch 21: there are 20 labels"),
        (
            "svhn",
            {"labels": 20, "conditional": True},
            "--labels: D tells the classes of images; with --conditional it is told",
        ),
    ],
)
def test_what_does_not_go_with_labels(name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(name, options)


def test_d_has_a_logit_for_each_class() -> None:
    for name, count in CLASSES.items():
        config = replace(PRESETS[name], labels=100, width=0.04)
        assert state.build_model(config).discriminator.xz.layers[-1].conv.weight.shape[0] == count
        assert state.build_model(replace(config, labels=None)).discriminator.xz.layers[-1].conv.weight.shape[0] == 1


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_error_is_that_of_the_largest_logit_as_the_model_is_looked_at(ema, stream, monkeypatch) -> None:
    """By population statistics, without dropout; the encoder averaged where the run averages."""
    monkeypatch.setattr(labels, "CHUNK", 40)
    data = dataset(stream)
    trainer = state.build_trainer(replace(CONFIG, ema=ema, lr=0.02))
    trainer.reference = stream("reference").random((20, 32, 32, 3), np.float32)
    feed = labels.labelled_feed(CONFIG, data)
    for step in range(3):
        trainer.step(labels.Feed(data, 8, 0, labelled=feed).batch(step), step)
    exam, how, x = Exam(data, CONFIG), Pass(seed=9), data.images.astype(np.float32) / 255
    model, wrong = trainer.model, []
    with for_looking(trainer):
        for start in (0, 40, 80):
            part = Tensor(x[start : start + 40])
            z = model.encode(part, how._replace(step=start))
            found = model.discriminator(part, z, Pass()).data.reshape(-1, 10)
            wrong.append(found.argmax(axis=1) != data.labels[start : start + 40])
        assert exam.error(model, how, np.arange(90)) == np.concatenate(wrong).mean()
        assert exam.error(model, how, np.arange(40)) == wrong[0].mean()
    assert 0 < np.concatenate(wrong).mean() < 1


def test_a_perfect_and_a_useless_d(stream, monkeypatch) -> None:
    data = dataset(stream)
    exam = Exam(data, CONFIG)
    y = data.labels[exam.all]
    answers = np.eye(10)[y]
    monkeypatch.setattr(labels, "class_logits", lambda model, x, how: answers[how.step : how.step + len(x)])
    model = state.build_model(CONFIG)
    assert exam.error(model, Pass(), exam.all) == 0
    answers = -answers
    assert exam.error(model, Pass(), exam.all) == 1
    assert exam.chance(exam.all) == pytest.approx(1 - np.bincount(y).max() / 90)


def test_a_look_measures_draws_the_curve_and_ends_with_all_images(tmp_path: Path, stream, monkeypatch) -> None:
    monkeypatch.setattr(labels, "SUBSET", 30)
    data = dataset(stream)
    config = replace(CONFIG, labels=1000)
    exam = Exam(data, config)
    assert len(np.unique(exam.subset)) == 30
    assert not np.array_equal(exam.subset, np.arange(30))
    errors = []
    monkeypatch.setattr(exam, "error", lambda model, how, rows: len(rows) / 100)
    monkeypatch.setattr(labels.plots, "error_curve", lambda *a: errors.append(a) or np.zeros((4, 4, 3), np.uint8))
    found = exam.look(None, Pass(), tmp_path, 2, False)
    assert found == {"test_error": 0.3}
    lines = [
        {"step": 1},
        {"step": 2, "test_error": 0.3},
        {"step": 4, "test_error": 0.2},
        {"step": 6, "test_error": 0.1},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = exam.look(None, Pass(), tmp_path, 6, True)
    assert found == {"test_error": 0.3, "test_error_all": 0.9, "test_images": 90}
    chance = exam.chance(exam.subset)
    assert errors == [([2], [0.3], chance, 7.42), ([2, 4, 6], [0.3, 0.2, 0.3], chance, 7.42)]
    assert (tmp_path / labels.PICTURE).exists()
    assert history(tmp_path, 100) == ([2, 4, 6], [0.3, 0.2, 0.1])


def test_the_monitor_looks_at_the_exam_with_the_averaged_weights(tmp_path: Path, stream) -> None:
    trainer = state.build_trainer(replace(CONFIG, ema=1.0))
    trainer.ema.state()["encoder.layers.0.conv.weight"][...] = 0.25
    monitor = Monitor(trainer, stream("x").random((4, 32, 32, 3), np.float32), tmp_path, None, 0.0)
    seen = []

    class Watching(Exam):
        def look(self, model, how, run, step, last):
            seen.append((float(model.encoder.layers[0].conv.weight.data.ravel()[0]), step, last, how.training))
            return {"test_error": 0.5}

    monitor.exam = Watching(dataset(stream), CONFIG)
    assert monitor.look(7, last=True)["test_error"] == 0.5
    assert seen == [(0.25, 7, True, False)]
