"""alikit's training step as training runs it, on either device, for whoever checks or times it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bench.step import prepared

IMAGES = 4000


def images(preset: str, count: int = IMAGES) -> np.ndarray:
    """What stands for the data set: random images of the preset's size, or points."""
    from alikit.models import SPECS
    from alikit.training.config import PRESETS

    if preset in ("svhn", "mixture"):
        return np.resize(prepared(preset), (count, *prepared(preset).shape[1:]))
    shape = SPECS[PRESETS[preset].model].image
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def stepper(
    preset: str, device: str, precision: str, batch: int, *, graph: bool = True, count: int = IMAGES, **changes: Any
) -> Any:
    """A fresh trainer's stepper, as a run would make it."""
    from alikit.data import Dataset
    from alikit.training import session, state
    from alikit.training.config import PRESETS
    from alikit.training.feed import Feed

    changes = {"device": device, "precision": precision, "batch_size": batch, "graph": graph, **changes}
    config = replace(PRESETS[preset], **changes)
    data = Dataset(name=config.dataset, split="train", source="bench", checksum="", images=images(preset, count))
    return session.make_stepper(config, state.build_trainer(config), Feed(data, batch, seed=0))


def state_of(stepper: Any) -> dict[str, np.ndarray]:
    """Everything that the next step depends on, on the host: parameters, both moments, running statistics."""
    from alikit.backend import to_numpy

    trainer = stepper.trainer
    sections: dict[str, Mapping[str, Any]] = {"model": trainer.model.state()}
    sections |= {f"adam_{player}": adam.state() for player, adam in trainer.adams.items()}
    return {f"{s}/{n}": np.array(to_numpy(a)) for s, named in sections.items() for n, a in named.items()}


def results(stepper: Any) -> dict[str, float]:
    """Losses and norms of the newest step."""
    return stepper.result()._asdict()


def one_step(stepper: Any, probe: Mapping[str, np.ndarray], rename: Any, number: int = 3) -> dict[str, np.ndarray]:
    """Step `number` from the probe's parameters: losses, gradients, updates, statistics, as `bench.step` names them."""
    trainer = stepper.trainer
    given = {name: probe[f"parameter/{rename(name)}"] for name, _ in trainer.model.named_parameters()}
    buffers = {name: a for name, a in trainer.model.state().items() if name not in given}
    trainer.model.load_state(given | {name: np.array(_host(a)) for name, a in buffers.items()})
    stepper.step(number)
    told, found = results(stepper), {}
    found |= {"loss/d": np.array(told["loss_d"]), "loss/g": np.array(told["loss_g"])}
    for adam in trainer.adams.values():
        for name, moment in adam.state().items():
            if name.startswith("m/"):
                found[f"gradient/{rename(name[2:])}"] = _host(moment) / (1 - adam.settings.beta1)
    for name, array in trainer.model.state().items():
        kind, before = ("update", given[name]) if name in given else ("statistics", 0.0)
        found[f"{kind}/{rename(name)}"] = _host(array) - before
    return found


def _host(x: Any) -> np.ndarray:
    from alikit.backend import to_numpy

    return np.array(to_numpy(x))
