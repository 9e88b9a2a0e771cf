"""The run whose decoder another run takes, frozen: `--model inverse` and `posthoc`."""

from __future__ import annotations

from collections.abc import Callable

from alikit.errors import UsageError
from alikit.models import ModelSpec
from alikit.training import runs, state
from alikit.training.config import Config


def find(config: Config, warn: Callable[[str], object]) -> state.Saved:
    """The checkpoint whose decoder the run takes.

    UsageError where it was trained on another data set or has other networks, DataError where there is none.
    """
    saved = state.read(runs.find_checkpoint(config.decoder or "", warn=warn))
    donor, name = saved.config, f"--decoder {config.decoder}"
    if donor.dataset != config.dataset:
        raise UsageError(f"{name}: was trained on {donor.dataset}, not on {config.dataset}")
    if donor.conditional:
        raise UsageError(f"{name}: is conditional; a decoder of codes alone is wanted")
    mine, its = state.spec_of(config), state.spec_of(donor)
    if _decoder(mine) != _decoder(its):
        other = {
            "model": (f"{config.game}:{config.model}", f"{config.game}:{donor.model}"),
            "size": (mine.image[0], its.image[0]),
            "width": (config.width, donor.width),
            "nz": (mine.nz, its.nz),
        }
        fitting = [f"--{option} {theirs}" for option, (ours, theirs) in other.items() if ours != theirs]
        raise UsageError(f"{name}: has other networks than this run; {' '.join(fitting)} fits it")
    return saved


def _decoder(spec: ModelSpec) -> tuple[object, ...]:
    """What decides whether one's weights are the other's: dropout has none."""
    return spec.image, spec.nz, tuple(row._replace(dropout=0.0) for row in spec.decoder)
