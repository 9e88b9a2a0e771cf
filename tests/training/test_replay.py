"""Updates run as programs give the bytes of updates computed as ever, whatever the game; and where there is none."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from alikit.backend import CPU_PASSES
from alikit.kernels.cpu import parallel
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
    assert_same(one, other)
    assert any(one.replay.programs.values()) == straight
    assert one.replay.fits(one, batch) == (case not in ("alice", "vae", "noise"))


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


def test_a_batch_may_be_a_part_of_something(stream) -> None:
    """What else lies in its memory is another array, however near."""
    (one, other), data = both(MIXTURE), stream("data").random((40, 1, 1, 2), np.float32)
    for run in (one, other):
        run.rules = Anchored(run.model, data[2:4])
    for number, first in enumerate([0, 0, 0, 6, 0, 12]):
        step_alike(one, other, data[first : first + 6], number)
    assert_same(one, other)
    assert program(one)


@pytest.mark.parametrize("unfit", ["seed", "updates", "strides", "twice", "a subclass", "another array"])
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
        assert not one.replay.fits(one, batch) or (unfit, number) == ("twice", 4)
        step_alike(one, other, batch, number)
    assert_same(one, other)
    assert not one.replay.programs


class Silent(AliRules):
    """Does not say that it is straight."""


def test_a_program_needs_no_more_memory(stream) -> None:
    """Every array is freed as early as by the graph, and of the passes that were traced nothing is kept."""
    assert peak(5, lambda run: run, stream("x")) <= peak(5, eager, stream("x"))


@pytest.mark.parametrize("steps", [2, 3])
def test_passes_that_are_traced_need_no_more_memory(steps: int, stream) -> None:
    traced, computed = peak(steps, lambda run: run, stream("x")), peak(steps, eager, stream("x"))
    assert traced <= 1.02 * computed  # and the text


def peak(steps: int, prepare: Callable[[Trainer], Trainer], rng: np.random.Generator) -> int:
    """Bytes, in the last of so many steps."""
    run = prepare(state.build_trainer(replace(IMAGES, width=0.5)))
    x = rng.random((64, *run.model.spec.image), np.float32)
    for number in range(steps - 1):
        run.step(x, number)
    gc.collect()
    tracemalloc.start()
    run.step(x, steps - 1)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found
