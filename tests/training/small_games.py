"""Every game in networks so small that a step takes milliseconds."""

from dataclasses import replace
from typing import Any

from alikit.training import state
from alikit.training.config import PRESETS, Config
from alikit.training.step import Trainer

MIXTURE = replace(PRESETS["mixture"], width=0.03, lr=0.01)
IMAGES = replace(PRESETS["svhn"], model="small", width=0.15, nz=3, lr=0.01)


def trainer(config: Config, game: str, **options: Any) -> Trainer:
    return state.build_trainer(replace(config, game=game, **options))
