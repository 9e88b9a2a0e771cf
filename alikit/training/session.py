"""From a resolved configuration to a run that is ready for its next step: data, networks, folder, checkpoint."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import alikit
from alikit import backend, console
from alikit.data import Dataset, EpochOrder, check_options, open_dataset
from alikit.errors import DataError, UsageError
from alikit.training import conditions, donor, labels, runs, state
from alikit.training.config import ON_DECODER, Config, data_seed, from_json, settled, to_json
from alikit.training.feed import Feed, held_out_batch
from alikit.training.loop import Run
from alikit.training.monitor import HELD_OUT, POINTS, SAMPLES, Monitor
from alikit.training.step import Trainer
from alikit.training.stepper import DeviceStepper, HostStepper, Stepper

ROOT = Path("runs")
DECODER_HASH = "decoder_sha256"  # in config.json


def resume_point(resume: str, out: Path | None, label: str) -> tuple[Path | None, Path | None]:
    """What `--resume` means: (run folder, checkpoint); no folder where "auto" finds no earlier run, no checkpoint
    where the run was stopped before its first one.

    DataError where PATH holds no run, or its checkpoints cannot be read.
    """
    if resume == "auto":
        folder = out if out is not None else runs.latest_run(ROOT, label)
        if folder is None or not folder.exists():
            return None, None
        if any(folder.iterdir()) and not runs.checkpoints(folder) and not (folder / runs.CONFIG).exists():
            raise UsageError(f"--out {folder}: holds files, but no run to go on with")
    else:
        path = Path(resume)
        folder = path.parent if path.is_file() else path
        if out is not None and out.resolve() != folder.resolve():
            raise UsageError(f"--out {out}: the run goes on in its own folder, {folder}")
    if resume != "auto" or out is not None:
        _spare_strangers(folder, resume)
    if resume != "auto" and path.is_file():
        return folder, path
    if not runs.checkpoints(folder) and (resume == "auto" or (folder / runs.CONFIG).exists()):
        return folder, None
    return folder, runs.find_checkpoint(folder, warn=console.warn)


def _spare_strangers(folder: Path, resume: str) -> None:
    """Refuses a folder of collected checkpoints: a run keeps but its last few."""
    asked = {Path(resume).name} if Path(resume).is_file() else set()
    several = len(asked | {found.name for found in runs.checkpoints(folder)}) > 1
    if several and not (folder / runs.CONFIG).exists():
        raise UsageError(
            f"--resume {resume}: {folder} holds several checkpoints and is no run's folder (no {runs.CONFIG}), and a "
            "run would delete some of them: copy the one to go on from to an empty folder"
        )


def saved_config(folder: Path) -> Config | None:
    """The configuration in a run folder's config.json; None where the run was stopped before it was written.

    DataError where it cannot be read, or names no run to take a decoder from: there is no checkpoint that holds it.
    """
    path = folder / runs.CONFIG
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict) or "options" not in found:
        raise DataError(f'{path}: is no record of a run: it has no "options"')
    config = from_json(found["options"], path)
    if config.game in ON_DECODER and not config.decoder:
        taken = f'the run whose decoder "game": "{config.game}" takes'
        raise DataError(f"{path}: decoder: {taken} is wanted, not {json.dumps(config.decoder)}")
    return config


def with_decoder_at(place: str | None, earlier: Config, folder: Path | None, saved: state.Saved | None) -> Config:
    """The configuration of a run that goes on, with `place` as its decoder's run where that was moved: where another
    place than the run's holds the decoder that it took, which its checkpoint has, or of which config.json has the hash.

    DataError where there is no decoder at `place`.
    """
    if place is None or earlier.decoder in (None, place):
        return earlier
    donor = state.read(runs.find_checkpoint(place, warn=console.warn))
    own: str | None = None
    if saved is not None:
        own = state.decoder_hash(state.section(saved.arrays, "model"))
    elif folder is not None:
        own = json.loads((folder / runs.CONFIG).read_text()).get(DECODER_HASH)
    same = state.decoder_hash(state.weights(donor)[0]) == own
    return replace(earlier, decoder=place) if same else earlier


def settle(config: Config) -> tuple[Config, str]:
    """Chooses the device and checks the precision; (configuration for that device, why)."""
    device, reason = backend.choose_device(config.device)
    backend.check_precision(device, config.precision)
    return settled(config, device), reason


def check(config: Config, saved: state.Saved | None) -> None:
    """What no data are needed for: options that do not fit the data set or the networks, a decoder of other networks,
    an end that lies behind. UsageError for them; DataError where there is no decoder."""
    check_options(config.dataset, config.data, config.split, config.size, data_seed(config))
    state.spec_of(config)
    if config.images is not None:
        EpochOrder(config.images, config.batch_size, config.seed)
    if saved is not None and config.steps is not None:
        _check_length(config.steps, saved.step)
    if saved is None and config.game in ON_DECODER:
        donor.find(config, warn=lambda _: None)  # `start` warns


def open_training_data(config: Config, quiet: bool) -> Dataset:
    """The data set of the run; DataError naming the way out where it is not at hand."""
    return open_dataset(
        config.dataset, data=config.data, split=config.split, size=config.size, seed=data_seed(config), quiet=quiet
    )


def total_steps(config: Config, images: int) -> int:
    """Steps of the run: `steps`, or all batches of `epochs`, the last smaller one of each included (method 1.6)."""
    return config.steps or math.ceil(config.epochs * math.ceil(images / config.batch_size))


def start(
    config: Config, dataset: Dataset, folder: Path | None, saved: state.Saved | None, quiet: bool
) -> tuple[Run, str]:
    """A run ready for its next step, and a line about the held-out data.

    folder   of the run to write into, None for a new one;  saved: the checkpoint to go on from, None to begin

    DataError where there is but one image, UsageError where the checkpoint was trained on other data, or is of a later
    step than the run's last.
    """
    if config.conditional:
        conditions.check(dataset)
    if len(dataset) < 2:
        raise DataError(f"{dataset.source}: at least two images are needed to train on")
    step = 0 if saved is None else saved.step
    labelled = labels.labelled_feed(config, dataset)
    feed = Feed(
        dataset, config.batch_size, config.seed, config.images, conditions=config.conditional, labelled=labelled
    )
    total = total_steps(config, feed.order.n)
    _check_length(total, step)
    trainer = state.build_trainer(config)
    trainer.reference, trainer.reference_y = feed.mean_images(), feed.mean_conditions()
    if saved is None and config.game in ON_DECODER:
        state.adopt_decoder(trainer.model, donor.find(config, console.warn))
    elif saved is None:
        trainer.model.start_at_mean_image(trainer.reference)
        if trainer.ema is not None:
            trainer.ema.restart()
    elif saved.meta.get("data_checksum") != dataset.checksum:
        raise UsageError(f"--resume: the data differ from the checkpoint's ({dataset.source})")
    else:
        state.restore(trainer, saved)
    means, std = mixture_constants(config)
    batch, held = held_out_batch(config, lambda: dataset, POINTS if means is not None else HELD_OUT, quiet)
    wanted = conditions.shown(config.dataset, batch.y, SAMPLES) if config.conditional else None
    exam = labels.open_exam(config, quiet)
    is_continued = folder is not None and any((folder / name).exists() for name in (runs.CONFIG, runs.METRICS))
    folder = make_folder(folder, config)
    monitor = Monitor(trainer, batch, folder, means, std, wanted)
    monitor.exam = exam
    run = Run(folder, config, trainer, feed, make_stepper(config, trainer, feed), monitor, total, step, is_continued)
    runs.write_json(folder / runs.CONFIG, record(run, held))
    return run, held


def _check_length(total: int, step: int) -> None:
    if total < step:
        raise UsageError(
            f"--resume: the end would be step {total:,} (--steps, --epochs); the run is at step {step:,} already"
        )


def make_stepper(config: Config, trainer: Trainer, feed: Feed) -> Stepper:
    """What computes the run's steps on its device."""
    if config.device == "cuda":
        return DeviceStepper(trainer, feed, graph=config.graph, say=console.warn)
    return HostStepper(trainer, feed)


def mixture_constants(config: Config) -> tuple[Any, float]:
    """Means (25, 2) and standard deviation of the mixture's components; (None, 0) for images."""
    if config.dataset != "mixture":
        return None, 0.0
    from alikit.data.mixture import MEANS, SIGMA

    return MEANS, SIGMA


def label(dataset: str, game: str, conditional: bool = False, labels: int | None = None) -> str:
    """What follows the number in a run folder's name."""
    name = dataset if game == "ali" else f"{dataset}-{game}"
    name = f"{name}-conditional" if conditional else name
    return name if labels is None else f"{name}-{labels}labels"


def make_folder(folder: Path | None, config: Config) -> Path:
    """The folder to write into: the one given, made if need be, or a new numbered one."""
    if folder is None:
        return runs.new_run(ROOT, label(config.dataset, config.game, config.conditional, config.labels))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise runs.write_error(folder, error) from None
    return folder


def record(run: Run, held: str) -> dict[str, Any]:
    """config.json: the options, resolved, and what else decides the numbers."""
    libraries = {name: _version(name) for name in ("numpy", "h5py", "pillow", "scipy")}
    dataset, model = run.feed.dataset, run.trainer.model
    decoder = {DECODER_HASH: state.decoder_hash(model.state())} if run.config.game in ON_DECODER else {}
    return {
        "options": to_json(run.config),
        "total_steps": run.total_steps,
        "data": {
            "source": dataset.source,
            "split": dataset.split,
            "images": run.feed.order.n,
            "sha256": dataset.checksum,
            "held_out": held,
        },
        "parameters": sum(p.data.size for p in model.parameters()),
        **decoder,
        "versions": {"alikit": alikit.__version__, "python": platform.python_version(), **libraries},
        "machine": {"processor": platform.processor() or platform.machine(), "system": platform.system()},
    }


def _version(library: str) -> str:
    """Its version; "unknown" where the installation does not tell."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"
