"""Commands called as a user calls them, with a cache folder of their own and no way to the network."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from alikit import backend
from alikit.kernels.cpu import passes as _chosen  # noqa: F401  by this process, before commands are told otherwise

#: networks so small that a step takes milliseconds
NARROW_IMAGES = ("--size", "32", "--width", "0.04", "--nz", "3", "--batch-size", "4", "--threads", "1")
NARROW_POINTS = ("--width", "0.03", "--batch-size", "16", "--threads", "1")


class Result(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error, without its head; a traceback or a second line is no such thing."""
        head, _, line = self.err.partition("alikit: error: ")
        assert head == "", self.err
        assert line.count("\n") == 1, self.err
        assert line.endswith("\n"), self.err
        return line[:-1]


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of commands: a fresh cache folder, proxies at a closed port, and NumPy's passes for the
    processes that they start: loading the compiled ones takes a short run's time again."""
    proxies = [f"{kind}_proxy" for kind in ("http", "https", "all")]
    closed = dict.fromkeys([*proxies, *map(str.upper, proxies)], "http://127.0.0.1:9")
    return {
        **closed,
        "no_proxy": "",
        "NO_PROXY": "",
        "ALIKIT_DATA": "",
        "ALIKIT_PASSES": "plain",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }


@contextmanager
def surrounded_by(variables: dict[str, str]) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield patch


@pytest.fixture(autouse=True)
def working_folder(surroundings: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Commands write into the working folder; afterwards threads are as before."""
    with surrounded_by(surroundings) as patch:
        patch.chdir(tmp_path)
        yield tmp_path
    backend.set_threads(1)


def call(verb: str, *arguments: object) -> int:
    """`python -m alikit.VERB ARGUMENTS` in this process: its exit code."""
    try:
        return importlib.import_module(f"alikit.{verb}").main([str(a) for a in arguments])
    except SystemExit as end:  # argparse's way out
        return int(end.code or 0)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """command("train", "mixture", ...) -> Result."""

    def run(verb: str, *arguments: object) -> Result:
        capsys.readouterr()
        return Result(call(verb, *arguments), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 41 picture files in odd sizes, two of which will be held out."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)
    for number in range(41):
        size = rng.integers(20, 50, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def trained(surroundings: dict[str, str], *arguments: object) -> None:
    with surrounded_by(surroundings):
        assert call("train", *arguments, "--quiet") == 0


@pytest.fixture(scope="session")
def image_run(surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A finished run on the pictures, of three steps. Not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "images"
    options = ("--data", pictures, "--steps", 3, "--ema", 0.5, "--lr", 0.01, "--init-std", 0.3)
    trained(surroundings, "folder", *NARROW_IMAGES, *options, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def point_run(surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the mixture, of three steps. Not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "points"
    trained(surroundings, "mixture", *NARROW_POINTS, "--steps", 3, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def environment(surroundings: dict[str, str]) -> dict[str, str]:
    """For processes that tests start."""
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | surroundings
