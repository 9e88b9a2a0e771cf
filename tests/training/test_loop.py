"""The loop: what is written when, what a signal does, and what is left behind where something goes wrong."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.data.mixture import MEANS, SIGMA
from alikit.errors import AlikitError, DivergedError
from alikit.training import loop, runs, state
from alikit.training.config import PRESETS
from alikit.training.feed import Feed
from alikit.training.loop import Run
from alikit.training.monitor import Monitor
from alikit.training.stepper import HostStepper

CONFIG = replace(
    PRESETS["mixture"],
    width=0.02,
    batch_size=8,
    log_every=3,
    sample_every=50,
    checkpoint_every=4,
    keep=2,
    lr=0.001,
    ema=0.1,
)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """start(): a run of ten steps on 21 points, without pictures; start(saved): the one that goes on from a file."""
    rng = np.random.default_rng(1)
    points = (MEANS[rng.integers(25, size=21)] + SIGMA * rng.standard_normal((21, 2))).astype(np.float32)
    dataset = Dataset(name="mixture", split="train", source="here", checksum="abc", images=points)
    monkeypatch.setattr(Monitor, "look", lambda self, step, last: {"looked": step})

    def make(checkpoint: Path | None = None, **options: Any) -> Run:
        config = replace(CONFIG, **{k: v for k, v in options.items() if k in CONFIG.__dict__})
        trainer, step = state.build_trainer(config), 0
        if checkpoint is not None:
            saved = state.read(checkpoint)
            state.restore(trainer, saved)
            step = saved.step
        folder = options.get("folder", tmp_path)
        monitor = Monitor(trainer, points.reshape(-1, 1, 1, 2), folder, MEANS, SIGMA)
        feed, total = Feed(dataset, 8, 0), options.get("total", 10)
        stepper = HostStepper(trainer, feed)
        return Run(folder, config, trainer, feed, stepper, monitor, total, step, checkpoint is not None)

    return make


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def kept(folder: Path) -> list[int]:
    return [int(path.stem[-8:]) for path in runs.checkpoints(folder)]


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    """Calls `act` in the midst of step `number`, from 0."""
    batch = Feed.batch

    def watched(self: Feed, step: int) -> np.ndarray:
        if step == number:
            act()
        return batch(self, step)

    monkeypatch.setattr(Feed, "batch", watched)


def test_lines_and_checkpoints_fall_on_their_steps(start, tmp_path: Path) -> None:
    run = start()
    assert loop.train(run, quiet=True) == 0
    assert run.step == 10
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [1, 3, 6, 9, 10]
    assert [line.get("looked") for line in found] == [None, None, None, None, 10]
    assert [line["step"] for line in lines(tmp_path, "timing.jsonl")] == [1, 3, 6, 9, 10]
    assert kept(tmp_path) == [8, 10]  # 4 has gone: two are kept
    assert {"loss_d", "loss_g", "prob_data", "prob_sample", "grad_norm_d", "grad_norm_g"} < found[0].keys()
    assert not {"seconds", "images_per_second"} & found[0].keys()  # the clock has a file of its own


def test_images_are_counted_with_the_small_last_batch_of_an_epoch(start, tmp_path: Path) -> None:
    loop.train(start(log_every=1), quiet=True)
    found = lines(tmp_path)
    assert [line["images"] for line in found] == [8, 16, 21, 29, 37, 42, 50, 58, 63, 71]
    assert [line["epoch"] for line in found][2] == 1
    assert [line["epoch"] for line in found][9] == pytest.approx(71 / 21)


def test_pictures_fall_on_their_steps(start, tmp_path: Path) -> None:
    loop.train(start(sample_every=4, log_every=100), quiet=True)
    assert [(line["step"], line.get("looked")) for line in lines(tmp_path)] == [(1, None), (4, 4), (8, 8), (10, 10)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves(number: int, code: int, start, tmp_path: Path, monkeypatch) -> None:
    before = signal.getsignal(number)
    at_step(monkeypatch, 5, lambda: os.kill(os.getpid(), number))
    run = start()
    assert loop.train(run, quiet=True) == code
    assert (run.step, kept(tmp_path)) == (6, [4, 6])
    assert signal.getsignal(number) is before
    assert state.read(runs.checkpoint_path(tmp_path, 6)).step == 6


def test_a_second_signal_acts_at_once(start, tmp_path: Path, monkeypatch) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, 5, twice)
    with pytest.raises(KeyboardInterrupt):
        loop.train(start(), quiet=True)
    assert kept(tmp_path) == [4]


@pytest.mark.parametrize("stop", [2, 4, 5, 9])
def test_a_stopped_run_goes_on_to_the_same_end(stop: int, start, tmp_path: Path, monkeypatch) -> None:
    """Stopped by a signal, and once more by an error after the checkpoint it goes on from."""
    whole = tmp_path / "whole"
    whole.mkdir()
    loop.train(start(folder=whole), quiet=True)
    with monkeypatch.context() as patch:
        at_step(patch, stop - 1, lambda: os.kill(os.getpid(), signal.SIGINT))
        loop.train(start(), quiet=True)
    assert kept(tmp_path)[-1] == stop
    with monkeypatch.context() as patch:
        at_step(patch, min(stop + 2, 9), lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.train(start(runs.checkpoint_path(tmp_path, stop)), quiet=True)
    newest = runs.find_checkpoint(tmp_path)
    assert loop.train(start(newest), quiet=True) == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    last = runs.checkpoint_path(tmp_path, 10), runs.checkpoint_path(whole, 10)
    assert last[0].read_bytes() == last[1].read_bytes()


def test_going_on_from_an_older_checkpoint_sets_the_newer_ones_aside(start, tmp_path: Path) -> None:
    loop.train(start(), quiet=True)
    loop.train(start(runs.checkpoint_path(tmp_path, 8), total=9), quiet=True)
    assert kept(tmp_path) == [8, 9]
    assert (tmp_path / "checkpoint-00000010.h5.old").exists()
    assert lines(tmp_path)[-1]["step"] == 9


def test_divergence_leaves_the_last_good_checkpoint(start, tmp_path: Path, monkeypatch) -> None:
    run = start()

    def poison() -> None:
        run.trainer.model.encoder.layers[0].norm.beta.data[...] = np.nan

    at_step(monkeypatch, 6, poison)
    with pytest.raises(DivergedError, match=r"^step 7: loss_[dg] is not finite"):
        loop.train(run, quiet=True)
    assert kept(tmp_path) == [4]
    found = state.read(runs.checkpoint_path(tmp_path, 4))
    assert all(np.isfinite(array).all() for array in found.arrays.values())
    assert [line["step"] for line in lines(tmp_path)] == [1, 3, 6]


def test_a_full_disk_during_a_checkpoint_keeps_the_old_one(start, small_disk: Path) -> None:
    """The disk takes the checkpoint of step 4, and not that of step 8 beside it."""
    run = start(folder=small_disk)
    size = len(run.trainer.adam_d.m) * 4
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1))
    save = loop.save

    def fill_then_save(run: Run) -> None:
        if run.step == 8:
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - size // 2))
        save(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save", fill_then_save)
        with pytest.raises(AlikitError, match=r"checkpoint-00000008.h5: No space left on device; free some") as caught:
            loop.train(run, quiet=True)
    assert caught.value.exit_code == 1
    assert kept(small_disk) == [4]
    assert not list(small_disk.glob("*.part"))
    ballast.unlink()
    assert loop.train(start(runs.checkpoint_path(small_disk, 4), folder=small_disk), quiet=True) == 0
    assert kept(small_disk) == [8, 10]
    assert [line["step"] for line in lines(small_disk)] == [1, 3, 6, 9, 10]


def test_progress_is_shown_unless_quiet(start, capsys) -> None:
    loop.train(start(), quiet=True)
    assert capsys.readouterr().out == ""


def test_progress_shows_the_first_and_the_last_step(start, capsys, tmp_path: Path) -> None:
    loop.train(start(), quiet=False)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("step 1/10")
    assert any(line.startswith("step 10/10") for line in out)
    for figure in ("L_D", "L_G", "D(x,z^)", "D(x~,z)", "images/s", "left"):
        assert figure in out[0]


def test_a_signal_between_two_steps_does_not_end_a_run_without_its_checkpoint(
    start: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the loop looks, it finds the signal the third time for the first time."""

    class Late(loop.Interrupt):
        looks = 0

        @property
        def signal(self) -> int | None:
            self.looks += 1
            return None if self.looks < 3 else signal.SIGTERM

        @signal.setter
        def signal(self, value: int | None) -> None:
            pass

    monkeypatch.setattr(loop, "Interrupt", Late)
    run = start()
    assert loop.train(run, quiet=True) == 143
    assert 0 < run.step < 4  # before the next checkpoint is due
    assert kept(tmp_path) == [run.step]
