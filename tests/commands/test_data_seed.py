"""Drawn images have a seed of their own: whoever measures a run opens those that it was trained on."""

from pathlib import Path

import pytest

from tests.commands.conftest import NARROW_IMAGES


class Opened(Exception):
    """With the seed that was asked for."""


@pytest.mark.parametrize("arguments", [("evaluate", "run"), ("encode", "run", "--split", "train", "-o", "codes.h5")])
def test_the_run_s_own(command, pictures: Path, arguments: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--data", pictures, "--steps", 1, "--seed", 3, "--data-seed", 7, "--out", "run", "--quiet")
    assert command("train", "folder", *NARROW_IMAGES, *options).code == 0

    def noted(*_: object, seed: int, **__: object) -> None:
        raise Opened(seed)

    monkeypatch.setattr("alikit.data.open_dataset", noted)
    with pytest.raises(Opened, match=r"^7$"):
        command(*arguments)
