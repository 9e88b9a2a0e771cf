"""The game given conditions: gradients against differences, who is told what, and steps that go on byte for byte."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.data import Dataset
from alikit.errors import DataError, UsageError
from alikit.models import SPECS, ConditionalALI
from alikit.nn import Pass
from alikit.training import conditional, conditions, state
from alikit.training.average import for_looking
from alikit.training.conditional import ConditionalRules
from alikit.training.config import PRESETS, resolve
from alikit.training.games import Batch
from alikit.training.step import Trainer

HOW = Pass(training=True, seed=7, step=2)
STEP = 1e-7  # ten times as far, some of the many leaky ReLUs bend on the way
CONFIG = replace(PRESETS["svhn"], model="small", width=0.15, nz=3, lr=0.01, conditional=True)


@pytest.fixture
def rules(stream, as_if_trained: Callable) -> Callable[..., ConditionalRules]:
    """rules(networks): a narrow float64 game given five numbers, with parameters at which an error shows."""

    def make(networks: str) -> ConditionalRules:
        spec = SPECS[networks].resized(0.05, 3).conditioned(5, 4)
        model = ConditionalALI(spec, seed=2, dtype=np.float64)
        as_if_trained(model, stream("parameters"))
        return ConditionalRules(model)

    return make


def batch(stream, count: int = 4, size: int = 5, name: str = "batch") -> Batch:
    rng = stream(name)
    return Batch(rng.random((count, 32, 32, 3)), rng.integers(0, 2, (count, 1, 1, size)).astype(np.float64))


@pytest.mark.parametrize("networks", ["svhn", "cifar10"])
def test_every_parameter_s_gradient_is_its_player_s_slope(networks: str, rules, stream) -> None:
    """Central differences of whole passes along a direction for each tensor. What D is told stays while the embedding
    moves: through D no gradient reaches it."""
    game, x = rules(networks), batch(stream)
    players = {name: [p for _, p in named] for name, named in game.players().items()}
    played = game.play(x, HOW)
    told = played.embedded.data.copy()
    moves = game.gradients(played, players)
    for player, parameters in players.items():
        for p, g in zip(parameters, moves[player], strict=True):
            assert g.shape == p.shape
            direction = stream("direction").standard_normal(p.shape)
            before, ends = p.data.copy(), []
            for sign in (1, -1):
                p.data[...] = before + sign * STEP * direction
                losses = conditional.play(game.model, x, HOW, told=told).game.losses
                ends.append(getattr(losses, f"loss_{player}").item())
            p.data[...] = before
            slope, wanted = float((g * direction).sum()), (ends[0] - ends[1]) / (2 * STEP)
            assert slope == pytest.approx(wanted, rel=2e-4, abs=2e-7)
    assert min(float(np.abs(g).max()) for g in moves["g"][-2:]) > 1e-5  # W and b are moved


def test_both_pairs_of_a_row_have_its_condition(rules, stream) -> None:
    game, given = rules("svhn"), batch(stream)
    model, played = game.model, game.play(given, HOW)
    x, y = Tensor(given.x), Tensor(given.y)
    z = model.prior(4, HOW)
    z_hat, x_tilde = model.encode(x, HOW, y), model.decode(z, HOW, y)
    np.testing.assert_allclose(played.game.z_hat.data, z_hat.data, rtol=1e-12)
    np.testing.assert_allclose(played.game.x_tilde.data, x_tilde.data, rtol=1e-12)
    e = model.embed(Tensor(np.concatenate([given.y, given.y])), HOW)
    logits = model.discriminator([x, x_tilde], [z_hat, z], HOW, e)
    np.testing.assert_allclose(played.game.logits.data, logits.data, rtol=1e-12)
    assert game.figures(played).tolist() == played.game.losses.figures.tolist()


def test_a_batch_without_conditions(rules, stream) -> None:
    with pytest.raises(ValueError, match="a conditional game needs a batch with conditions y"):
        rules("svhn").play(Batch(batch(stream).x), HOW)


def float32(given: Batch) -> Batch:
    return Batch(given.x.astype(np.float32), given.y.astype(np.float32))


def steps(run: Trainer, numbers: range, stream) -> list:
    return [run.step(float32(batch(stream, 6, 10, f"step {n}")), n) for n in numbers]


def test_a_restored_run_goes_on_with_the_same_bytes(tmp_path: Path, stream) -> None:
    run = state.build_trainer(replace(CONFIG, ema=0.1))
    before = run.model.state()["embedding.conv.weight"].copy()
    steps(run, range(2), stream)
    assert not np.array_equal(before, run.model.state()["embedding.conv.weight"])
    state.save(tmp_path / "c.h5", run, replace(CONFIG, ema=0.1), 2, "")
    found = state.read(tmp_path / "c.h5")
    assert found.config.conditional
    other = state.build_trainer(replace(found.config, seed=5))
    other.seed = run.seed
    state.restore(other, found)
    assert steps(run, range(2, 4), stream) == steps(other, range(2, 4), stream)
    for name, array in run.model.state().items():
        assert array.tobytes() == other.model.state()[name].tobytes(), name
    assert "embedding.conv.weight" in run.ema.state()


def test_averaged_weights_are_looked_at_with_statistics_of_given_images(stream) -> None:
    run = state.build_trainer(replace(CONFIG, ema=1.0))
    given = float32(batch(stream, 100, 10))
    run.reference, run.reference_y = given.x, given.y
    steps(run, range(2), stream)
    with for_looking(run):
        mean = run.model.decoder.layers[0].norm.buffers["running_mean"].copy()
    how = Pass(training=True)
    z, e = run.model.prior(100, how), run.model.embed(Tensor(given.y), how)
    read = Tensor(np.concatenate([z.data, e.data], axis=-1))
    first = run.model.decoder.layers[0].conv(read, how)[0].data
    np.testing.assert_allclose(first.mean(axis=(0, 1, 2)), mean, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_conditional() -> None:
    for options, message in (
        (("mixture", {}), "--conditional: svhn, cifar10, celeba have labels, mixture has none"),
        (("svhn", {"game": "vae"}), "--conditional: goes with ALI's own game, not with --model vae"),
        (("svhn", {"reconstruction": 1.0}), "--conditional: goes with ALI's own game, not with --reconstruction"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve(options[0], {**options[1], "conditional": True})
    assert resolve("celeba", {"conditional": True}).batch_size == 128
    assert resolve("celeba", {"conditional": True, "batch_size": 9}).batch_size == 9
    assert resolve("svhn", {"conditional": True}).batch_size == resolve("celeba", {}).batch_size == 100


def test_labels_that_a_name_does_not_promise() -> None:
    images = np.zeros((3, 2, 2, 3), np.uint8)
    options = {"name": "celeba", "split": "train", "source": "here", "checksum": "", "images": images}
    with pytest.raises(DataError, match=r"^here: its labels are not the 40 of celeba$"):
        conditions.check(Dataset(**options, labels=np.zeros((3, 2), np.uint8), label_names=("Smiling", "Male")))


def test_labels_as_input() -> None:
    def rows(*arguments) -> list:
        found = conditions.as_input(*arguments)
        assert (found.shape[1:3], found.dtype) == ((1, 1), np.float32)
        return (
            found[:, 0, 0].argmax(axis=1).tolist() if arguments[0] != "celeba" else found.sum(axis=3).ravel().tolist()
        )

    assert rows("svhn", [3, 0, 9], 3) == [3, 0, 9]
    assert rows("svhn", 4, 3) == [4, 4, 4]
    assert rows("svhn", np.eye(10)[[5, 1]], 2) == [5, 1]
    assert rows("celeba", np.ones(40), 2) == [40, 40]
    assert rows("celeba", np.array([[1] * 40, [0] * 40]), 2) == [40, 0]
    for name, y, message in (
        ("svhn", [1, 2], r"y is \(2,\)"),
        ("svhn", [1, 2, 10], "classes from 1 to 10, wanted 0 to 9"),
        ("svhn", 0.5, r"wanted \(3,\) classes or \(3, 10\) for 3 rows of svhn"),
        ("celeba", [1, 0, 1], r"y is \(3,\) int64, wanted \(3, 40\)"),
        ("celeba", "Smiling", r"y is \(\) <U7, wanted \(3, 40\)"),
    ):
        with pytest.raises(ValueError, match=message):
            conditions.as_input(name, y, 3)


def test_samples_show_the_classes_in_turn_or_attributes_of_held_out_faces() -> None:
    held_out = np.arange(12, dtype=np.float32).reshape(3, 1, 1, 4)
    assert conditions.shown("celeba", held_out, 5)[:, 0, 0, 0].tolist() == [0, 4, 8, 0, 4]
    classes = conditions.shown("cifar10", np.zeros((3, 1, 1, 10), np.float32), 12)
    assert classes[:, 0, 0].argmax(axis=1).tolist() == [*range(10), 0, 1]
    assert classes.dtype == np.float32
