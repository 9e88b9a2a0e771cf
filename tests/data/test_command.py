"""`python -m alikit.data`: what it prints, the contact sheet, the exit codes."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alikit.data.__main__ import main


def test_it_says_what_it_holds(tmp_path, svhn_file, capsys):
    svhn_file(tmp_path / "train_32x32.mat", 30)
    svhn_file(tmp_path / "test_32x32.mat", 20)
    assert main(["svhn", "--data", str(tmp_path)]) == 0
    told = capsys.readouterr()
    for text in (
        "svhn train: 30 images of 32x32",
        "svhn test: 20 images of 32x32",
        str(tmp_path / "train_32x32.mat"),
        "not the published files",
        "content        SHA-256 ",
        str(tmp_path / "svhn-train.h5"),
        "terms of use: SVHN: for non-commercial use only",
    ):
        assert text in told.out
    assert f"alikit: reading {tmp_path / 'test_32x32.mat'}" in told.err


def test_one_split_and_a_contact_sheet(tmp_path, svhn_file, capsys):
    images, _ = svhn_file(tmp_path / "test_32x32.mat", 127)
    sheet = tmp_path / "sheet.png"
    command = ["svhn", "--data", str(tmp_path), "--split", "test", "--quiet", "--contact-sheet", str(sheet)]
    assert main(command) == 0
    assert "svhn train" not in capsys.readouterr().out
    pixels = np.asarray(Image.open(sheet))
    assert pixels.shape == (8 * 98 + 2, 8 * 98 + 2, 3)
    for place in (0, 1, 8, 63):  # every second of 127 images, enlarged three times
        top, left = 98 * (place // 8) + 2, 98 * (place % 8) + 2
        np.testing.assert_array_equal(pixels[top : top + 96 : 3, left : left + 96 : 3], images[2 * place])
        assert (pixels[top - 2 : top, left : left + 96] == 255).all()


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["svhn", "--data", "{tmp}"], 3, "train_32x32.mat is missing"),
        (["svhn", "--split", "valid"], 2, "--split: svhn has no split"),
        (["folder", "--size", "9"], 2, "--data DIR"),
        (["mixture", "--contact-sheet", "x.png"], 2, "--contact-sheet: shows images; the mixture has points"),
        (["svhn", "--data", "synthetic", "--contact-sheet", "x.jpg"], 2, "x.jpg: a name ending in .png is wanted"),
        (["svhn", "--data", "synthetic", "--contact-sheet", "{tmp}/no/where.png"], 1, "where.png: cannot be written"),
    ],
)
def test_exit_codes(tmp_path, command, code, text, capsys):
    assert main([*(part.format(tmp=tmp_path) for part in command), "--quiet"]) == code
    said = capsys.readouterr().err
    assert said.startswith("alikit: error: ")
    assert text in said
    assert said.count("\n") == 1


def test_drawn_sets_are_free(capsys):
    assert main(["mixture"]) == 0
    assert "mixture valid: 100,000 points" in capsys.readouterr().out
    assert main(["svhn", "--data", "synthetic"]) == 0
    told = capsys.readouterr().out
    assert "drawn by alikit, seed 0" in told
    assert "terms of use: These house numbers are drawn by this program: free." in told


def test_as_a_command():
    command = [sys.executable, "-m", "alikit.data"]
    told = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in told
    assert subprocess.run([*command, "mnist"], capture_output=True).returncode == 2
