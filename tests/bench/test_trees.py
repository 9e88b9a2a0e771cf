"""Two trees by turns: here the same one twice."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __main__, trees


def test_a_case_is_checked_and_timed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIKIT_PASSES", "plain")  # nothing to load
    warmed, count_for = set(), trees.count_for
    monkeypatch.setattr(trees, "count_for", lambda client, *more: warmed.add(client) or count_for(client, *more))
    words = [sys.executable, "--case", "ops", "--rounds", "2", "--threads", "1", "--quick"]
    code = trees.main(words)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert len(out.splitlines()) >= 2
    assert len(warmed) == 2
    for line in out.splitlines():
        ratio = float(line.partition("this / other ")[2].partition(" ")[0])
        assert 0.02 < ratio < 50


def test_an_interpreter_is_found_from_other_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its own path in its environment, not by that of the installation that it is a link to."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert trees.parse(["../venv/bin/python"]).python == str(tmp_path / "venv" / "bin" / "python")
    assert trees.parse(["python3"]).python == "python3"  # looked for where the shell does


@pytest.mark.parametrize("parse", [trees.parse, lambda words: __main__.parse(words[1:])], ids=["trees", "all"])
@pytest.mark.parametrize("option", ["--rounds", "--threads"])
def test_counts_start_at_1(option: str, parse: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert vars(parse(["python", option, "1"]))[option[2:]] == 1
    for word in ("0", "-3", "some"):
        with pytest.raises(SystemExit) as caught:
            parse(["python", option, word])
        assert caught.value.code == 2
        assert f"argument {option}: " in capsys.readouterr().err


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
