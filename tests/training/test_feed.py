"""Batches as the networks want them, and which data a run is looked at with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alikit.data import Dataset, open_dataset
from alikit.errors import DataError, UsageError
from alikit.training.config import PRESETS
from alikit.training.feed import Feed, as_input, held_out


def dataset(images: np.ndarray) -> Dataset:
    return Dataset(name="svhn", split="train", source="here", checksum="", images=images)


@pytest.fixture
def images(stream) -> np.ndarray:
    return stream("images").integers(0, 256, (23, 4, 5, 3), np.uint8)


def test_only_the_first_images_are_used_where_so_asked() -> None:
    images = np.arange(40, dtype=np.uint8).repeat(4 * 4 * 3).reshape(40, 4, 4, 3)
    feed = Feed(dataset(images), 10, seed=3, images=20)
    seen = np.concatenate([feed.batch(step) for step in range(2)])[:, 0, 0, 0] * 255
    np.testing.assert_array_equal(np.sort(np.rint(seen)), np.arange(20))
    assert feed.order.steps_per_epoch == 2


def test_batches_are_scaled_images_in_the_epoch_s_order(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 10, seed=3)
    batches = [feed.batch(step) for step in range(3)]
    assert [batch.shape for batch in batches] == [(10, 4, 5, 3), (10, 4, 5, 3), (3, 4, 5, 3)]
    for step, batch in enumerate(batches):
        assert batch.dtype == np.float32
        np.testing.assert_allclose(batch, images[feed.order.batch_indices(step)] / 255, rtol=1e-6)
    everything = np.sort(np.concatenate(batches), axis=0)
    np.testing.assert_allclose(everything, np.sort(images / np.float32(255), axis=0), rtol=1e-6)


def test_any_step_s_batch_comes_from_seed_and_step_alone(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 10, seed=3)
    later = feed.batch(7)
    feed.batch(0)
    np.testing.assert_array_equal(feed.batch(7), later)
    np.testing.assert_array_equal(Feed(dataset(images), 10, seed=3).batch(7), later)
    assert not np.array_equal(Feed(dataset(images), 10, seed=4).batch(7), later)


def test_the_first_images_alone(images: np.ndarray) -> None:
    feed = Feed(dataset(images), 5, seed=3, images=12)
    assert feed.order.n == 12
    seen = {image.tobytes() for step in range(30) for image in feed.batch(step)}
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
    x = Feed(mixture, 6, seed=0).batch(0)
    assert x.shape == (6, 1, 1, 2)
    assert x.dtype == np.float32
    assert np.abs(x).max() > 1
    np.testing.assert_array_equal(as_input(mixture, np.array([4]))[0, 0, 0], mixture.images[4])


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
    assert line == "train: TRAINING data instead of the split test: it is not at hand"
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
    assert line == "train: TRAINING data instead of the split valid: it holds fewer than two"
