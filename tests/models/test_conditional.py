"""The conditional networks: sizes of the authors' code, where the embedding goes in, and that every part heeds it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.models import ALI, EMBEDDING, SPECS, ConditionalALI
from alikit.nn import Pass
from alikit.nn import layers as nn_layers

EVALUATION, TRAINING = Pass(seed=3), Pass(training=True, seed=3)

Inputs = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def model(stream) -> ConditionalALI:
    """A narrow SVHN model in float64 given five numbers, with weights at which a difference shows."""
    made = ConditionalALI(SPECS["svhn"].resized(0.05, 4).conditioned(5, 6), seed=2, dtype=np.float64)
    rng = stream("parameters")
    for name, p in made.named_parameters():
        if name.endswith("weight"):
            p.data[...] = rng.standard_normal(p.shape) * np.sqrt(2 / p.data[0].size)
    return made


@pytest.fixture
def inputs(stream) -> Callable[..., Inputs]:
    """Images, codes and conditions."""

    def make(count: int = 3) -> Inputs:
        x, z = stream("x").random((count, 32, 32, 3)), stream("z").standard_normal((count, 1, 1, 4))
        return Tensor(x), Tensor(z), Tensor(stream("y").integers(0, 2, (count, 1, 1, 5)).astype(np.float64))

    return make


def test_celeba_has_the_parameters_of_the_authors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn_layers, "init_normal", lambda name, shape, *_: np.broadcast_to(np.float32(0), shape))
    model = ConditionalALI(SPECS["celeba"].conditioned(40, EMBEDDING))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes["embedding.conv.weight"] == (256, 1, 1, 40)
    assert shapes["embedding.conv.bias"] == (256,)
    assert sum(p.data.size for p in model.embedding.parameters()) == 10_496
    assert shapes["encoder.layers.5.conv.weight"] == (512, 1, 1, 768)  # 393,216
    assert shapes["decoder.layers.0.conv.weight"] == (512, 4, 4, 512)  # 4,194,304
    assert shapes["discriminator.xz.layers.0.conv.weight"] == (2048, 1, 1, 1792)
    plain, further = 33_795_329, 10_496 + 256 * 512 + 256 * 16 * 512 + 256 * 2048
    assert sum(p.data.size for p in model.parameters()) == plain + further == 36_558_337


def test_what_the_condition_does_not_touch_begins_as_in_the_plain_model() -> None:
    spec = SPECS["svhn"].resized(0.05, 4)
    plain, conditional = (made.state() for made in (ALI(spec, seed=2), ConditionalALI(spec.conditioned(5, 6), seed=2)))
    differ = {name for name, array in plain.items() if not np.array_equal(array, conditional[name])}
    wider = ("encoder.layers.6", "decoder.layers.0", "discriminator.xz.layers.0")
    assert differ == {f"{layer}.conv.weight" for layer in wider}
    assert conditional.keys() - plain.keys() == {"embedding.conv.weight", "embedding.conv.bias"}


def test_shapes_and_players(model: ConditionalALI, inputs) -> None:
    x, z, y = inputs()
    e = model.embed(y, TRAINING)
    assert e.shape == (3, 1, 1, 6)
    assert model.encode(x, TRAINING, y).shape == (3, 1, 1, 4)
    assert model.decode(z, TRAINING, y).shape == (3, 32, 32, 3)
    assert model.discriminator(x, z, TRAINING, e).shape == (3, 1, 1, 1)
    players = [n for n, _ in model.generator_parameters()], [n for n, _ in model.discriminator_parameters()]
    assert sorted(players[0] + players[1]) == sorted(n for n, _ in model.named_parameters())
    assert players[0][-2:] == ["embedding.conv.weight", "embedding.conv.bias"]


def test_the_embedding_is_linear(model: ConditionalALI, inputs) -> None:
    y = inputs()[2].data
    model.embedding.conv.bias.data[...] = np.arange(6)
    wanted = y[:, 0, 0] @ model.embedding.conv.weight.data[:, 0, 0].T + np.arange(6)
    np.testing.assert_allclose(model.embed(Tensor(y), EVALUATION).data[:, 0, 0], wanted, rtol=1e-12)


def test_every_part_heeds_its_own_row_s_condition(model: ConditionalALI, inputs) -> None:
    x, z, y = inputs()
    other = y.data.copy()
    other[0] = 1 - other[0]

    def parts(y: np.ndarray) -> list[np.ndarray]:
        given = Tensor(y)
        mu, sigma = model.code_parameters(x, EVALUATION, given)
        made = model.encode(x, EVALUATION, given), model.decode(z, EVALUATION, given)
        logits = model.discriminator(x, z, EVALUATION, model.embed(given, EVALUATION))
        return [mu, sigma, *(tensor.data for tensor in (*made, logits))]

    for before, after in zip(parts(y.data), parts(other), strict=True):
        changed = [not np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(before, after, strict=True)]
        assert changed == [True, False, False]


def test_the_embedding_comes_last_where_it_joins(model: ConditionalALI, inputs) -> None:
    """Weights of the last E channels alone see the condition."""
    x, z, y = inputs()
    none = Tensor(np.zeros_like(y.data))
    for layer in (model.encoder.layers[-1], model.discriminator.xz.layers[0]):
        layer.conv.weight.data[..., -6:] = 0
    model.decoder.layers[0].conv.weight.data[-6:] = 0
    np.testing.assert_array_equal(model.encode(x, EVALUATION, y).data, model.encode(x, EVALUATION, none).data)
    np.testing.assert_array_equal(model.decode(z, EVALUATION, y).data, model.decode(z, EVALUATION, none).data)
    logits = [model.discriminator(x, z, EVALUATION, model.embed(given, EVALUATION)).data for given in (y, none)]
    np.testing.assert_array_equal(*logits)


def test_without_a_condition_nothing_runs(model: ConditionalALI, inputs) -> None:
    x, z, _ = inputs()
    for refused, argument in ((model.encode, x), (model.code_parameters, x), (model.decode, z), (model.see, x)):
        with pytest.raises(ValueError, match="a conditional model was given no condition y"):
            refused(argument, EVALUATION)


@pytest.mark.parametrize("name", ["mixture", "svhn"])
def test_tables_that_cannot_be_conditioned(name: str) -> None:
    spec = SPECS[name].resized(0.05)
    spec = spec if name == "svhn" else spec.conditioned(5, 6)
    with pytest.raises(ValueError, match=f"^{name}: no conditional model"):
        ConditionalALI(spec)
    if name == "svhn":
        with pytest.raises(ValueError, match=r"^svhn: no conditional model"):
            ConditionalALI(replace(spec.conditioned(5, 6), encoder=spec.encoder[:4]))
