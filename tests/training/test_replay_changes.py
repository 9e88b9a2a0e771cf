"""What happens to a trainer between two updates is heeded by the next, program or not."""

import copy
import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu import parallel
from alikit.ops import _dispatch
from alikit.optim import EMA
from alikit.training import average, replay, state
from alikit.training.adversarial import AliRules
from alikit.training.config import Config
from alikit.training.games import Batch
from alikit.training.step import Trainer
from tests.training.replaying import IMAGES, MIXTURE, Anchored, assert_same, batch_for, both, program, step_alike


def rebound(run: Trainer) -> None:
    weight = run.model.decoder.layers[1].conv.weight
    weight.data = weight.data * 2


def rebuffered(run: Trainer) -> None:
    buffers = run.model.decoder.layers[1].norm.buffers
    buffers["running_std"] = buffers["running_std"] * 2


def buffered_elsewhere(run: Trainer) -> None:
    norm = run.model.decoder.layers[1].norm
    norm.buffers = {name: array * 2 for name, array in norm.buffers.items()}


def slower(run: Trainer) -> None:
    adam = run.adam_g
    adam.settings = adam.settings._replace(lr=adam.settings.lr / 10)


def restored(run: Trainer) -> None:
    run.model.load_state({name: array * 0.5 for name, array in run.model.state().items()})
    run.updates = 40


def averaged_anew(run: Trainer) -> None:
    run.ema = EMA(run.adam_g.flat, 0.1)


def averaged_faster(run: Trainer) -> None:
    assert run.ema is not None
    run.ema.rate = 0.5


def averaged_elsewhere(run: Trainer) -> None:
    assert run.ema is not None
    run.ema.average = run.ema.average * 2


def moved_elsewhere(run: Trainer) -> None:
    run.adam_d.m, run.adam_d.v = run.adam_d.m * 0.5, run.adam_d.v * 2


def steeper(run: Trainer) -> None:
    run.model.decoder.layers[1].norm.slope = 0.3


def dropped(run: Trainer, rate: float = 0.5) -> None:
    run.model.discriminator.xz.layers[1].conv.rate = rate


def reseeded(run: Trainer) -> None:
    run.seed = 12


def another_layer(run: Trainer) -> None:
    """Of the same parameters."""
    layers = run.model.discriminator.xz.layers
    layers[1] = copy.copy(layers[1])
    layers[1].conv = copy.copy(layers[1].conv)
    layers[1].conv.rate = 0.5


def other_rules(run: Trainer) -> None:
    run.rules = Anchored(run.model, np.ones((2, 1, 1, 2), np.float32))


def played_otherwise(run: Trainer) -> None:
    rules = run.rules
    rules.play = lambda batch, how: AliRules.play(rules, Batch(batch.x[1:]), how)  # type: ignore


def looked_at(run: Trainer) -> None:
    """With its averages, whose statistics are others."""
    run.reference = np.ones((4, 1, 1, 2), np.float32)
    with average.for_looking(run):
        pass


CHANGES = [
    rebound,
    rebuffered,
    buffered_elsewhere,
    slower,
    restored,
    averaged_anew,
    averaged_faster,
    averaged_elsewhere,
    moved_elsewhere,
    steeper,
    dropped,
    reseeded,
    other_rules,
    played_otherwise,
    looked_at,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between_steps_is_heeded(change: Callable[[Trainer], None], stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(14):
        if number in (5, 9):
            assert program(one)
            change(one), change(other)
        step_alike(one, other, batch_for(one, rng), number)
    assert_same(one, other)
    assert program(one)


def test_another_layer_is_heeded(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(14):
        if number == 5:
            another_layer(one), another_layer(other)
        if number == 9:
            dropped(one, 0.2), dropped(other, 0.2)
        step_alike(one, other, batch_for(one, rng), number)
    assert_same(one, other)


def test_rows_of_the_rules_are_heeded(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(10):
        if number % 5 == 0:
            rows = batch_for(one, rng, 2).x
            for run in (one, other):
                run.rules = run.rules if number else Anchored(run.model, rows)
                run.rules.rows = rows  # type: ignore[attr-defined]
        step_alike(one, other, batch_for(one, rng), number)
    assert_same(one, other)
    assert program(one)


def test_a_precision_that_there_is_not(stream) -> None:
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(6):
        one.precision = other.precision = "tf32" if number > 4 else "fp32"
        step_alike(one, other, batch_for(one, rng), number)


def test_what_changes_every_step_is_not_traced(stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that falls all the time would make every step one that is written down, in vain."""
    monkeypatch.setattr(replay, "trace", lambda *_: pytest.fail("traced"))
    (one, other), rng = both(MIXTURE), stream("batches")
    for number in range(4):
        slower(one), slower(other)
        step_alike(one, other, batch_for(one, rng), number)
    assert_same(one, other)


def test_equal_settings_are_no_change(stream) -> None:
    run, rng = state.build_trainer(MIXTURE), stream("batches")
    for number in range(5):
        run.adam_g.settings = run.adam_g.settings._replace(lr=0.005 * 2)
        run.step(batch_for(run, rng), number)
    assert program(run)


def test_an_error_leaves_no_work_behind(stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that was left to another thread, when a later call fails, is not found by the next update."""
    run, rng, settled = state.build_trainer(MIXTURE), stream("batches"), []
    for number in range(4):
        run.step(batch_for(run, rng), number)
    monkeypatch.setattr("alikit.ops.program.settle", lambda: settled.append(True))
    monkeypatch.setattr(program(run), "_function", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.step(batch_for(run, rng), 4)
    assert settled
    assert run.updates == 4


def test_a_trainer_is_freed_with_its_last_name(stream) -> None:
    """No cycle holds it until somebody collects."""
    run, rng = state.build_trainer(MIXTURE), stream("batches")
    for number in range(4):
        run.step(batch_for(run, rng), number)
    held = weakref.ref(run.model), weakref.ref(program(run)._function)
    gc.collect()
    gc.disable()
    try:
        del run
        assert [each() for each in held] == [None, None]
    finally:
        gc.enable()


def test_a_copy_has_no_programs(stream) -> None:
    """They would move the original."""
    run, rng = state.build_trainer(MIXTURE), stream("batches")
    for number in range(4):
        run.step(batch_for(run, rng), number)
    before = {name: array.tobytes() for name, array in run.model.state().items()}
    copied, given = copy.deepcopy(run), [batch_for(run, rng) for _ in range(5)]
    assert not copied.replay.programs
    for number, batch in enumerate(given):
        copied.step(batch, 4 + number)
    assert before == {name: array.tobytes() for name, array in run.model.state().items()}
    for number, batch in enumerate(given):
        run.step(batch, 4 + number)
    assert_same(run, copied)
    assert program(copied)


@pytest.mark.parametrize(("config", "threads"), [(MIXTURE, 2), (IMAGES, 1)], ids=["points", "dropout"])
def test_trainers_on_several_threads(config: Config, threads: int, stream, request: pytest.FixtureRequest) -> None:
    """Their passes are traced one at a time, and afterwards kernels are themselves again."""
    parallel.resize_pool(threads)
    request.addfinalizer(lambda: parallel.resize_pool(1))
    pairs, twin = [both(config) for _ in range(3)], _dispatch._CPU
    given = [batch_for(pairs[0][0], stream("batches")) for _ in range(12)]
    start = threading.Barrier(3)

    def train(run: Trainer) -> None:
        start.wait()
        for number, batch in enumerate(given):
            run.step(batch, number)

    workers = [threading.Thread(target=train, args=(one,)) for one, _ in pairs]
    for worker in workers:
        worker.start()
    for number, batch in enumerate(given):
        pairs[0][1].step(batch, number)
    for worker in workers:
        worker.join()
    assert _dispatch._CPU is twin
    for one, _ in pairs:
        assert_same(one, pairs[0][1])
        for number, batch in enumerate(given[:4]):
            one.step(batch, 12 + number)
        assert program(one)


def test_a_seed_may_be_numpy_s(stream) -> None:
    one, other = both(MIXTURE)
    twin = Trainer(AliRules(one.model), one.adam_g.settings, seed=np.int64(3))
    assert (twin.seed, type(twin.seed)) == (3, int)
    twin.step(batch_for(twin, stream("batches")), 0)
    assert other.updates == 0
