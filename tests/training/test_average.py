"""Averaged weights are looked at with statistics of their own; training goes on as if nobody had looked."""

import numpy as np

from alikit.autograd import Tensor, is_grad_enabled
from alikit.nn import Pass
from alikit.training.average import for_looking, statistics
from alikit.training.config import PRESETS, replace
from alikit.training.state import build_trainer
from alikit.training.step import Trainer

CONFIG = replace(PRESETS["svhn"], model="small", width=0.1, nz=4, lr=0.01, ema=0.05)


def trained(images: np.ndarray, **options: object) -> Trainer:
    trainer = build_trainer(replace(CONFIG, **options))
    trainer.reference = images
    for step in range(8):
        trainer.step(images[step : step + 12], step)
    return trainer


def normalised(trainer: Trainer, images: np.ndarray) -> np.ndarray:
    """Mean and deviation over the images of the encoder's first normalised layer: beta and gamma, if it fits."""
    layer = trainer.model.encoder.layers[0]
    assert layer.norm is not None
    x, _ = layer.conv(Tensor(images), Pass())
    buffers = layer.norm.buffers
    xhat = (x.data - buffers["running_mean"]) / buffers["running_std"]
    return np.stack([xhat.mean(axis=(0, 1, 2)), xhat.std(axis=(0, 1, 2))])


def test_the_statistics_are_those_of_the_averaged_weights() -> None:
    images = np.random.default_rng(0).random((100, 32, 32, 3), np.float32)
    trainer = trained(images)
    fits = np.stack([np.zeros(3), np.ones(3)])
    with for_looking(trainer):
        assert not is_grad_enabled()
        np.testing.assert_allclose(normalised(trainer, images), fits, atol=1e-2)  # eps is part of the deviation
    assert np.abs(normalised(trainer, images) - fits).max() > 0.1  # the running ones lag behind


def test_looking_changes_nothing() -> None:
    images = np.random.default_rng(0).random((30, 32, 32, 3), np.float32)
    trainer, other = trained(images), trained(images)
    with for_looking(trainer):
        pass
    statistics(trainer)
    for each in (trainer, other):
        each.step(images[:12], 8)
    for name, array in other.model.state().items():
        np.testing.assert_array_equal(trainer.model.state()[name], array, err_msg=name)


def test_a_checkpoint_gets_the_statistics_that_were_looked_at() -> None:
    images = np.random.default_rng(0).random((30, 32, 32, 3), np.float32)
    trainer = trained(images)
    found = statistics(trainer)
    with for_looking(trainer):
        seen = {
            **dict(trainer.model.encoder.named_buffers("encoder.")),
            **dict(trainer.model.decoder.named_buffers("decoder.")),
        }
    assert found.keys() == seen.keys()
    for name, array in seen.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_without_averaging_the_model_is_looked_at_as_it_is() -> None:
    images = np.random.default_rng(0).random((30, 32, 32, 3), np.float32)
    trainer = trained(images, ema=None)
    before = {k: v.copy() for k, v in trainer.model.state().items()}
    with for_looking(trainer):
        for name, array in trainer.model.state().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
