"""A run's configuration: presets of the paper, what overrides them, what a resumed run may not change.

Everything that decides the numbers of a run is in `Config`, resolved before the first step, saved as config.json and
inside every checkpoint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from alikit.data import CLASSED, LABELS, SPLITS
from alikit.errors import DataError, UsageError
from alikit.models import SPECS
from alikit.training.allowed import CHOICES, misfit


@dataclass(frozen=True)
class Config:
    """One run, resolved. Defaults are those of the paper's image experiments (method 3.1)."""

    dataset: str
    model: str
    game: str = "ali"
    decoder: str | None = None  # inverse and posthoc: the run whose decoder they take
    data: str | None = None
    split: str = "train"
    images: int | None = None  # use only the first so many of the split
    size: int | None = None
    epochs: float = 100.0
    steps: int | None = None  # overrides epochs
    batch_size: int = 100
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    adam_eps: float = 1e-8
    seed: int = 0
    data_seed: int | None = None  # of data that are drawn; None: the seed
    width: float = 1.0
    nz: int | None = None
    init_std: float | None = None
    ema: float | None = None
    reconstruction: float = 0.0  # weight of the reconstruction error in the generators' loss
    instance_noise: float = 0.0  # deviation of the noise on D's images in the first step
    instance_noise_steps: int = 10_000  # in which it falls to 0
    kl_warm_up: int = 1000  # vae: steps in which the weight of its KL term rises from 0 to 1
    conditional: bool = False  # given the images' classes or attributes
    labels: int | None = None  # images whose class D is told; None: D tells no classes
    labelled_batch: int | None = None  # of them a step; None: as many as other images, or all
    device: str = "auto"
    precision: str = "fp32"
    graph: bool = True  # on a GPU: replay the step as one CUDA graph
    threads: int = 1
    log_every: int = 0  # in steps, as the two below; 0: as suits the device (RHYTHM)
    sample_every: int = 0
    checkpoint_every: int = 0
    keep: int = 3


#: the options that may differ between a checkpoint and the run that goes on from it: they change no number
FREE = frozenset(
    ("data", "epochs", "steps", "device", "graph", "threads", "log_every", "sample_every", "checkpoint_every", "keep")
)

#: data sets whose images have one class each: how many there are
CLASSES = {name: len(LABELS[name]) for name in CLASSED}

#: steps between lines, pictures and checkpoints: 500 steps are ten minutes of the paper's SVHN networks on two cores,
#: and less than a second on a GPU
RHYTHM = {
    "cpu": {"log_every": 10, "sample_every": 500, "checkpoint_every": 500},
    "cuda": {"log_every": 100, "sample_every": 10_000, "checkpoint_every": 10_000},
}

#: what may be trained: the paper's method and what it is compared with (`games.py`)
GAMES = ("ali", "gan", "vae", "inverse", "posthoc")
#: those against a discriminator
ADVERSARIAL = ("ali", "gan", "posthoc")
#: those that take a trained decoder
ON_DECODER = ("inverse", "posthoc")

#: method 3.1; the mixture's beta1 is 0.2 in today's notation
PRESETS: dict[str, Config] = {
    "svhn": Config("svhn", "svhn"),
    "cifar10": Config("cifar10", "cifar10", epochs=6475),
    "celeba": Config("celeba", "celeba", epochs=123),
    "tiny-imagenet": Config("tiny-imagenet", "tiny-imagenet", epochs=125, batch_size=128),
    "mixture": Config(
        "mixture", "mixture", epochs=200, beta1=0.2, log_every=100, sample_every=10_000, checkpoint_every=10_000
    ),
    "folder": Config("folder", "tiny-imagenet", size=64),
}

#: networks that fit a folder's images, by size
FOLDER_MODELS = {32: "svhn", 64: "tiny-imagenet"}

#: runs that anyone can watch from beginning to end: drawn house numbers and a small network; the mixture, hurried
DEMO: dict[str, dict[str, Any]] = {
    "svhn": {
        "data": "synthetic",
        "images": 8192,  # drawn once each: two passes and a bit over them rather than one over more
        "model": "small",
        "batch_size": 32,
        "steps": 560,
        "lr": 5e-4,
        "ema": 0.01,
        "log_every": 20,
        "reconstruction": 100.0,  # in minutes ALI alone learns to draw, but hardly yet to encode
        "sample_every": 280,
        "checkpoint_every": 280,
    },
    "mixture": {
        "batch_size": 50,
        "steps": 5500,
        "lr": 1e-3,
        "init_std": 0.05,
        "ema": 0.01,
        "sample_every": 1100,
        "checkpoint_every": 1100,
    },
}


def resolve(dataset: str, overrides: dict[str, Any], demo: bool = False) -> Config:
    """The preset, the demo's settings if asked for, then what the user gave.

    UsageError where options contradict each other.
    """
    config = PRESETS[dataset]
    if demo:
        config = replace(config, **demo_settings(dataset, overrides))
    config = replace(config, **overrides)
    if config.size is not None and dataset != "folder":
        raise UsageError(f"--size: goes with folder, not with {dataset}")
    if dataset == "folder" and "model" not in overrides:
        config = replace(config, model=_folder_model(config.size))
    if config.conditional and dataset == "celeba" and "batch_size" not in overrides:
        config = replace(config, batch_size=128)  # the authors' (method 7)
    if "instance_noise_steps" in overrides and not config.instance_noise:
        raise UsageError("--instance-noise-steps: goes with --instance-noise")
    if "kl_warm_up" in overrides and config.game != "vae":
        raise UsageError(f"--kl-warm-up: goes with --model vae, not with {config.game}")
    _check(config)
    if config.game in ON_DECODER and config.decoder is None:
        raise UsageError(f"--model {config.game}: name the run whose decoder it takes by --decoder RUN")
    return config


def _check(config: Config) -> None:
    """UsageError where fields contradict each other, whoever set them. The run whose decoder was taken is not asked
    for: a checkpoint holds the decoder itself."""
    if config.conditional:
        _check_conditional(config)
    if config.reconstruction and config.game != "ali":
        raise UsageError(f"--reconstruction: a term of ALI's loss, not of {config.game}'s")
    if config.instance_noise and config.game not in ADVERSARIAL:
        raise UsageError(f"--instance-noise: on the images that D sees; {config.game} has no D")
    if config.game not in ON_DECODER and config.decoder is not None:
        raise UsageError(f"--decoder: goes with --model {' or '.join(ON_DECODER)}, not with {config.game}")
    _check_labels(config)
    if config.ema is not None and not 0 < config.ema <= 1:
        raise UsageError(f"--ema: a rate in (0, 1] is wanted, not {config.ema}")


def demo_settings(dataset: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """What `--demo` sets; no reconstruction term where the user asked for a game that has none.

    UsageError for a data set without a demo.
    """
    if dataset not in DEMO:
        raise UsageError(f"--demo: shows svhn (drawn house numbers) or mixture, not {dataset}")
    plain = overrides.get("game", "ali") == "ali" and not {"conditional", "labels"} & overrides.keys()
    return {name: value for name, value in DEMO[dataset].items() if plain or name != "reconstruction"}


def _check_conditional(config: Config) -> None:
    """UsageError where --conditional does not go with the data set or the game."""
    if config.dataset not in LABELS:
        raise UsageError(f"--conditional: {', '.join(LABELS)} have labels, {config.dataset} has none")
    if config.game != "ali" or config.reconstruction:
        what = f"--model {config.game}" if config.game != "ali" else "--reconstruction"
        raise UsageError(f"--conditional: goes with ALI's own game, not with {what}")


def _check_labels(config: Config) -> None:
    """UsageError where --labels does not go with the data set or the game, or is no multiple of the classes."""
    classes = CLASSES.get(config.dataset)
    if config.labels is None:
        if config.labelled_batch is not None:
            raise UsageError("--labelled-batch: goes with --labels")
        return
    if classes is None:
        raise UsageError(f"--labels: {config.dataset} has no classes; {' and '.join(CLASSES)} have")
    if config.conditional:
        raise UsageError("--labels: D tells the classes of images; with --conditional it is told them")
    if config.game != "ali" or config.reconstruction:
        raise UsageError(f"--labels: goes with --model ali, not with {config.game} or --reconstruction")
    if config.labels < classes or config.labels % classes:
        raise UsageError(f"--labels {config.labels}: a multiple of the {classes} classes is wanted")
    if config.labelled_batch is not None and config.labelled_batch > config.labels:
        raise UsageError(f"--labelled-batch {config.labelled_batch}: there are {config.labels} labels (--labels)")


def settled(config: Config, device: str) -> Config:
    """The configuration for the device that was chosen, "cpu" or "cuda"."""
    usual: dict[str, Any] = {name: steps for name, steps in RHYTHM[device].items() if not getattr(config, name)}
    return replace(config, device=device, **usual)


def split_model(overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides with `--model gan`, `--model celeba-paper` or `--model gan:celeba-paper` told apart."""
    if "model" not in overrides:
        return overrides
    game, colon, networks = str(overrides["model"]).partition(":")
    if game not in GAMES:
        if colon:
            raise UsageError(f"--model: there is no {game!r}: choose from {', '.join(GAMES)}, then :NETWORKS")
        return overrides
    others = {name: value for name, value in overrides.items() if name != "model"} | {"game": game}
    return others | {"model": networks} if colon else others


def data_seed(config: Config) -> int:
    """The seed of data that are drawn."""
    return config.seed if config.data_seed is None else config.data_seed


def _folder_model(size: int | None) -> str:
    if size not in FOLDER_MODELS:
        sizes = " or ".join(str(s) for s in FOLDER_MODELS)
        raise UsageError(f"--size {size}: the networks take folders of {sizes} pixels")
    return FOLDER_MODELS[size]


def to_json(config: Config) -> dict[str, Any]:
    """As a JSON object."""
    return asdict(config)


def from_json(values: dict[str, Any], source: Path) -> Config:
    """The inverse of `to_json`; an option younger than the file takes its default, a VAE's warm-up none: it had none.
    A data folder of the mixture, which older versions recorded and never read, is left out.

    DataError naming the file `source` where the data set or the model is missing, a field is unknown, or fields hold
    what no options could have put there.
    """
    known, needed = {f.name for f in fields(Config)}, {"dataset", "model"}
    if not isinstance(values, dict) or not needed <= values.keys() <= known:
        odd = sorted((values.keys() - known) | (needed - values.keys())) if isinstance(values, dict) else "everything"
        raise DataError(f"{source}: its configuration does not fit this version of alikit: {odd}")
    splits = SPLITS.get(str(values["dataset"]), ())  # of an unknown set none: `dataset` is refused first
    choices = {"dataset": tuple(PRESETS), "model": tuple(SPECS), "game": GAMES, "split": splits, **CHOICES}
    for field in fields(Config):
        if field.name in values and (reason := misfit(field, values[field.name], choices)):
            raise DataError(f"{source}: {field.name}: {reason}")
    unread = {"data": None} if values["dataset"] == "mixture" else {}
    config = Config(**{"kl_warm_up": 0, **values, **unread})
    try:
        _check(config)
    except UsageError as error:
        raise DataError(f"{source}: {error}") from None
    return config


def continued(saved: Config, overrides: dict[str, Any]) -> Config:
    """The configuration of a run that goes on from a checkpoint: the saved one with what the user gave.

    UsageError listing every difference that would change the run's numbers.
    """
    differences = [
        f"{name} is {value!r}, the checkpoint has {getattr(saved, name)!r}"
        for name, value in overrides.items()
        if name not in FREE and value != getattr(saved, name)
    ]
    if differences:
        raise UsageError("--resume: another configuration than the checkpoint's: " + "; ".join(differences))
    if "epochs" in overrides and "steps" not in overrides:
        overrides = {**overrides, "steps": None}
    return replace(saved, **overrides)
