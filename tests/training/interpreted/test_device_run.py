"""A whole run on the interpreted device: figures, looks, checkpoints, and going on from one, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.data.mixture import MEANS, SIGMA
from alikit.errors import DivergedError
from alikit.training import loop, monitor, runs, session, state
from alikit.training.batches import DeviceBatches, ResidentBatches, StreamedBatches, device_batches
from alikit.training.config import PRESETS
from alikit.training.feed import Feed
from alikit.training.stepper import DeviceStepper

CONFIG = replace(
    PRESETS["mixture"], device="cuda", width=0.02, batch_size=8, log_every=1, checkpoint_every=1, ema=0.3, keep=9
)
RNG = np.random.default_rng(1)
POINTS = (MEANS[RNG.integers(25, size=21)] + SIGMA * RNG.standard_normal((21, 2))).astype(np.float32)
DATASET = Dataset(name="mixture", split="train", source="here", checksum="abc", images=POINTS)


def start(folder: Path, total: int, checkpoint: Path | None = None, **options: Any) -> loop.Run:
    """A run as `session.start` makes it, on few points; capturing is asked for, which this device must decline."""
    config = replace(CONFIG, sample_every=total, **options)
    trainer, feed, step = state.build_trainer(config), Feed(DATASET, config.batch_size, 0), 0
    trainer.reference = feed.mean_images()
    if checkpoint is not None:
        saved = state.read(checkpoint)
        state.restore(trainer, saved)
        step = saved.step
    folder.mkdir(exist_ok=True)
    look = monitor.Monitor(trainer, POINTS.reshape(-1, 1, 1, 2), folder, MEANS, SIGMA)
    stepper = session.make_stepper(config, trainer, feed)
    return loop.Run(folder, config, trainer, feed, stepper, look, total, step, checkpoint is not None)


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "POINTS", 20)


def test_a_run_that_went_on_ends_as_one_that_was_never_stopped(tmp_path: Path, capsys) -> None:
    """Four steps of batches 8, 8, 5, 8; the other one goes on from a checkpoint of the third."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert loop.train(start(whole, 4), quiet=True) == 0
    assert "the interpreted device has no graphs; steps run one launch at a time" in capsys.readouterr().err
    assert loop.train(start(parts, 4, runs.checkpoint_path(whole, 3)), quiet=True) == 0
    ends = [state.read(runs.checkpoint_path(folder, 4)).arrays for folder in (whole, parts)]
    assert ends[0].keys() == ends[1].keys()
    for name, array in ends[0].items():
        assert array.tobytes() == ends[1][name].tobytes(), name
    lines = [json.loads((folder / runs.METRICS).read_text().splitlines()[-1]) for folder in (whole, parts)]
    assert lines[0] == lines[1]
    assert lines[0]["images"] == 29
    assert {"loss_d", "grad_norm_g", "reconstruction_ratio", "coverage_modes_nearest"} <= lines[0].keys()
    pictures = [runs.picture_path(folder, "samples", 4).read_bytes() for folder in (whole, parts)]
    assert pictures[0] == pictures[1]


def test_batches_that_are_copied_are_those_that_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(DATASET, 8, 5)
    resident = device_batches(feed, np.float32)
    monkeypatch.setattr("alikit.training.batches.device_memory", lambda: 100)
    streamed = device_batches(feed, np.float32)
    assert (type(resident), type(streamed)) == (ResidentBatches, StreamedBatches)
    for step in (0, 1, 2, 3, 5, 8):  # two full batches and one of five an epoch
        clock = session.backend.from_host(np.array([0, step, 0], np.int64))
        counts = [batches.prepare(step) for batches in (resident, streamed)]
        assert counts[0] == counts[1] == (5 if step % 3 == 2 else 8)
        found = [batches.fetch(counts[0], clock)[0].get() for batches in (resident, streamed)]
        np.testing.assert_array_equal(*found)
        np.testing.assert_array_equal(found[0], feed.batch(step).x)


def test_labels_and_a_labelled_batch_come_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21 images batches of 8, 8 and 5; of the seven labelled ones, beside them, batches of 4 and 3."""
    images = RNG.integers(0, 256, (21, 4, 4, 3), np.uint8)
    names = tuple("abcde")
    dataset = Dataset(
        name="svhn",
        split="train",
        source="here",
        checksum="",
        images=images,
        labels=RNG.integers(0, 5, 21, np.uint8),
        label_names=names,
    )
    labelled = Feed(dataset, 4, 9, rows=[20, 1, 4, 9, 16, 2, 3], conditions=True)
    feed = Feed(dataset, 8, 5, conditions=True, labelled=labelled)
    resident = DeviceBatches(feed, np.float32)
    assert resident.labelled.images is resident.main.images
    monkeypatch.setattr("alikit.training.batches.device_memory", lambda: 100)
    streamed = DeviceBatches(feed, np.float32)
    assert [type(streamed.main), type(streamed.labelled)] == [StreamedBatches] * 2
    for step in (0, 1, 2, 5):
        clock = session.backend.from_host(np.array([0, step, 0], np.int64))
        wanted = feed.batch(step)
        for batches in (resident, streamed):
            counts = batches.prepare(step)
            assert counts == (5 if step % 3 == 2 else 8, 3 if step % 2 else 4)
            found = batches.fetch(counts, clock)
            pairs = [(found.x, wanted.x), (found.y, wanted.y), *zip(found.labelled, wanted.labelled, strict=True)]
            for array, host in pairs:
                assert (array.dtype, array.shape) == (host.dtype, host.shape)
                np.testing.assert_array_equal(array.get(), host)


def test_a_run_that_diverges_leaves_the_checkpoint_from_before(tmp_path: Path) -> None:
    run = start(tmp_path / "run", 2)
    step = DeviceStepper.step

    def spoilt(number: int) -> int:
        if number == 1:
            run.trainer.model.decoder.layers[0].conv.weight.data[...] = np.inf
        return step(run.stepper, number)

    run.stepper.step = spoilt  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"^step 2: .* is not finite; last checkpoint: .*checkpoint-00000001.h5$"):
        loop.train(run, quiet=True)
