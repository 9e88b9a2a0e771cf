"""The classifier's recipe: its losses by hand, that it learns, goes on where it was, and is the same again."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from alikit.autograd import Tensor, gradcheck
from alikit.data import Dataset
from alikit.errors import DataError, DivergedError
from alikit.training import checkpoint, classifier
from alikit.training.classifier import RECIPE, Recipe, class_count, key, loss, predict, train, weights_hash

SHORT = Recipe(steps=12, batch=8)


def dataset(labels: np.ndarray | None, seed: int = 0) -> Dataset:
    """32 images, dark where the label is 0 and bright where it is 1."""
    rng = np.random.default_rng(seed)
    tone = np.zeros(32) if labels is None else labels.reshape(32, -1)[:, 0]
    images = (60 + 110 * tone[:, None, None, None] + rng.integers(0, 40, (32, 32, 32, 3))).astype(np.uint8)
    return Dataset(name="toy", split="train", source="drawn", checksum=f"{seed}", images=images, labels=labels)


CLASSES = np.arange(32, dtype=np.uint8) % 2


def run(data: Dataset, path: Path, recipe: Recipe = SHORT, stop: int | None = None) -> classifier.Classifier:
    def follow(steps, _total):
        for step in steps:
            if step == stop:
                raise KeyboardInterrupt
            yield step

    return train(data, len(data), path, follow, recipe)[0]


def test_losses_by_hand(stream) -> None:
    logits = 3 * stream("logits").normal(size=(5, 4))
    classes = stream("classes").integers(0, 4, 5)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    one_hot = np.eye(4)[classes]
    wanted = -np.log(shares[np.arange(5), classes]).mean()
    assert loss(Tensor(logits), one_hot, True).item() == pytest.approx(wanted, rel=1e-12)
    attributes = stream("attributes").integers(0, 2, (5, 4)).astype(float)
    chance = 1 / (1 + np.exp(-logits))
    wanted = -(attributes * np.log(chance) + (1 - attributes) * np.log(1 - chance)).mean()
    assert loss(Tensor(logits), attributes, False).item() == pytest.approx(wanted, rel=1e-12)
    for targets, exclusive in ((one_hot, True), (attributes, False)):
        gradcheck(lambda x, t=targets, e=exclusive: loss(x, t, e), [logits])


def test_losses_of_huge_logits_are_finite() -> None:
    logits = Tensor(np.array([[1e4, -1e4], [-1e4, 1e4]]))
    assert loss(logits, np.array([[0.0, 1.0], [0.0, 1.0]]), True).item() == 1e4
    assert loss(logits, np.array([[0.0, 1.0], [0.0, 1.0]]), False).item() == 0.5e4


@pytest.mark.parametrize("labels", [CLASSES, np.stack([CLASSES, 1 - CLASSES], axis=1)], ids=["classes", "attributes"])
def test_it_learns(labels: np.ndarray, tmp_path: Path) -> None:
    data = dataset(labels)
    recipe = replace(SHORT, steps=60, batch=4)  # enough for the running statistics to forget where they began
    _, logits = predict(run(data, tmp_path / "c.h5", recipe), dataset(labels, seed=1).images)
    answers = logits.argmax(axis=1) if labels.ndim == 1 else (logits > 0).astype(np.uint8)
    assert (answers == labels).mean() > 0.9


def test_a_stopped_training_goes_on_and_a_finished_one_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(classifier, "SAVE_EVERY", 5)
    data, path = dataset(CLASSES), tmp_path / "deep" / "c.h5"
    whole = weights_hash(run(data, tmp_path / "whole.h5"))
    with pytest.raises(KeyboardInterrupt):
        run(data, path, stop=7)
    assert weights_hash(run(data, path)) == whole
    assert weights_hash(run(data, path, stop=0)) == whole  # no step is left
    other = run(data, tmp_path / "other.h5", replace(SHORT, seed=1))
    assert weights_hash(other) != whole


def test_without_labels_weights_stay_random_and_statistics_settle(tmp_path: Path) -> None:
    data = dataset(None)
    network = run(data, tmp_path / "c.h5")
    fresh = classifier.Classifier((32, 32, 3), 1, seed=SHORT.seed)
    for (name, trained), (_, start) in zip(network.named_parameters(), fresh.named_parameters(), strict=True):
        np.testing.assert_array_equal(trained.data, start.data, err_msg=name)
    features, _ = predict(network, data.images)
    assert 0.2 < features.std() < 3
    assert class_count(data) == 0


def test_features_do_not_depend_on_the_chunk(tmp_path: Path, monkeypatch) -> None:
    network, images = run(dataset(CLASSES), tmp_path / "c.h5"), dataset(CLASSES).images[:7]
    whole = predict(network, images)
    monkeypatch.setattr(classifier, "CHUNK", 3)
    for a, b in zip(predict(network, images / np.float32(255)), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert predict(network, images[:0])[0].shape == (0, 128)


def test_keys_tell_data_and_recipes_apart() -> None:
    data = dataset(CLASSES)
    keys = {key(data, 32), key(data, 31), key(dataset(CLASSES, 1), 32), key(data, 32, replace(RECIPE, steps=7))}
    assert len(keys) == 4
    assert key(data, 32) == key(dataset(CLASSES), 32)


def test_classes_are_counted() -> None:
    assert class_count(dataset(CLASSES)) == 2
    assert class_count(dataset(np.stack([CLASSES] * 5, axis=1))) == 5
    assert class_count(replace(dataset(CLASSES), label_names=tuple("abc"))) == 3


def test_another_s_file_is_refused(tmp_path: Path) -> None:
    data, path = dataset(CLASSES), tmp_path / "c.h5"
    run(dataset(np.stack([CLASSES] * 5, axis=1)), path)
    with pytest.raises(DataError, match=r"c\.h5: is not this classifier .*delete it"):
        run(data, path)
    path.write_bytes(b"words")
    with pytest.raises(DataError, match=r"c\.h5 is"):
        run(data, path)


def test_another_set_s_classifier_is_named_so_and_not_trained_on(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(classifier, "SAVE_EVERY", 5)
    ours, other, path = dataset(CLASSES), dataset(CLASSES, seed=1), tmp_path / "c.h5"
    whole = run(other, path)
    assert weights_hash(run(ours, path)) == weights_hash(whole)
    assert "c.h5: this classifier was trained on other data" in capsys.readouterr().err
    run(other, path)
    assert capsys.readouterr().err == ""
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(other, path, stop=7)
    with pytest.raises(DataError, match=r"c.h5: a classifier of other data or recipe, not trained to its end"):
        run(ours, path)


def test_where_a_classifier_comes_from(tmp_path: Path) -> None:
    """Its own data and recipe, whoever reads it; nothing, of one that an older version left."""
    ours, other, path = dataset(CLASSES), dataset(CLASSES, seed=1), tmp_path / "c.h5"
    longer = replace(SHORT, steps=13)

    def origin(data: Dataset) -> tuple:
        return train(data, 32, path, lambda steps, _: steps, SHORT)[1]

    run(other, path, longer)
    assert origin(ours) == (key(other, 32, longer), asdict(longer))
    path.unlink()
    assert origin(ours) == origin(ours) == (key(ours, 32, SHORT), asdict(SHORT))
    arrays, meta = checkpoint.load(path)
    checkpoint.save(path, arrays, {name: meta[name] for name in ("classifier_step", "key")})
    assert origin(ours) == (key(ours, 32, SHORT), asdict(SHORT))  # a key is of a recipe
    assert origin(other) == (key(ours, 32, SHORT), None)
    checkpoint.save(path, arrays, {"classifier_step": meta["classifier_step"]})
    assert origin(ours) == (None, None)


def test_divergence_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(classifier, "as_input", lambda *_: np.full((8, 32, 32, 3), np.nan, np.float32))
    with pytest.raises(DivergedError, match="diverged at step 1"):
        run(dataset(CLASSES), tmp_path / "c.h5")
