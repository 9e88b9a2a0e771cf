"""-o is --out wherever something is written."""

from importlib import import_module
from pathlib import Path

import pytest

COMMANDS = ("train", "sample", "reconstruct", "interpolate", "encode", "evaluate", "study.__main__")


@pytest.mark.parametrize("name", COMMANDS)
def test_o_is_out(name: str) -> None:
    parser = import_module(f"alikit.{name}")._parser()
    first = {"train": "mixture", "study.__main__": "mixture"}.get(name, "run")
    short, long = (parser.parse_args([first, option, "there.h5"]).out for option in ("-o", "--out"))
    assert short == long == Path("there.h5")
