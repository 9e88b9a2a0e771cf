"""A Trainer as named arrays and back: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import alikit
from alikit import models
from alikit.backend import compute_dtype, from_host, to_numpy
from alikit.data import LABELS
from alikit.errors import DataError, UsageError
from alikit.models import Generative, ModelSpec
from alikit.optim import AdamSettings
from alikit.training import adversarial, checkpoint, classes, conditional, fitting
from alikit.training.average import statistics
from alikit.training.config import CLASSES, PRESETS, Config, from_json, to_json
from alikit.training.games import Rules
from alikit.training.noise import InstanceNoise
from alikit.training.step import Trainer

#: game -> its players and its rules
GAMES: dict[str, tuple[Callable[..., Generative], Callable[[Any], Rules]]] = {
    "ali": (models.ALI, adversarial.AliRules),
    "gan": (models.GAN, adversarial.GanRules),
    "inverse": (models.InverseMapping, fitting.InverseRules),
    "posthoc": (models.PostHoc, adversarial.PostHocRules),
    "vae": (models.VAE, fitting.VaeRules),
}


def build_model(config: Config) -> Generative:
    """The configuration's networks with fresh weights. UsageError as of `spec_of`."""
    players = models.ConditionalALI if config.conditional else GAMES[config.game][0]
    return players(spec_of(config), seed=config.seed)


def spec_of(config: Config) -> ModelSpec:
    """The configuration's networks as tables. UsageError for an unknown model, or for other images."""
    if config.model not in models.SPECS:
        raise UsageError(
            f"--model: there is no {config.model!r}: choose a game of {', '.join(GAMES)}, "
            f"or networks of {', '.join(models.SPECS)}"
        )
    spec = models.SPECS[config.model]
    usual = models.SPECS[PRESETS[config.dataset].model]
    wanted = (config.size, config.size, 3) if config.size else usual.image
    if spec.image != wanted:
        raise UsageError(f"--model {config.model}: its images are {spec.image}, those of {config.dataset} {wanted}")
    if config.width != 1.0 or config.nz is not None:
        spec = spec.resized(config.width, config.nz)
    if config.init_std is not None:
        spec = replace(spec, std=config.init_std)
    if config.labels is not None:
        spec = spec.telling(CLASSES[config.dataset])
    if config.conditional:
        size = max(1, round(models.EMBEDDING * config.width))
        spec = spec.conditioned(len(LABELS[config.dataset]), size)
    return spec


def to_device(model: Generative, precision: str) -> None:
    """Moves a model to the device in use; images and codes have from then on the precision's dtype."""
    model.move(from_host)
    model.dtype = compute_dtype(precision)


def build_trainer(config: Config) -> Trainer:
    """A fresh Trainer for the configuration."""
    settings = AdamSettings(config.lr, config.beta1, config.beta2, config.adam_eps)
    model: Any = build_model(config)
    if config.device == "cuda":
        to_device(model, config.precision)
    noise = InstanceNoise(config.instance_noise, config.instance_noise_steps) if config.instance_noise else None
    return Trainer(
        _rules(model, config), settings, seed=config.seed, noise=noise, ema=config.ema, precision=config.precision
    )


def _rules(model: Any, config: Config) -> Rules:
    if config.conditional:
        return conditional.ConditionalRules(model)
    if config.labels is not None:
        return classes.ClassRules(model)
    if config.reconstruction:
        return adversarial.AliceRules(model, config.reconstruction)
    if config.game == "vae":
        return fitting.VaeRules(model, config.kl_warm_up)
    return GAMES[config.game][1](model)


def _sections(trainer: Trainer) -> dict[str, dict[str, Any]]:
    sections = {"model": trainer.model.state()}
    sections |= {f"adam_{player}": adam.state() for player, adam in trainer.adams.items()}
    if trainer.ema is not None:
        sections["ema"] = trainer.ema.state()
        sections["ema_statistics"] = statistics(trainer)  # to look at, nothing that training needs
    return sections


def save(path: Path, trainer: Trainer, config: Config, step: int, data_checksum: str) -> None:
    """Writes everything that the next step depends on; AlikitError where the disk refuses."""
    arrays = {
        f"{section}/{name}": to_numpy(array)
        for section, named in _sections(trainer).items()
        for name, array in named.items()
    }
    meta = {
        "alikit": alikit.__version__,
        "config": to_json(config),
        "step": step,
        "adam_steps": {player: adam.steps for player, adam in trainer.adams.items()},
        "data_checksum": data_checksum,
    }
    checkpoint.save(path, arrays, meta)


class Saved(NamedTuple):
    """A checkpoint that was read: its file, arrays by name, meta object and configuration."""

    path: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    config: Config

    @property
    def step(self) -> int:
        """Training steps behind it."""
        return self.meta["step"]


def read(path: Path) -> Saved:
    """The checkpoint at `path`; DataError where it is damaged or does not fit this version."""
    arrays, meta = checkpoint.load(path)
    try:
        config = from_json(meta["config"], path)
        whole = config.model in models.SPECS and config.game in GAMES and isinstance(meta["step"], int)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise DataError(f"{path}: no checkpoint of a training run")
    return Saved(path, arrays, meta, config)


def restore(trainer: Trainer, saved: Saved) -> None:
    """Copies a checkpoint's arrays into the trainer; DataError where they do not fit it."""
    try:
        steps = saved.meta["adam_steps"]
        trainer.model.load_state(section(saved.arrays, "model"))
        for player, adam in trainer.adams.items():
            adam.load_state(section(saved.arrays, f"adam_{player}"), int(steps[player]))
        if trainer.ema is not None:
            trainer.ema.load_state(section(saved.arrays, "ema"))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{saved.path}: does not hold the state of this model ({error})") from None


def weights(saved: Saved) -> tuple[dict[str, np.ndarray], bool]:
    """The model's state as it should be looked at, by name, and whether encoder and decoder are averages in it."""
    averages = section(saved.arrays, "ema")
    averaged = averages | section(saved.arrays, "ema_statistics")
    return section(saved.arrays, "model") | averaged, bool(averages)


def adopt_decoder(model: Generative, saved: Saved) -> None:
    """Copies the decoder of another run, as it should be looked at; DataError where it is another network."""
    state, _ = weights(saved)
    try:
        model.decoder.load_state(_decoder(state))
    except ValueError as error:
        raise DataError(f"{saved.path}: does not hold the decoder of this model ({error})") from None


def decoder_hash(state: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the decoder in a model's state: `Module.state()`, or a checkpoint's `weights`."""
    return checkpoint.digest({name: to_numpy(array) for name, array in _decoder(state).items()})


def _decoder(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k[8:]: v for k, v in state.items() if k.startswith("decoder.")}


def section(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays below `name/`, without that prefix."""
    return {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
