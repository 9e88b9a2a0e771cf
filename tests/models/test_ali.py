"""The three players: shapes, noise, which statistics count when, and how the decoder starts."""

import numpy as np
import pytest

from alikit.autograd import Tensor, no_grad
from alikit.models import ALI, build
from alikit.nn import Pass, Sequential
from alikit.ops import Dropout
from alikit.ops._dispatch import kernel

NARROW = ("svhn", "cifar10", "mixture")
EVALUATION, TRAINING = Pass(seed=3), Pass(training=True, seed=3)


def inputs(model: ALI, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """x and z."""
    return Tensor(rng.random((count, *model.spec.image))), Tensor(rng.standard_normal((count, 1, 1, model.spec.nz)))


@pytest.mark.parametrize("name", NARROW)
def test_shapes(name: str, narrow, stream) -> None:
    model = narrow(name, stream("parameters"))
    x, z = inputs(model, 3, stream("x"))
    assert model.encode(x, TRAINING).shape == (3, 1, 1, model.spec.nz)
    assert model.decode(z, TRAINING).shape == (3, *model.spec.image)
    assert model.discriminator(x, z, TRAINING).shape == (3, 1, 1, 1)
    if name != "mixture":
        bias = model.decoder.layers[-1].conv.bias.data
        bias[...] = np.linspace(-9, 9, bias.size).reshape(bias.shape)
        images = model.decode(z, EVALUATION).data
        assert 0 <= images.min() < 0.1
        assert 0.9 < images.max() <= 1


@pytest.mark.parametrize("name", NARROW)
def test_every_parameter_belongs_to_exactly_one_player(name: str, narrow) -> None:
    model = narrow(name)
    players = [n for n, _ in model.generator_parameters()], [n for n, _ in model.discriminator_parameters()]
    assert sorted(players[0] + players[1]) == sorted(n for n, _ in model.named_parameters())
    assert all(n.startswith(("encoder.", "decoder.")) for n in players[0])
    assert all(n.startswith("discriminator.") for n in players[1])


@pytest.mark.parametrize("name", NARROW)
def test_evaluation_of_a_row_does_not_depend_on_the_others(name: str, narrow, stream) -> None:
    model = narrow(name, stream("parameters"))
    x, z = inputs(model, 5, stream("x"))

    def row(count: int, how: Pass) -> list[np.ndarray]:
        part_x, part_z = Tensor(x.data[:count].copy()), Tensor(z.data[:count].copy())
        ys = model.encode(part_x, how), model.decode(part_z, how), model.discriminator(part_x, part_z, how)
        return [y.data[0] for y in ys]

    for alone, among in zip(row(1, EVALUATION), row(5, EVALUATION), strict=True):
        np.testing.assert_allclose(alone, among, rtol=1e-9, atol=1e-12)
    for alone, among in list(zip(row(2, TRAINING), row(5, TRAINING), strict=True))[:2]:
        assert not np.allclose(alone, among, rtol=1e-3)  # in training batch norm looks at all of them


@pytest.mark.parametrize("name", ["svhn", "mixture"])
def test_evaluation_uses_the_running_statistics_and_leaves_them(name: str, narrow, stream) -> None:
    model = narrow(name, stream("parameters"))
    x, z = inputs(model, 4, stream("x"))
    before = {k: v.copy() for k, v in model.named_buffers()}
    with no_grad():
        plain = model.encode(x, EVALUATION).data, model.decode(z, EVALUATION).data
        model.update_statistics()
        for k, v in model.named_buffers():
            np.testing.assert_array_equal(v, before[k])
        for k, v in model.named_buffers():
            v *= 1.3 if k.endswith("std") else 1
        scaled = model.encode(x, EVALUATION).data, model.decode(z, EVALUATION).data
    assert not np.allclose(plain[0], scaled[0])
    assert not np.allclose(plain[1], scaled[1])


def test_a_training_step_s_statistics_reach_every_batch_norm(narrow, stream) -> None:
    model = narrow("svhn", stream("parameters"))
    before = {k: v.copy() for k, v in model.named_buffers()}
    assert len(before) == 2 * (6 + 6 + 4)
    x, z = inputs(model, 4, stream("x"))
    model.encode(x, TRAINING)
    model.decode(z, TRAINING)
    model.discriminator(x, z, TRAINING)
    model.update_statistics()
    assert not any(np.array_equal(v, before[k]) for k, v in model.named_buffers())


def test_codes_are_mu_plus_sigma_eps(narrow, stream) -> None:
    model = narrow("svhn", stream("parameters"))
    x, _ = inputs(model, 4, stream("x"))
    params = model.encoder(x, EVALUATION).data
    eps = kernel("normal", params)((4, 1, 1, 4), EVALUATION.stream("eps"), np.float64)
    z = model.encode(x, EVALUATION).data
    np.testing.assert_allclose(z, params[..., :4] + np.exp(params[..., 4:]) * eps, rtol=1e-12)
    mu, sigma = model.code_parameters(x, EVALUATION)
    np.testing.assert_allclose(z, mu + sigma * eps, rtol=1e-12)
    assert len(np.unique(eps)) == eps.size  # a number for each image and dimension


def test_the_mixture_s_encoder_is_a_network_of_noise(narrow, stream) -> None:
    model = narrow("mixture", stream("parameters"))
    x = Tensor(np.ones((50, 1, 1, 2)))
    z = model.encode(x, EVALUATION).data
    assert model.code_parameters(x, EVALUATION) is None
    assert len(np.unique(z[..., 0])) > 40  # equal x, different eps
    np.testing.assert_array_equal(z, model.encode(x, EVALUATION).data)
    assert not np.array_equal(z, model.encode(x, EVALUATION._replace(step=1)).data)


def test_the_prior_is_standard_normal_and_not_the_encoder_s_noise(narrow) -> None:
    model = narrow("svhn")
    z = model.prior(20_000, EVALUATION).data
    assert z.shape == (20_000, 1, 1, 4)
    assert z.dtype == np.float64
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    assert abs(np.corrcoef(z[:-1, 0, 0, 0], z[1:, 0, 0, 1])[0, 1]) < 0.04
    np.testing.assert_array_equal(z[:7], model.prior(7, EVALUATION).data)
    for other in (EVALUATION._replace(step=1), EVALUATION._replace(seed=4)):
        assert abs(np.corrcoef(z.ravel(), model.prior(20_000, other).data.ravel())[0, 1]) < 0.02
    eps = kernel("normal", z)(z.shape, EVALUATION.stream("eps"), np.float64)
    assert abs(np.corrcoef(z.ravel(), eps.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("name", "channels"), [("svhn", 26), ("cifar10", 13)])
def test_the_head_reads_x_s_channels_first(name: str, channels: int, narrow, stream) -> None:
    model = narrow(name, stream("parameters"))
    (x, z), (other_x, other_z) = inputs(model, 2, stream("x")), inputs(model, 2, stream("other"))
    weight = model.discriminator.xz.layers[0].conv.weight.data
    weight[..., :channels] = 0
    base = model.discriminator(x, z, EVALUATION).data
    np.testing.assert_array_equal(base, model.discriminator(other_x, z, EVALUATION).data)
    assert not np.allclose(base, model.discriminator(x, other_z, EVALUATION).data)


@pytest.mark.parametrize("name", ["svhn", "cifar10", "mixture-dropout"])
def test_d_drops_inputs_of_every_layer_from_pixels_and_code_on(name: str, narrow, stream) -> None:
    """D's pass is that of its layers one by one, each on inputs dropped by the layer's own stream."""
    model = narrow(name, stream("parameters"))
    towers = model.discriminator.x, model.discriminator.z, model.discriminator.xz
    layers = [layer for tower in towers for layer in tower.layers]
    assert all(layer.conv.rate > 0 for layer in layers)
    assert {layer.conv.name for layer in layers} >= {"discriminator.xz.1", "discriminator.xz.2"}
    assert len({layer.conv.name for layer in layers}) == len(layers)

    def by_hand(tower: Sequential, x: np.ndarray) -> np.ndarray:
        for layer in tower.layers:
            dropped = kernel("dropout", x)(x, Dropout(layer.conv.rate, TRAINING.stream(layer.conv.name)))
            assert 0 < (dropped == 0).mean() < 1
            x = layer(Tensor(dropped), TRAINING).data
        return x

    x, z = inputs(model, 6, stream("x"))
    pairs = np.concatenate([by_hand(towers[0], x.data), by_hand(towers[1], z.data)], axis=-1)
    wanted = by_hand(towers[2], pairs)
    np.testing.assert_allclose(model.discriminator(x, z, TRAINING).data, wanted, rtol=1e-9, atol=1e-12)
    parts = [[Tensor(t.data[:2]), Tensor(t.data[2:])] for t in (x, z)]
    np.testing.assert_allclose(model.discriminator(*parts, TRAINING).data, wanted, rtol=1e-9, atol=1e-12)


def test_the_decoder_starts_at_the_log_odds_of_the_mean_image(stream) -> None:
    model = build("svhn", width=0.05, nz=4, seed=2)
    images = stream("x").random((50, 32, 32, 3)).astype(np.float32) ** 2
    images[:, 0, 0, 0], images[:, 0, 1, 0] = 0, 1  # clipped to [1e-7, 1 - 1e-7]: finite log-odds
    model.start_at_mean_image(images)
    mean = images.mean(axis=0, dtype=np.float64)
    bias = model.decoder.layers[-1].conv.bias.data
    assert bias.dtype == np.float32
    np.testing.assert_allclose(bias[1:], np.log(mean[1:] / (1 - mean[1:])), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bias[0, :2, 0], [-np.log(1e7), np.log(1e7)], rtol=1e-5)
    start = model.decode(model.prior(8, TRAINING), TRAINING).data
    assert np.abs(start - mean).max() < 0.02  # tiny weights add next to nothing


def test_no_mean_image_for_points(narrow) -> None:
    model = narrow("mixture")
    model.start_at_mean_image(np.ones((5, 1, 1, 2)))
    assert (model.decoder.layers[-1].conv.bias.data == 0).all()
