"""Instance noise: how much at which step, on whose images, and that each player's gradient is still its own loss's."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.kernels.cpu.sampling import normal
from alikit.models import SPECS
from alikit.nn import Pass
from alikit.training import state
from alikit.training.config import PRESETS, resolve
from alikit.training.games import Batch
from alikit.training.noise import InstanceNoise
from tests.training.slopes import check_slopes

HOW = Pass(training=True, seed=7, step=2, noise=0.3)
PAIRS = [(name, networks) for name in ("ali", "gan") for networks in ("svhn", "cifar10", "mixture")]
SMALL = replace(PRESETS["svhn"], model="small", width=0.15, nz=3, lr=0.01)


@pytest.mark.parametrize(("step", "deviation"), [(0, 0.2), (1, 0.15), (3, 0.05), (4, None), (900, None)])
def test_it_falls_to_nothing(step: int, deviation: float | None) -> None:
    """A device's clock says the same as a number, and zero for nothing."""
    noise = InstanceNoise(0.2, 4)
    assert noise.at(step) == (None if deviation is None else pytest.approx(deviation))
    found = noise.at(np.array([7, step, 99]))
    assert (found.shape, found.dtype) == ((), np.float32)
    assert found == pytest.approx(deviation or 0)


@pytest.fixture
def game(stream, as_if_trained: Callable) -> Callable[[str, str], Any]:
    def make(name: str, networks: str) -> Any:
        players, rules = state.GAMES[name]
        spec = SPECS[networks].resized(0.05, None if networks == "mixture" else 3)
        model = players(spec, seed=2, dtype=np.float64)
        as_if_trained(model, stream("parameters"))
        return rules(model)

    return make


@pytest.mark.parametrize("networks", ["svhn", "cifar10", "mixture"])
def test_d_sees_noise_on_data_and_samples_alike(networks: str, game: Callable, stream) -> None:
    rules = game("gan", networks)
    x = stream("x").random((4, *rules.model.spec.image))
    played = rules.play(Batch(x), HOW)
    both = np.concatenate([x, played.x_tilde.data])
    noisy = both + 0.3 * normal(both.shape, HOW.stream("instance noise"), np.float64)
    plain = HOW._replace(noise=None)
    wanted = rules.model.discriminator(Tensor(noisy), plain).data
    np.testing.assert_allclose(played.logits.data, wanted, rtol=1e-9)
    np.testing.assert_array_equal(played.x_tilde.data, rules.play(Batch(x), plain).x_tilde.data)


@pytest.mark.parametrize(("name", "networks"), [*PAIRS, ("posthoc", "mixture")])
def test_a_gradient_is_the_slope_of_its_player_s_own_loss(name: str, networks: str, game: Callable, stream) -> None:
    """With batch norm in D (svhn), without, and without a tower on images."""
    rules = game(name, networks)
    check_slopes(rules, stream("x").random((4, *rules.model.spec.image)), HOW)


def with_noise(**options: Any) -> Any:
    return state.build_trainer(replace(SMALL, instance_noise=0.3, instance_noise_steps=3, **options))


def test_a_step_has_the_noise_of_its_number_and_later_ones_none() -> None:
    x = np.random.default_rng(0).random((6, 32, 32, 3), np.float32)
    for step, differs in ((0, True), (2, True), (3, False)):
        found, plain = with_noise().step(x, step), state.build_trainer(SMALL).step(x, step)
        assert (found != plain) == differs


@pytest.mark.parametrize("options", [{"labels": 10}, {"conditional": True}, {"reconstruction": 3.0}])
def test_it_goes_with_the_other_options(options: dict) -> None:
    config = resolve("svhn", {"width": 0.05, "nz": 3, "instance_noise": 0.3, **options})
    rng, classes = np.random.default_rng(0), np.eye(10, dtype=np.float32)[:6].reshape(6, 1, 1, 10)
    x = rng.random((6, 32, 32, 3), np.float32)
    labelled = (x[:3], classes[:3]) if "labels" in options else None
    batch = Batch(x, classes if "conditional" in options else None, labelled)
    found = state.build_trainer(config).step(batch, 0)
    plain = state.build_trainer(replace(config, instance_noise=0.0)).step(batch, 0)
    assert np.isfinite(found).all()
    assert found.loss_d != plain.loss_d
