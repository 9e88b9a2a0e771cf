"""Which pairs D sees, who minimises what, and which way gradients go."""

import numpy as np
import pytest

from alikit import models, ops
from alikit.autograd import Tensor, grad
from alikit.models import ALI
from alikit.nn import Pass
from alikit.training.objective import gradients, play

HOW = Pass(training=True, seed=7, step=2)
NARROW = {"svhn": 4, "cifar10": 4, "mixture-dropout": None}


def narrow(name: str, rng: np.random.Generator) -> ALI:
    """A small float64 model whose weights are large enough for every part to matter."""
    model = models.build(name, width=0.04, nz=NARROW[name], seed=1, dtype=np.float64)
    for p in model.parameters():
        p.data[...] += 0.1 * rng.standard_normal(p.shape)
    return model


def images(model: ALI, rng: np.random.Generator, count: int = 3) -> np.ndarray:
    return rng.random((count, *model.spec.image))


def softplus(a: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(a))


@pytest.mark.parametrize("name", NARROW)
def test_losses_and_their_sides(name: str, stream) -> None:
    model = narrow(name, stream("parameters"))
    game = play(model, images(model, stream("x")), HOW)
    data, sample = game.logits.data[:3], game.logits.data[3:]
    losses = game.losses
    assert losses.loss_d.item() == pytest.approx((softplus(-data) + softplus(sample)).mean(), rel=1e-12)
    assert losses.loss_g.item() == pytest.approx((softplus(data) + softplus(-sample)).mean(), rel=1e-12)
    assert losses.figures[2] == pytest.approx((1 / (1 + np.exp(-data))).mean(), rel=1e-12)
    assert losses.figures[3] == pytest.approx((1 / (1 + np.exp(-sample))).mean(), rel=1e-12)


@pytest.mark.parametrize("name", NARROW)
def test_d_sees_data_with_their_codes_then_samples_with_theirs_in_one_pass(name: str, stream, monkeypatch) -> None:
    model = narrow(name, stream("parameters"))
    x = images(model, stream("x"))
    calls = []
    run = model.discriminator.__call__

    def watched(self, x: list[Tensor], z: list[Tensor], how: Pass) -> Tensor:
        calls.append((*(np.concatenate([part.data for part in parts]) for parts in (x, z)), how))
        return run(x, z, how)

    monkeypatch.setattr(models.Discriminator, "__call__", watched)
    game = play(model, x, HOW)
    ((pairs_x, pairs_z, how),) = calls
    z = model.prior(3, HOW).data
    np.testing.assert_array_equal(pairs_x, np.concatenate([x, model.decode(Tensor(z), HOW).data]))
    np.testing.assert_array_equal(pairs_z, np.concatenate([model.encode(Tensor(x), HOW).data, z]))
    assert how == HOW
    np.testing.assert_array_equal(game.x_tilde.data, pairs_x[3:])
    np.testing.assert_array_equal(game.z_hat.data, pairs_z[:3])


def test_d_s_batch_norm_mixes_both_halves(stream) -> None:
    """The statistics folded in are those of all 2M rows; data and samples of other brightness make that visible."""
    model = narrow("svhn", stream("parameters"))
    model.start_at_mean_image(np.full((1, 32, 32, 3), 0.9))
    x = 0.3 * images(model, stream("x"))
    game = play(model, x, HOW)
    first, second = model.discriminator.x.layers[:2]
    stacked = np.concatenate([x, game.x_tilde.data])
    dropped = [ops.Dropout(layer.conv.rate, HOW.stream(layer.conv.name)) for layer in (first, second)]
    x_second = first(ops.dropout(Tensor(stacked), *dropped[0]), HOW, dropped[1])
    before, _ = second.conv(x_second, HOW)
    model.update_statistics()
    mean = before.data.mean(axis=(0, 1, 2))
    std = np.sqrt(before.data.var(axis=(0, 1, 2)) + 1e-4)
    np.testing.assert_allclose(second.norm.buffers["running_mean"], 0.05 * mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(second.norm.buffers["running_std"], 0.95 + 0.05 * std, rtol=1e-9)
    halves = before.data[:3].mean(axis=(0, 1, 2)), before.data[3:].mean(axis=(0, 1, 2))
    assert not np.allclose(*halves, rtol=0.05)
    # and so a data pair's logit depends on the samples beside it
    alone = model.discriminator(Tensor(x), game.z_hat, HOW).data
    assert not np.allclose(alone, game.logits.data[:3], rtol=1e-3)


@pytest.mark.parametrize("name", NARROW)
def test_one_walk_or_two_give_the_same_gradients(name: str, stream) -> None:
    """`gradients` against the plain reverse walk of each loss."""
    model = narrow(name, stream("parameters"))
    x = images(model, stream("x"))
    theta_d = [p for _, p in model.discriminator_parameters()]
    theta_g = [p for _, p in model.generator_parameters()]
    assert model.discriminator.rows_independent == (name != "svhn")
    found = gradients(play(model, x, HOW), model.discriminator, theta_d, theta_g)
    (plain_d,) = grad([play(model, x, HOW).losses.loss_d], [theta_d])
    (plain_g,) = grad([play(model, x, HOW).losses.loss_g], [theta_g])
    for given, plain, theta in zip(found, (plain_d, plain_g), (theta_d, theta_g), strict=True):
        assert len(given) == len(theta)
        for g, wanted, p in zip(given, plain, theta, strict=True):
            assert g.shape == p.shape
            np.testing.assert_allclose(g, wanted, rtol=1e-9, atol=1e-14 + 1e-9 * np.abs(wanted).max())
            assert np.abs(g).max() > 0


@pytest.mark.parametrize("logit", [60.0, -60.0, 800.0])
def test_gradients_stay_finite_where_d_is_certain(logit: float, stream) -> None:
    model = narrow("mixture-dropout", stream("parameters"))
    model.discriminator.xz.layers[-1].conv.bias.data[...] = logit
    game = play(model, images(model, stream("x")), HOW)
    theta_d, theta_g = ([p for _, p in f()] for f in (model.discriminator_parameters, model.generator_parameters))
    grads_d, grads_g = gradients(game, model.discriminator, theta_d, theta_g)
    assert game.losses.loss_d.item() == pytest.approx(abs(logit), rel=0.3)
    assert all(np.isfinite(g).all() for g in (*grads_d, *grads_g))
    assert max(np.abs(g).max() for g in grads_g) > 0  # the non-saturating loss


def test_both_sides_of_the_generators_loss_count(stream) -> None:
    """The encoder learns through D's code tower from data pairs, the decoder through its image tower from samples."""
    model = narrow("svhn", stream("parameters"))
    theta = [p for _, p in model.generator_parameters()]
    game = play(model, images(model, stream("x")), HOW)
    (full,) = grad([game.losses.loss_g], [theta])
    for layer in model.discriminator.z.layers:
        layer.conv.weight.data[...] = 0  # D no longer looks at codes
    (blind,) = grad([play(model, images(model, stream("x")), HOW).losses.loss_g], [theta])
    names = [name for name, _ in model.generator_parameters()]
    for name, g, b in zip(names, full, blind, strict=True):
        assert np.abs(g).max() > 0, name
        assert (b is None or not np.abs(b).any()) == name.startswith("encoder."), name


def test_the_same_counters_play_the_same_game(stream) -> None:
    model = narrow("cifar10", stream("parameters"))
    x = images(model, stream("x"))
    first, again = play(model, x, HOW), play(model, x, HOW)
    np.testing.assert_array_equal(first.logits.data, again.logits.data)
    for other in (HOW._replace(step=3), HOW._replace(seed=8)):
        game = play(model, x, other)
        assert not np.allclose(first.z_hat.data, game.z_hat.data)
        assert not np.allclose(first.x_tilde.data, game.x_tilde.data)
