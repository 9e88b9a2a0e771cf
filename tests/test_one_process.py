"""The tests run without pytest-xdist too: in one process."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: as if it were not installed; without a cache, and without a plugin that takes a second to load
WITHOUT = ("-p", "no:xdist", "-p", "no:xdist.looponfail", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")


def test_xdist_is_not_needed() -> None:
    command = [sys.executable, "-m", "pytest", "-q", *WITHOUT, str(HERE / "metrics/test_frechet.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
