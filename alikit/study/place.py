"""The folder of a study.

study.json                     what decides its numbers
runs/ali-03-s0/                a run like any other (alikit/training/runs.py)
results/ali-03-s0.json  .h5    the run's numbers, and its points for the figure: there once it is finished
logs/ali-03-s0.txt             what the run said
table.md  table.json  figure.png
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alikit.errors import DataError, UsageError
from alikit.study.plan import Settings
from alikit.training import runs
from alikit.training.files import write_error


class Place:
    """Paths of a study, and its results."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.txt"

    def points(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.h5"

    def result(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.json"

    def prepare(self, settings: Settings, new: bool = True) -> None:
        """Makes the folders and notes the settings. UsageError where a study with other settings is there, and
        DataError where there is none and no new one is wanted."""
        path = self.folder / "study.json"
        wanted = settings.to_json()
        if path.exists():
            found = _read_json(path)
            differences = [f"{k} is {v}, the study has {found.get(k)}" for k, v in wanted.items() if found.get(k) != v]
            if differences:
                raise UsageError(f"--out {self.folder}: holds another study: {'; '.join(differences)}")
        elif not new:
            raise DataError(f"--out {self.folder}: holds no study")
        elif self.folder.is_file() or (self.folder.exists() and any(self.folder.iterdir())):
            raise UsageError(f"--out {self.folder}: exists already and holds no study")
        try:
            for part in ("runs", "results", "logs"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error) from None
        if not path.exists():  # never anew: a lock on it would be lost
            runs.write_json(path, wanted)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other process works on this study: UsageError where one does. (POSIX only; the system lifts the
        lock when a process dies.)"""
        if os.name != "posix":
            yield
            return
        import fcntl

        with (self.folder / "study.json").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"--out {self.folder}: another process is working on this study") from None
            yield

    def finished(self, name: str) -> dict[str, Any] | None:
        """The result of a job, None where it is not finished."""
        path = self.result(name)
        return _read_json(path) if path.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds no JSON object")
    return found
