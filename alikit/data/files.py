"""Where data files lie, which state they are in, and whether they are the published ones.

A set's files are looked for in the data folder itself and in its subfolder named after the set. A prepared set
remembers its sources by name, size and time of change (`stamp`), which costs a stat and not a read; their SHA-256 is
taken once, when they are read for preparing.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alikit.data.reporting import Report
from alikit.errors import DataError, UsageError

DEMO_HINT = "`python -m alikit.train svhn --demo`, without --data, needs no data"


class Published(NamedTuple):
    """A file as its authors publish it; `size` in bytes, `sha256` in hex."""

    name: str
    url: str
    size: int
    sha256: str


def user_cache() -> Path:
    """The user's cache folder for alikit (on Linux $XDG_CACHE_HOME/alikit or ~/.cache/alikit); it may not exist yet."""
    try:
        from platformdirs import user_cache_path
    except ImportError:  # an installation without its dependencies can still read data that are at hand
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alikit"
    return user_cache_path("alikit", appauthor=False)


def data_folder(data: str | Path | None) -> Path:
    """`--data`, else $ALIKIT_DATA, else the user's cache folder. UsageError where that is a file, or no folder is
    meant."""
    variable = os.environ.get("ALIKIT_DATA")
    if not data and variable == "synthetic":  # which data a run sees is not for a forgotten variable to say
        raise UsageError("ALIKIT_DATA=synthetic: it names a folder (./synthetic is one); --data synthetic draws digits")
    chosen = data or variable
    folder = Path(chosen).expanduser() if chosen else user_cache()
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{'--data' if data else 'ALIKIT_DATA'}: {folder} is not a folder")
    return folder


@dataclass(frozen=True)
class Place:
    """Where the files of the set `name` are looked for, and where missing ones go."""

    base: Path
    name: str
    known: tuple[str, ...] = ()  # names of the set's files: where one of them lies, the others belong

    def find(self, file: str) -> Path | None:
        # os.path.exists, because Path.exists raises on a folder that may not be entered
        found = (folder / file for folder in (self.base, self.base / self.name))
        return next((path for path in found if os.path.exists(path)), None)

    @property
    def home(self) -> Path:
        """The folder for downloads and prepared files: the base where it is the set's own, else its subfolder."""
        own = self.base.name == self.name or any(os.path.exists(self.base / file) for file in self.known)
        return self.base if own else self.base / self.name

    def cache_paths(self, stem: str) -> list[Path]:
        """Where a prepared file may lie: beside the data, else (a read-only folder) in the user's cache folder."""
        return [self.find(f"{stem}.h5") or self.home / f"{stem}.h5", private_cache_path(self.base, stem)]


def private_cache_path(folder: Path, stem: str) -> Path:
    """A file in the user's cache folder for what is prepared from `folder`, told from others by the folder's path."""
    mark = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:12]
    return user_cache() / "prepared" / f"{stem}-{mark}.h5"


def stamp(paths: Iterable[Path], **more: str) -> str:
    """The state of source files in a line of JSON: name, size, time of change; `more` tells apart what they can't."""
    try:
        states = [(path, path.stat()) for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return json.dumps([[path.name, state.st_size, state.st_mtime_ns] for path, state in states] + [more])


def listing_stamp(root: Path, names: Iterable[str]) -> str:
    """SHA-256 over name, size and time of change of every file of a folder: its state, without reading the files."""
    digest = hashlib.sha256()
    for name in names:
        try:
            state = os.stat(os.path.join(root, name))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
        digest.update(os.fsencode(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def compare(folder: Path, found: Mapping[str, str], published: Iterable[Published], report: Report) -> bool | None:
    """Whether the files `found` (name -> SHA-256) are the published ones; None where none of them is published.

    Files that differ are used all the same, with one warning that names them.
    """
    pairs = [(file, found[file.name]) for file in published if file.name in found]
    other = [(file, sha) for file, sha in pairs if sha != file.sha256]
    if other:
        sums = (f"{folder / f.name} (SHA-256 {sha[:12]}..., published {f.sha256[:12]}...)" for f, sha in other)
        report.warn(f"not the published file, used as it is: {', '.join(sums)}")
    return not other if pairs else None


def looks_like_html(path: Path | str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError:
        return False
    return head.startswith((b"<!doctype html", b"<html", b"<head"))


def unreadable(path: Path, wanted: str, reason: object = "") -> DataError:
    """The error for a source file that is not what it should be: says what it looks like, and what to do."""
    try:
        empty = path.stat().st_size == 0
    except OSError as error:
        return DataError(f"{path}: cannot be read ({error.strerror})")
    if empty:
        finding = "is empty"
    elif looks_like_html(path):
        finding = f"is a web page, not {wanted} (servers answer so when they refuse, as Google Drive's quota does)"
    else:
        finding = f"is not {wanted}, or damaged" + (f" ({one_line(reason)})" if str(reason) else "")
    return DataError(f"{path}: {finding}; delete it to have it downloaded again, or put a good copy there")


def one_line(reason: object, limit: int = 200) -> str:
    """Another library's message, shortened to what fits into a line."""
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
