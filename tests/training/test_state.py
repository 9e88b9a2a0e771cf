"""What a checkpoint of a run holds: all that the next step depends on, to the last bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alikit.errors import DataError, UsageError
from alikit.training import checkpoint, state
from alikit.training.config import PRESETS, Config
from alikit.training.step import Trainer

SVHN = replace(PRESETS["svhn"], width=0.04, nz=4, lr=0.01, ema=0.1, seed=6)
MIXTURE = replace(PRESETS["mixture"], width=0.02, lr=0.01)


def step(trainer: Trainer, number: int) -> Any:
    x = np.random.default_rng(number).random((4, *trainer.model.spec.image), np.float32)
    return trainer.step(x, number)


def arrays_of(trainer: Trainer) -> dict[str, np.ndarray]:
    sections = {"model": trainer.model, "d": trainer.adam_d, "g": trainer.adam_g, "ema": trainer.ema}
    return {f"{k}/{n}": a for k, part in sections.items() if part is not None for n, a in part.state().items()}


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, bytes]:
    """A trainer after three steps and its checkpoint's bytes."""
    trainer, path = state.build_trainer(SVHN), tmp_path_factory.mktemp("third") / "c.h5"
    for number in range(3):
        step(trainer, number)
    state.save(path, trainer, SVHN, 3, "abc")
    return trainer, path.read_bytes()


@pytest.fixture
def saved(third: tuple[Trainer, bytes], tmp_path: Path) -> Path:
    """A copy of that checkpoint."""
    path = tmp_path / "checkpoint-00000003.h5"
    path.write_bytes(third[1])
    return path


def test_a_restored_trainer_goes_on_with_the_same_bytes(third: tuple[Trainer, bytes], saved: Path) -> None:
    trainer = third[0]
    found = state.read(saved)
    assert (found.config, found.step, found.path) == (SVHN, 3, saved)
    assert found.meta["data_checksum"] == "abc"
    other = state.build_trainer(found.config)
    other.model.load_state({k: v + 1 for k, v in other.model.state().items()})
    state.restore(other, found)
    assert (other.adam_d.steps, other.adam_g.steps) == (3, 3)
    for number in (3, 4):
        assert step(trainer, number) == step(other, number)
    ours, theirs = arrays_of(trainer), arrays_of(other)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_nothing_is_left_out(third: tuple[Trainer, bytes], saved: Path) -> None:
    trainer = third[0]
    names = state.read(saved).arrays.keys()
    parameters = {name for name, _ in trainer.model.named_parameters()}
    buffers = {name for name, _ in trainer.model.named_buffers()}
    assert {n.removeprefix("model/") for n in names if n.startswith("model/")} == parameters | buffers
    moments = {n.partition("/")[2].partition("/")[2] for n in names if n.startswith("adam_")}
    assert moments == parameters
    averaged = {n.removeprefix("ema/") for n in names if n.startswith("ema/")}
    assert averaged == {n for n in parameters if not n.startswith("discriminator.")}


def test_a_run_without_an_average(tmp_path: Path) -> None:
    trainer = state.build_trainer(MIXTURE)
    state.save(tmp_path / "c.h5", trainer, MIXTURE, 0, "")
    found = state.read(tmp_path / "c.h5")
    assert not state.section(found.arrays, "ema")
    state.restore(state.build_trainer(MIXTURE), found)


def rewritten(path: Path, change: Any) -> Path:
    """The checkpoint with other contents, sealed anew."""
    arrays, meta = checkpoint.load(path)
    change(arrays, meta)
    checkpoint.save(path, arrays, meta)
    return path


def drop(section: str, key: str) -> Any:
    return lambda arrays, meta: (arrays if section == "arrays" else meta).pop(key)


@pytest.mark.parametrize(
    "change",
    [
        drop("meta", "config"),
        drop("meta", "step"),
        lambda arrays, meta: meta.update(step="3"),
        lambda arrays, meta: meta.update(config=None),
        lambda arrays, meta: meta["config"].update(model="mnist"),
        lambda arrays, meta: meta["config"].pop("dataset"),
    ],
    ids=["no config", "no step", "text step", "null config", "unknown model", "other version"],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(saved: Path, change: Any) -> None:
    path = rewritten(saved, change)
    with pytest.raises(DataError) as caught:
        state.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        drop("meta", "adam_steps"),
        drop("arrays", "model/decoder.layers.0.norm.gamma"),
        drop("arrays", "adam_d/v/discriminator.x.layers.0.conv.bias"),
        drop("arrays", "ema/encoder.layers.0.conv.weight"),
        lambda arrays, meta: arrays.update({"model/more": np.zeros(1)}),
        lambda arrays, meta: arrays.update({"model/encoder.layers.6.conv.bias": np.zeros(9, np.float32)}),
        lambda arrays, meta: arrays.update({"adam_g/m/encoder.layers.6.conv.bias": np.zeros(9, np.float32)}),
        lambda arrays, meta: meta.update(adam_steps={"d": "x", "g": 1}),
    ],
)
def test_a_state_that_does_not_fit_is_refused(saved: Path, change: Any) -> None:
    found = state.read(rewritten(saved, change))
    with pytest.raises(DataError, match=r"checkpoint-00000003\.h5: does not hold the state of this model"):
        state.restore(state.build_trainer(SVHN), found)


def test_networks_of_the_configuration() -> None:
    model = state.build_model(replace(SVHN, init_std=0.3))
    assert (model.spec.nz, model.spec.std) == (4, 0.3)
    assert model.encoder.layers[0].conv.weight.data.std() == pytest.approx(0.3, rel=0.3)
    assert state.build_model(replace(MIXTURE, model="mixture-dropout")).spec.name == "mixture-dropout"
    a, b = (state.build_model(replace(MIXTURE, seed=s)).encoder.layers[0].conv.weight.data for s in (0, 1))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            replace(SVHN, model="nope"),
            "--model: there is no 'nope': choose a game of ali, .* or networks of svhn, .*mixture-dropout",
        ),
        (replace(SVHN, model="celeba"), r"--model celeba: its images are \(64, 64, 3\), those of svhn \(32, 32, 3\)"),
        (replace(MIXTURE, model="svhn"), r"--model svhn: its images are \(32, 32, 3\), those of mixture \(1, 1, 2\)"),
        (replace(PRESETS["folder"], model="svhn"), r"those of folder \(64, 64, 3\)"),
    ],
)
def test_networks_that_do_not_fit(config: Config, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        state.build_model(config)
