"""Run folders: their names, their files, and which checkpoint a run continues from.

    runs/00007-svhn/
        config.json                          what was asked for, resolved
        metrics.jsonl  timing.jsonl          one object a line (alikit/training/log.py)
        samples-00001000.png  reconstructions-00001000.png  latents-00001000.png
        checkpoint-00001000.h5               (alikit/training/checkpoint.py)

Nothing here deletes but `prune`, and `prune` only checkpoints that newer ones replace.
"""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alikit.errors import DataError
from alikit.training import checkpoint
from alikit.training.files import PART, write_atomic, write_error

CONFIG = "config.json"
METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"

_RUN = re.compile(r"(\d{5,})(?:-.+)?")
_CHECKPOINT = re.compile(r"checkpoint-(\d{8,})\.h5")


def new_run(root: Path | str, label: str) -> Path:
    """Creates and returns `root/<number>-<label>`, the number one above all runs there, whatever their label.

    Two processes never get the same number: the folder is created under the bare number first, which only one of them
    can do, and takes its name by a rename. AlikitError when the folder cannot be created.
    """
    if not label or label != Path(label).name:
        raise ValueError(f"new_run: label {label!r} is no plain folder name")
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        number = max((number for number, _ in _numbered(root, _RUN)), default=-1) + 1
        while (run := _claim(root, number, label)) is None:
            number += 1
    except OSError as error:
        raise write_error(root, error) from None
    return run


def _claim(root: Path, number: int, label: str) -> Path | None:
    claim = root / f"{number:05d}"
    try:
        claim.mkdir()
    except FileExistsError:
        return None
    if any(root.glob(f"{number:05d}-*")):  # its owner was done between our look at the folder and our claim
        claim.rmdir()
        return None
    return claim.rename(root / f"{number:05d}-{label}")


def latest_run(root: Path | str, label: str) -> Path | None:
    """The run of `label` with the highest number under `root`, None if there is none.

    It may hold no checkpoint yet (it was killed early): an older run is then not what the user means by "resume".
    """
    found = [run for run in _numbered(Path(root), _RUN) if run[1].name.partition("-")[2] == label]
    return found[-1][1] if found else None


def checkpoint_path(run: Path | str, step: int) -> Path:
    """Where the checkpoint taken after `step` steps lies."""
    return Path(run) / f"checkpoint-{step:08d}.h5"


def picture_path(run: Path | str, kind: str, step: int) -> Path:
    """Where a picture of a kind ("samples", "reconstructions", "latents") drawn after `step` steps lies."""
    return Path(run) / f"{kind}-{step:08d}.png"


def checkpoints(run: Path | str) -> list[Path]:
    """The checkpoint files of a run by rising step; they have not been opened."""
    return [path for _, path in _numbered(Path(run), _CHECKPOINT)]


def find_checkpoint(path: Path | str, warn: Callable[[str], object] = warnings.warn) -> Path:
    """The checkpoint that `path` means: itself if it is a file, else the newest in the run folder that can be read.

    `warn` is told about each damaged checkpoint that was passed over. DataError, saying what was looked for, when
    there is nothing at `path`, no checkpoint in it, or none that can be read.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"no run folder and no checkpoint at {path}")
    candidates = checkpoints(path)
    if not candidates:
        raise DataError(f"no checkpoint in {path}: looked for files named checkpoint-<step>.h5")
    reasons = []
    for candidate in reversed(candidates):
        try:
            checkpoint.verify(candidate)
        except DataError as error:
            reasons.append(str(error))
        else:
            for reason in reasons:
                warn(f"{reason}; falling back to {candidate.name}")
            return candidate
    raise DataError(f"none of the {len(candidates)} checkpoints in {path} can be read; the newest: {reasons[0]}")


def rewind(run: Path | str, step: int) -> list[Path]:
    """Makes `step` the newest checkpoint of a run that continues from it; returns the files set aside.

    Later checkpoints (damaged, or of a past that is now trained again) get the suffix ".old": a later resume must not
    jump to them over a gap in the metrics.
    """
    aside = []
    try:
        for taken, path in _numbered(Path(run), _CHECKPOINT):
            if taken > step:
                aside.append(path.replace(path.with_name(path.name + ".old")))
    except OSError as error:
        raise write_error(Path(run), error) from None
    return aside


def prune(run: Path | str, keep: int, written: Path) -> list[Path]:
    """Deletes all but `keep` checkpoints, the one just `written` and the latest others, and what a killed save left;
    returns what was deleted.

    Whatever lies there, copied with times or from a machine whose clock is ahead, outlives the one just written only
    beside it.
    """
    if keep < 1:
        raise ValueError(f"prune: keep is {keep}; wanted at least 1")
    others = [path for path in checkpoints(run) if path.name != written.name]
    old = [*others[: max(0, len(others) - keep + 1)], *Path(run).glob(f"checkpoint-*.h5{PART}")]
    try:
        for path in old:
            path.unlink()
    except OSError as error:
        raise write_error(Path(run), error) from None
    return old


def write_json(path: Path | str, obj: Any) -> None:
    """Writes `obj` as indented JSON, atomically. ValueError for NaN and infinities, AlikitError from the disk."""
    text = json.dumps(obj, indent=2, allow_nan=False) + "\n"  # ASCII: a name of a file need not be UTF-8
    write_atomic(Path(path), [text.encode()])


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    """What in `folder` has a name of `pattern`, by rising number (its first group). A missing folder holds nothing."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted((int(found[1]), folder / found[0]) for found in map(pattern.fullmatch, names) if found)
