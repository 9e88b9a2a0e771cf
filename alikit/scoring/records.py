"""Results in lines of JSON, appended as they are found, so that a stopped evaluation goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from alikit.training.files import write_error


def append(path: Path, values: dict[str, Any]) -> None:
    """Appends one line. AlikitError where the disk refuses."""
    line = (json.dumps(values, ensure_ascii=False) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
        with path.open("ab") as file:
            file.write(b"\n" + line if torn else line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(path, error) from None


class Records:
    """The results of one experiment in a file of many, by what they are results of.

    path   the file;  experiment: all that decides the results besides each one's own key
    """

    def __init__(self, path: Path, experiment: dict[str, Any]):
        self.path, self.experiment = path, experiment
        self._found: dict[str, dict[str, Any]] = {}
        for values in _lines(path):
            if values.get("experiment") == experiment and isinstance(values.get("of"), dict):
                self._found[_name(values["of"])] = values

    def get(self, **of: Any) -> dict[str, Any] | None:
        """The result of `of`, None where it is not known yet."""
        return self._found.get(_name(of))

    def add(self, values: dict[str, Any], **of: Any) -> None:
        """Keeps a result, on the disk too."""
        line = {"experiment": self.experiment, "of": of, **values}
        append(self.path, line)
        self._found[_name(of)] = line


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file, without lines that a kill has torn."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    objects = []
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            objects.append(values)
    return objects


def _name(of: dict[str, Any]) -> str:
    return json.dumps(of, sort_keys=True)
