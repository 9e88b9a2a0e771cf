"""What GPU kernels compute, in Triton's interpreter: the tests in folders called `interpreted`, a process a file."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("interpreted/test_*.py"))
#: one process is enough; the plugin of hypothesis takes as long as a short file
OPTIONS = ("-q", "--numprocesses=0", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
SURROUNDINGS = {"TRITON_INTERPRET": "1", "ALIKIT_PASSES": "plain"}  # nothing to load, or to compile


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton (Linux only) is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_interpreted(name: str) -> None:
    command = [sys.executable, "-m", "pytest", *OPTIONS, str(HERE / name)]
    done = subprocess.run(
        command, env={**os.environ, **SURROUNDINGS}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        pytest.fail(done.stdout[-25000:], pytrace=False)
