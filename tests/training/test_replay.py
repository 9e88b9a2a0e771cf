"""Updates run as programs give the bytes of updates computed as ever, whatever the game; and where there is none."""

import copy
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alikit.autograd import no_grad
from alikit.backend import CPU_PASSES
from alikit.kernels.cpu import parallel
from alikit.models import ALI
from alikit.nn import Pass
from alikit.optim import EMA
from alikit.training import replay, state
from alikit.training.adversarial import AliRules
from alikit.training.config import PRESETS
from alikit.training.games import Batch
from alikit.training.step import Trainer
from tests.training.replaying import (
    IMAGES,
    MIXTURE,
    Anchored,
    assert_same,
    batch_for,
    both,
    eager,
    program,
    step_alike,
)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    parallel.resize_pool(request.param)
    yield request.param
    parallel.resize_pool(1)


#: a configuration, and whether its updates become a program
CASES = {
    "ali": (IMAGES, True),
    "gan": (replace(IMAGES, game="gan"), True),
    "conditional": (replace(IMAGES, conditional=True), True),
    "labels": (replace(IMAGES, labels=100), True),
    "mixture": (MIXTURE, True),
    "alice": (replace(IMAGES, reconstruction=1.0), False),  # its error is computed between the kernels
    # as compiled loops have it, the gradient behind maxout loses rows between the kernels
    "mixture's gan": (replace(MIXTURE, game="gan"), CPU_PASSES == "plain"),
    "vae": (replace(IMAGES, game="vae"), False),
    "noise": (replace(IMAGES, instance_noise=0.1, instance_noise_steps=3), False),  # less from step to step
}


@pytest.mark.parametrize("case", CASES)
def test_an_update_is_the_same_bytes(case: str, stream, threads: int) -> None:
    config, straight = CASES[case]
    (one, other), rng = both(config), stream("batches")
    for number in range(6):
        batch = batch_for(one, rng)
        step_alike(one, other, batch, number)
        assert bool(one.replay.programs) == (straight and number >= 2)  # so the fourth is the first to run as one
    assert_same(one, other)
    assert one.replay.fits(one, batch, 6) == (case not in ("alice", "vae", "noise"))


@pytest.mark.parametrize("networks", ["svhn", "cifar10", "celeba", "tiny-imagenet", "mixture"])
def test_all_networks_are_programs(networks: str, stream) -> None:
    """With dropout, whose masks change with the clock, and batch norm."""
    one, other = both(replace(PRESETS[networks], width=0.04, nz=None if networks == "mixture" else 4))
    for number in (0, 1, 2, 3, 7):
        step_alike(one, other, stream(f"x{number}").random((4, *one.model.spec.image), np.float32), number)
    assert_same(one, other)
    assert len(program(one).source.splitlines()) > 40


def test_every_shape_of_batch_has_a_program(stream, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number, size in enumerate([4, 6, 6, 4, 6, 4, 4, 6]):
        step_alike(one, other, batch_for(one, rng, size), number)
    assert len(one.replay.programs) == 2
    step_alike(one, other, Batch(batch_for(one, rng, 4).x.astype(np.float64)), 8)
    monkeypatch.setattr(replay, "SHAPES", 5)
    for number, size in enumerate([7, 8, 9] * 4):
        step_alike(one, other, batch_for(one, rng, size), number)
    assert_same(one, other)
    assert len(one.replay.programs) == 3  # the others were forgotten


@pytest.mark.parametrize("parts", [True, False])
def test_a_batch_may_share_its_memory(parts: bool, stream) -> None:
    """What else lies there is another array, however near: of the whole that it is a part of, or a part of it."""
    (one, other), data = both(MIXTURE), stream("data").random((18, 1, 1, 2), np.float32)
    for run in (one, other):
        run.rules = Anchored(run.model, data[2:4])
    for number, first in enumerate([0, 0, 0, 6, 0, 12]):
        batch = data[first : first + 6] if parts else data if number < 4 else data[::-1].copy()
        step_alike(one, other, batch, number)
    assert_same(one, other)
    assert program(one)


def test_what_two_updates_in_a_row_do_not_share_may_be_what_the_next_two_do(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(6):
        if number == 2:
            one.seed = other.seed = 5
        step_alike(one, other, batch_for(one, rng), number)
        assert bool(one.replay.programs) == (number >= 3)
    assert_same(one, other)


@pytest.mark.parametrize("straight", [True, False])
def test_nothing_is_kept_of_what_was_traced_on_the_way(straight: bool, stream, monkeypatch) -> None:
    """It holds arrays that it took for constants."""
    run, rng, traced = state.build_trainer(MIXTURE), stream("batches"), []
    made = replay.trace

    def changed(*given: Any) -> Any:
        found, program = made(*given)
        if not straight:
            program.source += str(len(traced))
        traced.append(weakref.ref(program))
        return found, program

    monkeypatch.setattr(replay, "trace", changed)
    for number in range(8):
        run.step(batch_for(run, rng), number)
    assert [each() is not None for each in traced] == ([False, True] if straight else [False] * replay.TRIES)


@pytest.mark.parametrize(
    "unfit", ["seed", "NumPy's seed", "number", "updates", "strides", "twice", "a subclass", "another array", "a model"]
)
def test_what_a_program_does_not_know_is_computed_as_ever(unfit: str, stream) -> None:
    config = {"seed": replace(MIXTURE, seed=2**63), "twice": replace(IMAGES, labels=100)}.get(unfit, MIXTURE)
    (one, other), rng = both(config), stream("batches")
    for number in range(5):
        batch = batch_for(one, rng)
        if unfit == "updates":
            one.adam_d.steps = other.adam_d.steps = number + 5
        elif unfit == "strides":
            batch = Batch(np.asfortranarray(batch.x.repeat(2, axis=0))[::2])
        elif unfit == "twice" and number < 4:  # then they differ
            batch = Batch(batch.x[:4], None, (batch.x[:4], batch.labelled[1]))  # type: ignore[index]
        elif unfit == "a subclass":
            one.rules, other.rules = Silent(one.model), Silent(other.model)
        elif unfit == "another array":
            batch = Batch(batch.x.view(np.memmap))
        elif unfit == "a model":
            one.rules.model, other.rules.model = copy.copy(one.model), copy.copy(other.model)
        elif unfit == "NumPy's seed":  # which is known, but for its size
            one.seed = other.seed = np.uint64(2**63 + number)  # type: ignore[assignment]
        step = number + (2**63 if unfit == "number" else 0)
        assert not one.replay.fits(one, batch, step) or (unfit, number) == ("twice", 4)
        step_alike(one, other, batch, step)
    assert_same(one, other)
    assert not one.replay.programs


class Silent(AliRules):
    """Does not say that it is straight."""


class Clipping(Trainer):
    def compute(self, batch: Any, how: Pass) -> Any:
        found = super().compute(batch, how)
        np.clip(self.adam_d.flat.data, -0.01, 0.01, out=self.adam_d.flat.data)
        return found


class Halving(EMA):
    def update(self) -> None:
        super().update()
        self.average *= 0.5


class Shrinking(ALI):
    def update_statistics(self) -> None:
        super().update_statistics()
        self.decoder.layers[0].conv.weight.data *= 0.5


@pytest.mark.parametrize("code", [Clipping, Halving, Shrinking])
def test_code_that_is_not_alikit_s_may_change_what_no_trace_shows(code: type, stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for run in (one, other):
        next(each for each in (run, run.ema, run.model) if issubclass(code, type(each))).__class__ = code
    for number in range(6):
        step_alike(one, other, batch_for(one, rng), number)
    assert_same(one, other)
    assert not one.replay.programs


def test_a_batch_of_which_a_part_is_ignored(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(5):
        x = batch_for(one, rng).x
        step_alike(one, other, Batch(x, None, (x[:2].copy(),)), number)  # type: ignore[arg-type]
    assert_same(one, other)


def test_without_gradients_there_is_no_update(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(5):
        step_alike(one, other, batch_for(one, rng), number)
    with no_grad(), pytest.raises(ValueError, match="does not depend on any tensor that requires gradients"):
        one.step(batch_for(one, rng), 5)


def test_a_program_needs_no_more_memory(stream) -> None:
    """Every array is freed as early as by the graph, and of the passes that were traced nothing is kept."""
    assert peak(5, lambda run: run, stream("x")) <= peak(5, eager, stream("x"))


@pytest.mark.parametrize("steps", [2, 3])
def test_passes_that_are_traced_need_no_more_memory(steps: int, stream) -> None:
    traced, computed = peak(steps, lambda run: run, stream("x")), peak(steps, eager, stream("x"))
    assert traced <= 1.02 * computed + BATCH  # the text, and a batch of its own


BATCH = 64 * 32 * 32 * 3 * 4  # bytes


def peak(steps: int, prepare: Callable[[Trainer], Trainer], rng: np.random.Generator) -> int:
    """Bytes, in the last of so many steps."""
    run = prepare(state.build_trainer(replace(IMAGES, width=0.5)))
    x = rng.random((64, *run.model.spec.image), np.float32)
    assert x.nbytes == BATCH
    for number in range(steps - 1):
        run.step(x, number)
    gc.collect()
    tracemalloc.start()
    run.step(x, steps - 1)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found
