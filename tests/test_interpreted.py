"""What GPU kernels compute, in Triton's interpreter: the tests in folders called `interpreted`.

A process for each long file, and one for all short ones: to begin takes as long as a short file.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("interpreted/test_*.py"))
LONG = ("device_step", "device_run", "activation", "conv_epilogue", "conv", "adam", "pointwise", "norm")
ALONE = [name for name in NAMES if Path(name).stem.removeprefix("test_") in LONG]
TOGETHER = [name for name in NAMES if name not in ALONE]
#: one process is enough; the plugin of hypothesis takes as long as a short file
OPTIONS = ("-q", "--numprocesses=0", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
SURROUNDINGS = {"TRITON_INTERPRET": "1", "ALIKIT_PASSES": "plain"}  # nothing to load, or to compile


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton (Linux only) is not installed")
@pytest.mark.parametrize("names", [*([name] for name in ALONE), TOGETHER], ids=[*ALONE, "the others"])
def test_interpreted(names: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", *OPTIONS, *(str(HERE / name) for name in names)]
    done = subprocess.run(
        command, env={**os.environ, **SURROUNDINGS}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        pytest.fail(done.stdout[-25000:], pytrace=False)
