"""What GPU kernels compute, in Triton's interpreter: the tests in folders called `interpreted`, a process a file."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("interpreted/test_*.py"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton (Linux only) is not installed")
@pytest.mark.parametrize("name", FILES)
def test_interpreted(name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / name)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        pytest.fail(done.stdout[-20000:] + done.stderr[-5000:], pytrace=False)
