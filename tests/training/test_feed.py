"""Batches as the networks want them, and which data a run is looked at with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alikit.data import Dataset, open_dataset
from alikit.errors import DataError, UsageError
from alikit.training.conditions import one_hot
from alikit.training.config import PRESETS
from alikit.training.feed import Feed, as_input, held_out


def dataset(images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    names = tuple("abcdefg") if labels is not None and labels.ndim == 1 else ()
    return Dataset(
        name="svhn", split="train", source="here", checksum="", images=images, labels=labels, label_names=names
    )


@pytest.fixture
def images(stream) -> np.ndarray:
    return stream("images").integers(0, 256, (23, 4, 5, 3), np.uint8)


def test_only_the_first_images_are_used_where_so_asked() -> None:
    images = np.arange(40, dtype=np.uint8).repeat(4 * 4 * 3).reshape(40, 4, 4, 3)
    feed = Feed(dataset(images), 10, seed=3, images=20)
    seen = np.concatenate([feed.batch(step).x for step in range(2)])[:, 0, 0, 0] * 255
    np.testing.assert_array_equal(np.sort(np.rint(seen)), np.arange(20))
    assert feed.order.steps_per_epoch == 2


def test_batches_are_scaled_images_in_the_epoch_s_order(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 10, seed=3)
    batches = [feed.batch(step).x for step in range(3)]
    assert [batch.shape for batch in batches] == [(10, 4, 5, 3), (10, 4, 5, 3), (3, 4, 5, 3)]
    for step, batch in enumerate(batches):
        assert batch.dtype == np.float32
        np.testing.assert_allclose(batch, images[feed.order.batch_indices(step)] / 255, rtol=1e-6)
    everything = np.sort(np.concatenate(batches), axis=0)
    np.testing.assert_allclose(everything, np.sort(images / np.float32(255), axis=0), rtol=1e-6)


def test_any_step_s_batch_comes_from_seed_and_step_alone(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 10, seed=3)
    later = feed.batch(7).x
    feed.batch(0)
    np.testing.assert_array_equal(feed.batch(7).x, later)
    np.testing.assert_array_equal(Feed(dataset(images), 10, seed=3).batch(7).x, later)
    assert not np.array_equal(Feed(dataset(images), 10, seed=4).batch(7).x, later)


def test_the_first_images_alone(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 5, seed=3, images=12)
    assert feed.order.n == 12
    seen = {image.tobytes() for step in range(30) for image in feed.batch(step).x}
    assert seen == {image.tobytes() for image in as_input(dataset(images), np.arange(12))}
    assert {image.tobytes() for image in feed.mean_images()} == seen
    assert Feed(dataset(images), 5, seed=3, images=99).order.n == 23


def test_mapped_images_and_images_in_memory_are_the_same_input(images: np.ndarray, tmp_path: Path) -> None:
    images.tofile(tmp_path / "images")
    mapped = dataset(np.memmap(tmp_path / "images", np.uint8, "r", shape=images.shape))
    indices = np.array([5, 0, 22, 5])
    assert mapped.array is None
    np.testing.assert_array_equal(as_input(mapped, indices), as_input(dataset(images), indices))
    levels = dataset(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    assert as_input(levels, np.array([0, 1])).ravel().tolist() == [0, 1]


def test_points_are_images_of_one_pixel_unscaled() -> None:
    mixture = open_dataset("mixture")
    x = Feed(mixture, 6, seed=0).batch(0).x
    assert x.shape == (6, 1, 1, 2)
    assert x.dtype == np.float32
    assert np.abs(x).max() > 1
    np.testing.assert_array_equal(as_input(mixture, np.array([4]))[0, 0, 0], mixture.images[4])


def test_conditions_are_the_labels_of_the_same_images(images: np.ndarray, stream) -> None:
    classes, plain = stream("classes").integers(0, 7, 23, np.uint8), Feed(dataset(images), 10, seed=3)
    feed = Feed(dataset(images, classes), 10, seed=3, conditions=True)
    for step in (0, 2, 5):
        batch = feed.batch(step)
        np.testing.assert_array_equal(batch.x, plain.batch(step).x)
        assert (batch.y.shape, batch.y.dtype) == ((len(batch.x), 1, 1, 7), np.float32)
        np.testing.assert_array_equal(batch.y.reshape(-1, 7).argmax(axis=1), classes[feed.order.batch_indices(step)])
        assert (batch.y.sum(axis=3) == 1).all()
        assert batch.labelled is None
    assert plain.batch(0).y is None


def test_attributes_are_conditions_as_they_are(images: np.ndarray, stream) -> None:
    attributes = stream("attributes").integers(0, 2, (23, 5), np.uint8)
    feed = Feed(dataset(images, attributes), 23, seed=3, conditions=True)
    np.testing.assert_array_equal(feed.batch(1).y[:, 0, 0], attributes[feed.order.batch_indices(1)])
    with pytest.raises(UsageError, match="svhn has no labels to condition on"):
        Feed(dataset(images), 10, seed=3, conditions=True).batch(0)


def test_the_digits_drawn_on_demand_have_conditions() -> None:
    drawn = open_dataset("svhn", data="synthetic")
    batch = Feed(drawn, 5, seed=0, conditions=True).batch(0)
    indices = Feed(drawn, 5, seed=0).indices(0)
    np.testing.assert_array_equal(batch.y.reshape(5, 10).argmax(axis=1), drawn.labels_of(indices))


def test_labelled_images_come_beside_in_an_order_of_their_own(images: np.ndarray, stream) -> None:
    """An epoch of the seven labelled images takes three steps of batches 3, 3, 1; one of all images takes two."""
    classes, rows = stream("classes").integers(0, 7, 23, np.uint8), np.array([20, 3, 5, 7, 11, 13, 2])
    all_of_it = dataset(images, classes)
    labelled = Feed(all_of_it, 3, seed=8, rows=rows, conditions=True)
    feed = Feed(all_of_it, 12, seed=3, labelled=labelled)
    seen: list[int] = []
    for step in range(6):
        batch, plain = feed.batch(step), Feed(all_of_it, 12, seed=3).batch(step)
        np.testing.assert_array_equal(batch.x, plain.x)
        assert batch.y is None
        x, y = batch.labelled
        indices = labelled.indices(step)
        assert len(indices) == (1 if step % 3 == 2 else 3)
        np.testing.assert_array_equal(x, as_input(all_of_it, indices))
        np.testing.assert_array_equal(y.reshape(-1, 7).argmax(axis=1), classes[indices])
        seen += indices.tolist()
    assert sorted(seen[:7]) == sorted(seen[7:]) == sorted(rows)
    assert seen[:7] != seen[7:]
    assert labelled.mean_images().shape == (7, 4, 5, 3)
    assert {image.tobytes() for image in labelled.mean_images()} == {i.tobytes() for i in as_input(all_of_it, rows)}


def test_a_class_outside_is_an_error() -> None:
    assert one_hot([2, 0], 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="one_hot: classes from 0 to 3, wanted 0 to 2"):
        one_hot([0, 3], 3)


def test_a_batch_larger_than_the_data(images: np.ndarray) -> None:
    with pytest.raises(UsageError, match="a batch of 24 is larger than the data"):
        Feed(dataset(images), 24, seed=0)


@pytest.mark.parametrize(("count", "wanted"), [(23, 23), (600, 500)])
def test_the_mean_image_is_that_of_500_images_or_all_there_are(count: int, wanted: int, stream) -> None:
    images = stream("images").integers(0, 256, (count, 2, 2, 3), np.uint8)
    feed = Feed(dataset(images), 10, seed=3)
    chosen = feed.mean_images()
    assert chosen.shape == (wanted, 2, 2, 3)
    np.testing.assert_array_equal(chosen, feed.mean_images())
    known = {image.tobytes() for image in as_input(dataset(images), np.arange(count))}
    assert {image.tobytes() for image in chosen} <= known
    assert len(np.unique(chosen.reshape(wanted, -1), axis=0)) == wanted


def test_held_out_points_are_another_draw() -> None:
    config = PRESETS["mixture"]
    train = open_dataset("mixture")
    x, line = held_out(config, lambda: train, 50, quiet=True)
    assert line == "valid, not trained on"
    assert x.shape == (50, 1, 1, 2)
    assert not {p.tobytes() for p in x[:, 0, 0]} & {p.tobytes() for p in train.images}
    np.testing.assert_array_equal(x, held_out(config, lambda: train, 50, quiet=True)[0])


def test_training_images_stand_in_and_the_line_says_so(images: np.ndarray, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_args, **_options):
        raise DataError("no network")

    monkeypatch.setattr("alikit.training.feed.open_dataset", refuse)
    x, line = held_out(PRESETS["svhn"], lambda: dataset(images), 500, quiet=True)
    assert line == "TRAINING data of train, as test is not at hand"
    assert x.shape == (23, 4, 5, 3)


def test_training_images_stand_in_for_a_single_one_held_out(tmp_path: Path, stream, monkeypatch) -> None:
    monkeypatch.setattr("alikit.data.files.user_cache", lambda: tmp_path / "cache")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(stream(name).integers(0, 256, (8, 8, 3), np.uint8)).save(pictures / name)
    config = replace(PRESETS["folder"], data=str(pictures), size=32)
    train = open_dataset("folder", data=pictures, size=32, quiet=True)
    x, line = held_out(config, lambda: train, 500, quiet=True)
    assert len(x) == 2
    assert line == "TRAINING data of train, as valid holds fewer than two"
