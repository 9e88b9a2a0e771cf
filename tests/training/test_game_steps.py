"""Whole steps of every game: who moves, what is looked at, logged and kept, and what another run takes over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Tensor, no_grad
from alikit.errors import DataError
from alikit.nn import Pass
from alikit.optim import AdamSettings
from alikit.training import state
from alikit.training.average import for_looking, statistics
from alikit.training.config import GAMES, Config
from alikit.training.step import Trainer
from tests.training.small_games import IMAGES, MIXTURE, trainer

HOW = Pass(training=True, seed=7, step=2)


def steps(run: Trainer, numbers: range) -> list[Any]:
    shape = run.model.spec.image
    return [run.step(np.random.default_rng(n).random((6, *shape), np.float32), n) for n in numbers]


@pytest.mark.parametrize("game", ["inverse", "posthoc"])
@pytest.mark.parametrize("config", [MIXTURE, IMAGES], ids=["points", "images"])
def test_a_frozen_decoder_stays_and_runs_as_it_is_looked_at(game: str, config: Config) -> None:
    run = trainer(config, game, ema=0.3)
    before = {name: array.copy() for name, array in run.model.state().items()}
    z = run.model.prior(5, HOW)
    looked_at = run.model.decode(z, Pass()).data
    np.testing.assert_array_equal(run.model.decode(z, HOW).data, looked_at)
    assert run.model.decode(z, HOW).creator is None
    run.reference = np.random.default_rng(0).random((20, *run.model.spec.image), np.float32)
    steps(run, range(3))
    moved = {name.partition(".")[0] for name, a in run.model.state().items() if not np.array_equal(a, before[name])}
    assert moved == ({"encoder"} if game == "inverse" else {"encoder", "discriminator"})
    assert all(name.startswith("encoder.") for name in statistics(run))
    with for_looking(run):
        np.testing.assert_array_equal(run.model.decode(z, Pass()).data, looked_at)


def test_the_inverse_mapping_is_looked_at_with_statistics_of_samples() -> None:
    run = trainer(IMAGES, "inverse", ema=1.0)
    run.reference = np.zeros((100, 32, 32, 3), np.float32)
    steps(run, range(2))
    layer = run.model.encoder.layers[0]
    with for_looking(run):
        mean = layer.norm.buffers["running_mean"].copy()
    how = Pass(training=True)
    samples = run.model.decode(run.model.prior(100, how), how)
    np.testing.assert_allclose(layer.conv(samples, Pass())[0].data.mean(axis=(0, 1, 2)), mean, rtol=1e-3, atol=1e-6)


def test_a_vae_is_looked_at_with_statistics_of_its_codes() -> None:
    run = trainer(IMAGES, "vae", ema=1.0)
    run.reference = np.random.default_rng(1).random((100, 32, 32, 3), np.float32)
    steps(run, range(2))
    with for_looking(run):
        mean = run.model.decoder.layers[0].norm.buffers["running_mean"].copy()
    how = Pass(training=True)
    with no_grad():
        codes = run.model.encode(Tensor(run.reference), how)
    first = run.model.decoder.layers[0].conv(codes, Pass())[0].data
    np.testing.assert_allclose(first.mean(axis=(0, 1, 2)), mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("config", [MIXTURE, IMAGES], ids=["points", "images"])
def test_a_restored_game_goes_on_with_the_same_bytes(game: str, config: Config, tmp_path: Path) -> None:
    config = replace(config, game=game, ema=0.1)
    run = state.build_trainer(config)
    steps(run, range(2))
    state.save(tmp_path / "c.h5", run, config, 2, "")
    found = state.read(tmp_path / "c.h5")
    assert found.config.game == game
    other = state.build_trainer(replace(found.config, seed=5))  # other weights until they are restored
    other.seed = run.seed
    state.restore(other, found)
    assert steps(run, range(2, 4)) == steps(other, range(2, 4))
    for name, array in run.model.state().items():
        assert array.tobytes() == other.model.state()[name].tobytes(), name


#: of figures that are 1, 2, 3, ...
SHOWN = {
    "ali": "L_D 1.00  L_G 2.00  D(x,z^) 3.00  D(x~,z) 4.00",
    "gan": "L_D 1.00  L_G 2.00  D(x) 3.00  D(x~) 4.00",
    "vae": "-bound 1.00  KL 3.00  sigma 4.000",
    "inverse": "|z - Gz(Gx(z))|^2 1.0000",
    "posthoc": "L_D 1.00  L_G 2.00  D(x,z^) 3.00  D(x~,z) 4.00",
}


@pytest.mark.parametrize("game", GAMES)
def test_a_step_is_logged_in_plain_numbers_and_shown_in_a_line(game: str) -> None:
    run = trainer(MIXTURE, game)
    (result,) = steps(run, range(1))
    assert all(type(value) is float for value in result)
    assert all(np.isfinite(value) for value in result)
    assert "grad_norm_g" in result._fields
    assert run.rules.show(result._make(range(1, len(result) + 1))) == SHOWN[game]


def test_a_decoder_is_adopted_as_it_is_looked_at(tmp_path: Path) -> None:
    """The averaged weights with their own statistics, where the donor averages."""
    config = replace(IMAGES, game="gan", ema=0.2)
    donor = state.build_trainer(config)
    donor.reference = np.random.default_rng(1).random((100, 32, 32, 3), np.float32)
    steps(donor, range(3))
    state.save(tmp_path / "c.h5", donor, config, 3, "")
    run = trainer(IMAGES, "posthoc", seed=4)
    state.adopt_decoder(run.model, state.read(tmp_path / "c.h5"))
    z = run.model.prior(5, Pass())
    with for_looking(donor):
        wanted = donor.model.decode(z, Pass()).data
    np.testing.assert_allclose(run.model.decode(z, Pass()).data, wanted, rtol=1e-5)
    assert not np.allclose(donor.model.decode(z, Pass()).data, wanted, rtol=1e-3)
    with pytest.raises(DataError, match=r"c.h5: does not hold the decoder of this model"):
        state.adopt_decoder(trainer(IMAGES, "posthoc", width=0.3).model, state.read(tmp_path / "c.h5"))


def test_adam_s_settings_reach_every_player() -> None:
    run = trainer(MIXTURE, "gan", beta1=0.3)
    assert {adam.settings for adam in run.adams.values()} == {AdamSettings(0.01, 0.3)}
