"""What works without Triton: keys, and code that comes with alikit; and compiling without PyTorch."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from alikit.kernels import KERNELS, binary, launch, source
from alikit.kernels.launch import Launch

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")

WITHOUT_TRITON = """
    import sys
    sys.modules["triton"] = None  # import triton: ModuleNotFoundError
    from pathlib import Path
    from alikit.kernels import binary, launch, source
    from alikit.kernels.launch import Launch
    import importlib.util
    spec = importlib.util.spec_from_file_location("kernels_of_a_test", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recorded = Launch(module.kernel, (1, 1, 1), (("x_ptr", "*fp32"), ("N", "constexpr")), (("N", 4),), (), 4, 2)
    print(source.launch_key(recorded, 80))
    binary.SHIPPED = Path(sys.argv[2])
    binary.shipped.__defaults__ = (binary.SHIPPED,)
    print(launch.compiled(recorded, 80).name)
    try:
        launch.compiled(recorded, 86)
    except RuntimeError as error:
        print(error)
"""

KERNELS_OF_A_TEST = """
from alikit.kernels.launch import jit, tl

TWO = tl.constexpr(2)

@jit
def helper(x):
    return x * TWO

@jit
def kernel(x_ptr, N: tl.constexpr):
    offs = tl.arange(0, N)
    tl.store(x_ptr + offs, helper(tl.load(x_ptr + offs)))
"""


def test_what_comes_with_alikit_is_found_without_triton(tmp_path: Path) -> None:
    import importlib.util

    (tmp_path / "kernels_of_a_test.py").write_text(KERNELS_OF_A_TEST)
    spec: Any = importlib.util.spec_from_file_location("kernels_of_a_test", tmp_path / "kernels_of_a_test.py")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    signature = (("x_ptr", "*fp32"), ("N", "constexpr"))
    recorded = Launch(module.kernel, (1, 1, 1), signature, (("N", 4),), (), 4, 2)
    key = source.launch_key(recorded, 80)
    assert binary.ship({key: launch.compiled(recorded, 80, lines=False)}, 80, tmp_path) > 1000
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(WITHOUT_TRITON),
        str(tmp_path / "kernels_of_a_test.py"),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found, name, error = done.stdout.splitlines()
    assert (found, name) == (key, "kernel")
    assert "sm_86" in error
    assert "pip install triton" in error


KEYS = """
    import sys
    if "--without" in sys.argv:
        sys.modules["triton"] = None
    from importlib import import_module
    from pkgutil import iter_modules
    from alikit.kernels import gpu, source
    for module in iter_modules(gpu.__path__):
        for name, value in sorted(vars(import_module(f"alikit.kernels.gpu.{module.name}")).items()):
            if source.is_jit(value):
                print(module.name, name, source.source_key(value))
"""


def test_every_kernel_has_the_same_key_without_triton() -> None:
    command = [sys.executable, "-c", textwrap.dedent(KEYS)]
    texts = [subprocess.run([*command, *o], capture_output=True, text=True) for o in ([], ["--without"])]
    assert [done.stderr for done in texts] == ["", ""]
    assert texts[0].stdout == texts[1].stdout
    assert {line.split()[0] for line in texts[0].stdout.splitlines()} >= set(KERNELS)


WATCHED = """
    import sys

    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torch":
                raise AssertionError("torch was imported")

    sys.meta_path.insert(0, Watch())
"""


def test_compiling_asks_nobody_for_torch(tmp_path: Path) -> None:
    (tmp_path / "kernels_of_a_test.py").write_text(KERNELS_OF_A_TEST)
    program = textwrap.dedent(WATCHED) + textwrap.dedent(
        """
        sys.path.insert(0, sys.argv[1])
        from alikit.kernels import launch
        from kernels_of_a_test import kernel
        signature = (("x_ptr", "*fp32"), ("N", "constexpr"))
        recorded = launch.Launch(kernel, (1, 1, 1), signature, (("N", 4),), (), 4, 2)
        print(len(launch.compiled(recorded, 90).cubin) > 1000)
        """
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("True", "")
