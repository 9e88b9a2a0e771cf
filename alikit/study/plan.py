"""Which runs a study consists of: models x configurations x seeds, in two stages.

Stage one trains ALI, GANs and VAEs. Stage two learns inference for a GAN: in the search for the best GAN, as in the
paper, in every configuration; with --best for the GAN of the same seed. A configuration follows from the study's seed
and its own number alone, so that more of them add to a study and change nothing in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alikit.errors import UsageError

FIRST, SECOND = ("ali", "gan", "vae"), ("inverse", "posthoc")
#: in the order of the paper's columns
MODELS = ("ali", "gan", "inverse", "posthoc", "vae")

Range = tuple[float, float]


@dataclass(frozen=True)
class Settings:
    """What decides a study's numbers, but for how many configurations, seeds and models there are.

    lr, beta1, init_std  ranges of the search: log-uniform, uniform, log-uniform; equal ends fix a value
    best                 inference for the GAN of the same seed, instead of the best of all
    seed                 of the data, of the configurations, and of the first run of each configuration
    """

    best: bool
    steps: int
    batch_size: int
    lr: Range
    beta1: Range
    init_std: Range
    ema: float | None
    width: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As JSON gives it back: ranges as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def from_json(values: dict[str, Any]) -> Settings:
    """The inverse of `Settings.to_json`."""
    restored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Settings(**restored)


#: the paper gives neither ranges nor lengths; the authors' constants (1e-4, 0.2, 0.02) lie inside
SEARCH = Settings(False, 15_000, 100, (3e-5, 1e-3), (0.0, 0.8), (0.005, 0.1), None, 1.0, 0)
#: the stated configuration: the authors' constants, and as many steps as they need
BEST = Settings(True, 30_000, 100, (1e-4, 1e-4), (0.2, 0.2), (0.02, 0.02), None, 1.0, 0)


@dataclass(frozen=True)
class Job:
    """One run: its name in the study, what is trained, Adam's and the weights' constants, the GAN it builds on."""

    name: str
    model: str
    seed: int
    lr: float
    beta1: float
    init_std: float
    gan: str | None = None


def configuration(settings: Settings, number: int) -> tuple[float, float, float]:
    """lr, beta1 and init_std of configuration 0, 1, ..., of four digits: what is printed is what was run."""
    import numpy as np

    rng = np.random.default_rng([settings.seed, number])

    def drawn(ends: Range, logarithmic: bool) -> float:
        low, high = (math.log(end) for end in ends) if logarithmic else ends
        value = rng.uniform(low, high)  # drawn in any case: a fixed value must not change the others
        if ends[0] == ends[1]:
            return ends[0]
        return min(max(float(f"{math.exp(value) if logarithmic else value:.4g}"), ends[0]), ends[1])

    return drawn(settings.lr, True), drawn(settings.beta1, False), drawn(settings.init_std, True)


def first_stage(settings: Settings, configs: int, seeds: int, models: Sequence[str]) -> list[Job]:
    """The runs that need no other, configuration by configuration."""
    return [
        Job(f"{model}-{c:02d}-s{s}", model, settings.seed + s, *configuration(settings, c))
        for c in range(configs)
        for s in range(seeds)
        for model in FIRST
        if model in models
    ]


def second_stage(
    settings: Settings, configs: int, seeds: int, models: Sequence[str], best_gan: Callable[[], str | None]
) -> list[Job]:
    """The runs on a GAN; a name tells which, since a larger study may find another best one.

    best_gan   name of the best GAN's run, None where there is none; asked for in a search only
    """
    wanted = [model for model in SECOND if model in models]
    chosen = best_gan() if wanted and not settings.best else None
    if not wanted or (chosen is None and not settings.best):
        return []
    return [
        Job(f"{model}-{c:02d}-s{s}-on-{gan}", model, settings.seed + s, *configuration(settings, c), gan)
        for c in range(configs)
        for s in range(seeds)
        for gan in [chosen or f"gan-{c:02d}-s{s}"]
        for model in wanted
    ]


def check_models(models: Sequence[str]) -> list[str]:
    """The models in the paper's order. UsageError for an unknown one, and for inference without a GAN."""
    unknown = [model for model in models if model not in MODELS]
    if unknown or not models:
        raise UsageError(f"--models: there is no {unknown[0] if unknown else ''!r}: choose from {', '.join(MODELS)}")
    if "gan" not in models and any(model in models for model in SECOND):
        raise UsageError(f"--models: {' and '.join(SECOND)} build on a GAN: add gan")
    return [model for model in MODELS if model in models]


def arguments(settings: Settings, job: Job, run: Callable[[str], str], checkpoint_every: int) -> list[str]:
    """What follows `python -m alikit.train`: run(name) is the folder of a run. It goes on where it stopped."""
    options: dict[str, Any] = {
        "model": job.model,
        "out": run(job.name),
        "steps": settings.steps,
        "batch-size": settings.batch_size,
        "lr": repr(job.lr),
        "beta1": repr(job.beta1),
        "init-std": repr(job.init_std),
        "seed": job.seed,
        "data-seed": settings.seed,
        "width": settings.width,
        "device": "cpu",
        "threads": 1,
        "log-every": min(100, checkpoint_every),
        "sample-every": settings.steps,
        "checkpoint-every": checkpoint_every,
        "keep": 1,
    }
    options |= {"ema": settings.ema} if settings.ema is not None else {}
    options |= {"decoder": run(job.gan)} if job.gan is not None else {}
    return ["mixture", *(part for name, value in options.items() for part in (f"--{name}", str(value))), "--resume"]
