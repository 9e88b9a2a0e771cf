"""What GPU kernels compute, in Triton's interpreter: the tests in folders called `interpreted`, a process a file.

The processes run beside all other tests from the beginning (`interpreted` in conftest.py); here, at the end, is what
came of them.
"""

import importlib.util
from concurrent.futures import Future
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: the long ones begin first
FILES = sorted(HERE.rglob("interpreted/test_*.py"), key=lambda path: ("conv" not in path.name, "step" not in path.name))
NAMES = [str(path.relative_to(HERE)) for path in FILES]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton (Linux only) is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_interpreted(name: str, interpreted: dict[str, Future[tuple[int, str]]]) -> None:
    status, output = interpreted[name].result()
    if status:
        pytest.fail(output[-25000:], pytrace=False)
