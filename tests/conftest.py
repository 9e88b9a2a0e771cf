"""Shared by all tests: one BLAS thread, random numbers from separate, named streams, disks and folders that refuse.

No test's data depends on another's. A full disk is a real one where mounting is allowed, a read-only folder a real one
anywhere. The commands give BLAS a single thread (`alikit/startup.py`), and so do the tests: where several processes
share the cores, BLAS's own threads make small products tens of times slower.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

# hundreds of processes follow, each of which would compile every module anew
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from alikit.nn import Module  # noqa: E402  after what it reads from the environment

Stream = Callable[[str], np.random.Generator]
NOBODY = 65534


#: files that take longest, from the longest on: begun first, none is left to run alone at the end
LONG = ("test_interpreted", "test_aot", "test_resume", "test_findings", "test_study")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Where pytest-xdist is not installed, what pyproject.toml asks of it means nothing: one process runs all files."""
    if not pluginmanager.hasplugin("xdist"):
        for name, action in (("numprocesses", "store"), ("dist", "store"), ("no-loadscope-reorder", "store_true")):
            parser.addoption(f"--{name}", action=action, help="for pytest-xdist, which is not here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Stream:
    """stream("gy") is a generator of its own for each name and each test, and the same in every run."""

    def named(name: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{request.node.name}/{name}".encode()))

    return named


@pytest.fixture
def as_if_trained() -> Callable[[Module, np.random.Generator], None]:
    """as_if_trained(model, rng): gives a model numbers at which an error shows, none of them zero or one."""

    def fill(model: Module, rng: np.random.Generator) -> None:
        for full, array in model.state().items():
            name = full.rpartition(".")[2]
            if name == "weight":
                array[...] = rng.standard_normal(array.shape) * np.sqrt(2 / array[0].size)
            elif name in ("gamma", "running_std"):
                array[...] = rng.uniform(0.5, 1.5, array.shape)
            else:
                array[...] = rng.uniform(0.1, 0.5, array.shape) * rng.choice([-1, 1], array.shape)

    return fill


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anything, so root becomes nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def readonly_folder() -> Iterator[Path]:
    """A folder that cannot be written, for the length of a test."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    with unprivileged():
        yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)
