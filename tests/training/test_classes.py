"""The game with labels: what each player minimises, what the labels move, and that every gradient is its own loss's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Tensor, grad, gradcheck
from alikit.models import ALI, SPECS
from alikit.nn import Parameter, Pass
from alikit.training.classes import ClassRules, play
from alikit.training.games import Batch

HOW = Pass(training=True, seed=7, step=2)
CLASSES = 3


@pytest.fixture
def model(stream, as_if_trained: Callable) -> Callable[[str], ALI]:
    """model(networks): a narrow float64 one with numbers at which an error shows."""

    def make(networks: str) -> ALI:
        made = ALI(SPECS[networks].resized(0.05, 3).telling(CLASSES), seed=2, dtype=np.float64)
        as_if_trained(made, stream("parameters"))
        # so that D is not too sure of anything
        made.discriminator.xz.layers[-1].conv.weight.data[...] *= {"svhn": 0.2, "cifar10": 0.005}[networks]
        return made

    return make


def one_hot(*classes: int) -> np.ndarray:
    return np.eye(CLASSES)[list(classes)].reshape(-1, 1, 1, CLASSES)


@pytest.fixture
def batch(stream) -> Batch:
    """Four images, and three others with their classes."""
    x = stream("x").random((7, 32, 32, 3))
    return Batch(x[:4], labelled=(x[4:], one_hot(2, 0, 1)))


def parameters(game: ClassRules) -> dict[str, list[Parameter]]:
    return {name: [p for _, p in named] for name, named in game.players().items()}


@pytest.mark.parametrize("networks", ["svhn", "cifar10"])
def test_one_pass_over_data_then_labelled_then_samples(networks: str, model, batch: Batch) -> None:
    """The stack by hand; the encoder sees all data at once, and the codes of samples are those of the game without."""
    game = ClassRules(model(networks))
    played = game.play(batch, HOW)
    data = np.concatenate([batch.x, batch.labelled[0]])
    z = game.model.prior(4, HOW)
    codes = np.concatenate([game.model.encode(Tensor(data), HOW).data, z.data])
    images = np.concatenate([data, game.model.decode(z, HOW).data])
    logits = game.model.discriminator(Tensor(images), Tensor(codes), HOW).data.reshape(11, CLASSES)
    np.testing.assert_allclose(played.logits.data.reshape(11, CLASSES), logits, rtol=1e-12)

    chances = np.concatenate([np.exp(logits), np.ones((11, 1))], axis=1)
    chances /= chances.sum(axis=1, keepdims=True)
    real = 1 - chances[:, -1]
    label = -np.log(chances[[4, 5, 6], [2, 0, 1]] / real[4:7]).mean()
    wanted = {
        "loss_d": label - np.log(real[:4]).mean() / 2 - np.log(1 - real[7:]).mean() / 2,
        "loss_g": -np.log(1 - real[:4]).mean() - np.log(real[7:]).mean(),
        "loss_label": label,
        "prob_data": real[:4].mean(),
        "prob_sample": real[7:].mean(),
        "label_accuracy": (logits[4:7].argmax(axis=1) == [2, 0, 1]).mean(),
    }
    assert dict(zip(game.result._fields, game.figures(played).tolist(), strict=False)) == pytest.approx(wanted)
    assert chances.min() > 1e-3
    assert played.losses.loss_d.item() == pytest.approx(wanted["loss_d"])


@pytest.mark.parametrize(("player", "loss"), [("discriminator", "loss_d"), ("generators", "loss_g")])
@pytest.mark.parametrize("networks", ["svhn", "cifar10"])
def test_the_step_s_gradients(networks: str, player: str, loss: str, model, batch: Batch) -> None:
    """Each loss's differences in its player's parameters: with batch norm in D and without."""
    made = model(networks)
    roots = [made.discriminator] if player == "discriminator" else [made.encoder, made.decoder]
    slots = [(m, k) for root in roots for m in root.modules() for k, v in vars(m).items() if isinstance(v, Parameter)]

    def fn(*values: Tensor) -> Tensor:
        for (owner, name), value in zip(slots, values, strict=True):
            setattr(owner, name, value)
        return getattr(play(made, batch, HOW).losses, loss)

    gradcheck(fn, [getattr(owner, name).data for owner, name in slots], directions=1, step=1e-7)


@pytest.mark.parametrize("networks", ["svhn", "cifar10"])
def test_one_walk_through_d_gives_what_two_give(networks: str, model, batch: Batch) -> None:
    game = ClassRules(model(networks))
    players = parameters(game)
    found = game.gradients(game.play(batch, HOW), players)
    losses = game.play(batch, HOW).losses
    for player, plain in zip("dg", grad([losses.loss_d, losses.loss_g], [players["d"], players["g"]]), strict=True):
        assert len(found[player]) == len(plain)
        for g, wanted in zip(found[player], plain, strict=True):
            np.testing.assert_allclose(g, wanted, rtol=1e-9, atol=1e-14 + 1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("networks", ["svhn", "cifar10"])
def test_what_the_labels_say_moves_d_alone(networks: str, model, batch: Batch) -> None:
    game = ClassRules(model(networks))
    players = parameters(game)

    def moves(*classes: int) -> dict[str, list[Any]]:
        labelled = (batch.labelled[0], one_hot(*classes))
        return game.gradients(game.play(batch._replace(labelled=labelled), HOW), players)

    one, other = moves(2, 0, 1), moves(0, 0, 2)
    for a, b in zip(one["g"], other["g"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(one["d"][-1], other["d"][-1])


def test_a_step_is_shown_in_a_line(model, batch: Batch) -> None:
    game = ClassRules(model("svhn"))
    result = game.result(0.9, 1.2, 0.345, 0.7, 0.3, 2 / 3, 1.0, 2.0)
    assert game.show(result) == "L_D 0.90  L_G 1.20  D(x,z^) 0.70  D(x~,z) 0.30  labels 0.34, 67% right"


def test_a_batch_without_labels_is_refused(model, batch: Batch) -> None:
    with pytest.raises(ValueError, match="play: a batch without labelled images"):
        ClassRules(model("svhn")).play(Batch(batch.x), HOW)
