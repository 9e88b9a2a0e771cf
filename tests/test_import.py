"""`import alikit` costs next to nothing, and a command sets up BLAS before NumPy is loaded."""

import os
import subprocess
import sys

import pytest

import alikit

HEAVY = {"numpy", "scipy", "h5py", "PIL", "imageio", "pooch", "requests", "tqdm", "cupy", "triton", "torch"}


def python(code: str, **variables: str) -> str:
    """What a fresh interpreter prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["alikit", "alikit.train", "alikit.sample", "alikit.reconstruct"])
def test_nothing_heavy_is_imported(module: str) -> None:
    loaded = python(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_import_takes_less_than_three_tenths_of_a_second() -> None:
    code = "import time; start = time.perf_counter(); import alikit; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.3


def test_training_loads_no_device_library_and_no_framework() -> None:
    loaded = python("import sys, alikit.training.session, alikit.inference; print(*sys.modules)").split()
    assert not {"cupy", "triton", "torch", "sklearn", "matplotlib"} & {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize("name", [name for name in alikit.__all__ if name != "__version__"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(alikit, name).__module__.startswith("alikit.")
    assert name in dir(alikit)


def test_the_engine_works_from_the_front_door() -> None:
    """Operators are attached whichever public name is used first."""
    code = "import alikit, numpy; x = alikit.Tensor(numpy.ones(3), requires_grad=True); print((x * x + x).data.sum())"
    assert python(code) == "6.0"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'alikit' has no attribute 'tensor'"):
        alikit.tensor  # noqa: B018


def test_a_command_gives_blas_one_thread_unless_the_user_has_chosen() -> None:
    code = "from alikit import startup; startup.prepare(); import os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    assert python(code) == "1"
    assert python(code, OPENBLAS_NUM_THREADS="3") == "3"


def test_the_core_type_is_set_for_amd_with_avx512_alone() -> None:
    code = """
import os, sys
from alikit import startup
startup._amd_with_avx512 = lambda: {amd}
print(startup.prepare(), os.environ.get("OPENBLAS_CORETYPE"))
"""
    assert python(code.format(amd=True)) == "SkylakeX SkylakeX"
    assert python(code.format(amd=False)) == "None None"
    assert python(code.format(amd=True), OPENBLAS_CORETYPE="Zen") == "None Zen"
    assert python("import numpy\n" + code.format(amd=True)) == "None None"  # too late
