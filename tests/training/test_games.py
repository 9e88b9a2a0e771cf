"""Every game: what it minimises, that a gradient is its own loss's, and that threads change no step."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Tensor, grad
from alikit.errors import UsageError
from alikit.kernels.cpu import parallel
from alikit.models import SPECS
from alikit.nn import Pass
from alikit.optim import AdamSettings
from alikit.training import state
from alikit.training.adversarial import AliceRules
from alikit.training.config import GAMES, PRESETS, resolve
from alikit.training.fitting import ROUNDING, kl_to_normal
from alikit.training.games import Batch
from alikit.training.step import Trainer
from tests.training.slopes import check_slopes, figures
from tests.training.small_games import MIXTURE, trainer

HOW = Pass(training=True, seed=7, step=2)

#: of ALICE's term: its gradient is about as long as the game's
WEIGHTS = {"svhn": 100.0, "cifar10": 3000.0, "mixture": 3.0}


@pytest.fixture
def rules(stream, as_if_trained: Callable) -> Callable[..., Any]:
    """rules(game, networks): a narrow float64 game with numbers at which an error shows."""

    def make(game: str, networks: str) -> Any:
        weight = WEIGHTS[networks] if game == "alice" else 0.0
        players, kind = state.GAMES["ali" if weight else game]
        code = None if networks == "mixture" else 3
        model = players(SPECS[networks].resized(0.05, code), seed=2, dtype=np.float64)
        as_if_trained(model, stream("parameters"))
        return AliceRules(model, weight) if weight else kind(model)

    return make


def batch(model: Any, stream, count: int = 4) -> np.ndarray:
    return stream("x").random((count, *model.spec.image))


def test_every_game_has_players() -> None:
    assert sorted(state.GAMES) == sorted(GAMES)


@pytest.mark.parametrize("networks", ["svhn", "cifar10", "mixture"])
@pytest.mark.parametrize("game", [*GAMES, "alice"])
def test_a_gradient_is_the_slope_of_its_player_s_own_loss(game: str, networks: str, rules, stream) -> None:
    game_rules = rules(game, networks)
    check_slopes(game_rules, batch(game_rules.model, stream), HOW, WEIGHTS[networks] if game == "alice" else 0.0)


def test_the_reconstruction_s_error_is_that_of_decoded_codes_and_leaves_the_statistics_alone(rules, stream) -> None:
    alice, ali = rules("alice", "svhn"), rules("ali", "svhn")
    x = batch(alice.model, stream)
    played = alice.play(Batch(x), HOW)
    ali.play(Batch(x), HOW)
    for name in ("loss_d", "loss_g"):
        assert figures(alice, played)[name] == pytest.approx(figures(ali, ali.play(Batch(x), HOW))[name], rel=1e-12)
    rebuilt = ali.model.decode(ali.model.encode(Tensor(x), HOW), HOW).data
    assert figures(alice, played)["loss_r"] == pytest.approx(np.square(rebuilt - x).mean(), rel=1e-12)
    ali.play(Batch(x), HOW)
    for rules_ in (alice, ali):
        rules_.model.update_statistics()
    for (name, a), b in zip(alice.model.named_buffers(), dict(ali.model.named_buffers()).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_the_reconstruction_s_weight_goes_with_ali_alone() -> None:
    assert state.build_trainer(replace(PRESETS["mixture"], width=0.02, reconstruction=2.0)).rules.weight == 2.0
    with pytest.raises(UsageError, match="--reconstruction: a term of ALI's loss, not of gan's"):
        resolve("mixture", {"game": "gan", "reconstruction": 1.0})


@pytest.mark.parametrize("networks", ["svhn", "mixture"])
def test_the_gan_s_losses_are_those_of_one_pass_over_data_then_samples(networks: str, rules, stream) -> None:
    game = rules("gan", networks)
    x = 0.3 * batch(game.model, stream)
    played = game.play(Batch(x), HOW)
    x_tilde = game.model.decode(game.model.prior(4, HOW), HOW)
    logits = game.model.discriminator(Tensor(np.concatenate([x, x_tilde.data])), HOW).data.ravel()
    np.testing.assert_allclose(played.logits.data.ravel(), logits, rtol=1e-12)
    softplus = np.log1p(np.exp(logits)), np.log1p(np.exp(-logits))
    assert played.losses.loss_d.item() == pytest.approx(softplus[1][:4].mean() + softplus[0][4:].mean())
    assert played.losses.loss_g.item() == pytest.approx(softplus[0][:4].mean() + softplus[1][4:].mean())
    found = figures(game, played)
    assert found["prob_data"] == pytest.approx((1 / (1 + np.exp(-logits[:4]))).mean())
    assert found["prob_sample"] == pytest.approx((1 / (1 + np.exp(-logits[4:]))).mean())


@pytest.mark.parametrize("networks", ["cifar10", "mixture"])
def test_one_walk_through_the_gan_s_d_gives_what_two_give(networks: str, rules, stream) -> None:
    game = rules("gan", networks)
    assert game.model.discriminator.rows_independent
    x = batch(game.model, stream)
    players = {name: [p for _, p in named] for name, named in game.players().items()}
    found = game.gradients(game.play(Batch(x), HOW), players)
    losses = game.play(Batch(x), HOW).losses
    for player, plain in zip("dg", grad([losses.loss_d, losses.loss_g], [players["d"], players["g"]]), strict=True):
        for g, wanted in zip(found[player], plain, strict=True):
            np.testing.assert_allclose(g, wanted, rtol=1e-9, atol=1e-14 + 1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("networks", ["svhn", "mixture"])
def test_the_bound_by_hand(networks: str, rules, stream) -> None:
    game = rules("vae", networks)
    model, x = game.model, batch(game.model, stream)
    found = figures(game, game.play(Batch(x), HOW))
    nz = model.spec.nz
    codes = model.encoder(Tensor(x), HOW).data.reshape(4, 2 * nz)
    mu, sigma = codes[:, :nz], np.exp(codes[:, nz:])
    z = model.encode(Tensor(x), HOW)
    variance = ((model.decode(z, HOW).data - x) ** 2).mean() + ROUNDING
    numbers = x[0].size
    density = -np.log(2 * np.pi * variance) / 2 * numbers - ((model.decode(z, HOW).data - x) ** 2).sum() / 8 / variance
    assert found["nll"] == pytest.approx(-density, rel=1e-4)  # but for rounding's share of the variance
    assert found["kl"] == pytest.approx((0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)).sum(axis=1).mean())
    assert found["loss"] == pytest.approx(found["nll"] + found["kl"])
    assert found["sigma"] == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize(("step", "weight"), [(0, 0.25), (2, 0.75), (3, 1.0), (400, 1.0)])
def test_a_vae_pays_for_its_codes_little_by_little(step: int, weight: float, rules, stream) -> None:
    """The logged bound is the whole one; a device's clock says the same as a number."""
    game = rules("vae", "mixture")
    x, clock = batch(game.model, stream), np.array([7, step, 99])
    game.warm_up = 4
    played = game.play(Batch(x), HOW._replace(step=step))
    found = figures(game, played)
    assert played.objective.item() == pytest.approx(found["nll"] + weight * found["kl"], rel=1e-12)
    assert found["loss"] == pytest.approx(found["nll"] + found["kl"], rel=1e-12)
    assert found["kl"] > 0.1
    assert game._weight(clock, np.float32) == np.float32(weight)
    assert trainer(MIXTURE, "vae", kl_warm_up=9).rules.warm_up == 9
    game.warm_up = 0
    assert game.play(Batch(x), HOW._replace(step=step)).objective.item() == pytest.approx(found["loss"], rel=1e-12)


@pytest.mark.parametrize("networks", ["svhn", "mixture"])
@pytest.mark.parametrize("game", ["ali", "alice", "gan", "vae"])
def test_a_step_on_two_threads_is_that_of_one(
    game: str, networks: str, rules, stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weight gradients are left to the other thread, which here is slow."""
    leave, left = parallel._Pool.leave, []

    def slowly(pool: Any, job: Callable) -> None:
        left.append(job)
        leave(pool, lambda: (time.sleep(0.01), job()))

    monkeypatch.setattr(parallel, "SMALL", 4)
    monkeypatch.setattr(parallel._Pool, "leave", slowly)
    found, before = [], parallel.threads()
    try:
        for count in (1, 2):
            parallel.set_threads(count)
            run = Trainer(rules(game, networks), AdamSettings(beta1=0.5))
            run.step(batch(run.model, stream), 0)
            found.append({name: array.copy() for adam in run.adams.values() for name, array in adam.state().items()})
    finally:
        parallel.set_threads(before)
    assert left
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, rtol=1e-8, atol=1e-12, err_msg=name)


def test_no_distance_from_the_prior_is_zero() -> None:
    zero = Tensor(np.zeros((3, 1, 1, 5)))
    assert kl_to_normal(zero, zero).item() == 0
    assert kl_to_normal(Tensor(np.full((3, 1, 1, 5), 2.0)), zero).item() == pytest.approx(10)


def test_the_inverse_mapping_s_loss_by_hand_and_without_data(rules, stream) -> None:
    game = rules("inverse", "svhn")
    model = game.model
    z = model.prior(4, HOW)
    code = model.encoder(model.decode(z, HOW), HOW)
    wanted = ((z.data - code.data) ** 2).sum() / 4
    for x in (batch(model, stream), np.zeros((4, 32, 32, 3))):
        assert game.play(Batch(x), HOW).item() == pytest.approx(wanted)
