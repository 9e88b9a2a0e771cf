"""Two trees by turns: here the same one twice."""

import sys
from pathlib import Path

import pytest

from bench import trees


def test_a_case_is_checked_and_timed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIKIT_PASSES", "plain")  # nothing to load
    words = [sys.executable, "--case", "ops", "--rounds", "2", "--threads", "1", "--quick"]
    code = trees.main(words)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert len(out.splitlines()) >= 2
    for line in out.splitlines():
        ratio = float(line.partition("this / other ")[2].partition(" ")[0])
        assert 0.02 < ratio < 50


def test_an_environment_without_alikit(capsys: pytest.CaptureFixture[str]) -> None:
    assert trees.main(["no-such-python"]) == 1
    assert "no-such-python: cannot import alikit" in capsys.readouterr().err


def test_an_installation_without_a_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "alikit"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(trees.WorkerError, match="alikit was not installed from a tree"):
        trees.tree_of(sys.executable)
