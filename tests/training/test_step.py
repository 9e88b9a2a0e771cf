"""The Trainer around the step: what it reports and when it stops (the numbers: test_step_by_hand)."""

from typing import Any

import numpy as np
import pytest

from alikit import models
from alikit.errors import DivergedError
from alikit.nn import Pass
from alikit.optim import AdamSettings
from alikit.training.adversarial import AliRules
from alikit.training.games import Batch
from alikit.training.noise import InstanceNoise
from alikit.training.objective import gradients, play
from alikit.training.step import Trainer

SETTINGS = AdamSettings(lr=0.01)


def trainer(name: str = "svhn", **options: Any) -> Trainer:
    model = models.build(name, width=0.04, nz=None if name == "mixture" else 4, seed=3)
    return Trainer(AliRules(model), SETTINGS, seed=9, **options)


def batch(stream, shape: tuple[int, ...] = (32, 32, 3), name: str = "x") -> np.ndarray:
    return stream(name).random((4, *shape), np.float32)


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


@pytest.mark.parametrize("name", ["svhn", "cifar10"])
def test_both_players_move_by_gradients_at_the_old_parameters(name: str, stream) -> None:
    """After the first step Adam's first moment is (1 - beta1) g: of L_D alone for D, of L_G alone for the others."""
    run, x = trainer(name), batch(stream)
    before = copies(run.model.state())
    players = run.adam_d.parameters, run.adam_g.parameters
    game = play(run.model, x, Pass(True, 9, 6))
    wanted = gradients(game, run.model.discriminator, *players)
    run.model.load_state(before)
    result = run.step(x, 6)
    norms = result.grad_norm_d, result.grad_norm_g
    for adam, grads, norm in zip((run.adam_d, run.adam_g), wanted, norms, strict=True):
        flat = np.concatenate([g.ravel() for g in grads])
        np.testing.assert_allclose(adam.m, 0.5 * flat, rtol=1e-5, atol=1e-7 * np.abs(flat).max())
        assert norm == pytest.approx(np.linalg.norm(flat.astype(np.float64)), rel=1e-5)
        assert adam.steps == 1
    moved = [k for k, p in run.model.named_parameters() if not np.array_equal(p.data, before[k])]
    assert {k.partition(".")[0] for k in moved} == {"encoder", "decoder", "discriminator"}


def test_a_step_s_number_may_be_numpy_s(stream) -> None:
    """Not to be taken for a device's clock, whose noise would be computed from it."""
    noisy = [trainer("mixture", noise=InstanceNoise(0.1, 5)) for _ in range(2)]
    first, second = (
        run.step(batch(stream, (1, 1, 2)), kind(3)) for run, kind in zip(noisy, (int, np.int64), strict=True)
    )
    assert first == second


def test_a_step_is_the_same_bytes_again_and_keeps_float32(stream) -> None:
    first, second = trainer(ema=0.1), trainer(ema=0.1)
    for number in range(2):
        x = batch(stream, name=f"x{number}")
        assert first.step(x, number) == second.step(x, number)
    for (name, a), b in zip(first.model.state().items(), second.model.state().values(), strict=True):
        assert a.dtype == np.float32, name
        assert a.tobytes() == b.tobytes(), name
    assert first.ema is not None
    assert first.ema.average.dtype == np.float32


def test_images_alone_are_a_batch(stream) -> None:
    runs = trainer(), trainer()
    x = batch(stream)
    assert runs[0].step(x, 0) == runs[1].step(Batch(x), 0)
    for a, b in zip(runs[0].model.state().values(), runs[1].model.state().values(), strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_figures_of_a_fresh_game(stream) -> None:
    """D knows nothing yet: both losses 2 ln 2, both probabilities one half (method 1.2)."""
    result = trainer().step(batch(stream), 0)
    assert result.loss_d == pytest.approx(2 * np.log(2), abs=1e-3)
    assert result.loss_g == pytest.approx(2 * np.log(2), abs=1e-3)
    assert result.prob_data == pytest.approx(0.5, abs=1e-3)
    assert result.prob_sample == pytest.approx(0.5, abs=1e-3)
    assert all(type(value) is float for value in result)


def test_the_moving_average_follows_the_weights(stream) -> None:
    run = trainer(ema=0.25)
    assert run.ema is not None
    average = run.adam_g.flat.data.copy()
    for number in range(3):
        run.step(batch(stream), number)
        average += 0.25 * (run.adam_g.flat.data - average)
    np.testing.assert_allclose(run.ema.average, average, rtol=1e-5, atol=1e-7)
    assert not np.allclose(average, run.adam_g.flat.data)
    assert trainer().ema is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_step(value: float, stream) -> None:
    run, x = trainer(), batch(stream)
    run.model.discriminator.xz.layers[-1].conv.bias.data[...] = value
    with pytest.raises(DivergedError, match=r"^step 18: loss_[dg] is not finite$") as caught:
        run.step(x, 17)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("name", "player", "tensor"),
    [
        ("svhn", 0, "discriminator.x.layers.1.norm.gamma"),
        ("svhn", 1, "decoder.layers.2.conv.weight"),
        ("cifar10", 1, "encoder.layers.6.conv.bias"),
    ],
)
def test_a_gradient_that_is_not_finite_is_named(name: str, player: int, tensor: str, stream, monkeypatch) -> None:
    run, x = trainer(name), batch(stream)
    adam = (run.adam_d, run.adam_g)[player]
    place = adam.flat.names.index(tensor)

    def poisoned(*arguments):
        grads = gradients(*arguments)
        grads[player][place].flat[-1] = np.inf
        return grads

    monkeypatch.setattr("alikit.training.objective.gradients", poisoned)
    with pytest.raises(DivergedError, match=rf"^step 3: the gradient of {tensor} is not finite$"):
        run.step(x, 2)
