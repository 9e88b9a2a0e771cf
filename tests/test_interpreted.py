"""What GPU kernels compute, in Triton's interpreter: the tests in folders called `interpreted`, a process a file, as
many side by side as there are cores."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: the long ones begin first
FILES = sorted(HERE.rglob("interpreted/test_*.py"), key=lambda path: ("conv" not in path.name, "step" not in path.name))
NAMES = [str(path.relative_to(HERE)) for path in FILES]

Finished = subprocess.CompletedProcess[str]


def run(name: str) -> Finished:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / name)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent)


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Finished]]]:
    """Every file that was asked for, under way."""
    asked = [item.callspec.params["name"] for item in request.session.items if item.fspath == request.fspath]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(run, name) for name in asked}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton (Linux only) is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_interpreted(name: str, running: dict[str, Future[Finished]]) -> None:
    done = running[name].result()
    if done.returncode:
        pytest.fail(done.stdout[-20000:] + done.stderr[-5000:], pytrace=False)
