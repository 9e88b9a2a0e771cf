import json
from pathlib import Path

import pytest

from alikit.errors import AlikitError
from alikit.scoring.records import Records, append


def test_results_are_found_again_by_what_they_are_of(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.jsonl"
    records = Records(path, {"seed": 0})
    assert records.get(split="test", set=1, c=0.1) is None
    records.add({"error": 0.25}, split="test", set=1, c=0.1)
    for known in (records, Records(path, {"seed": 0})):
        assert known.get(c=0.1, set=1, split="test")["error"] == 0.25
        assert known.get(c=0.1, set=2, split="test") is None
    assert Records(path, {"seed": 1}).get(split="test", set=1, c=0.1) is None
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["experiment"] == {"seed": 0}


def test_a_torn_line_and_foreign_ones_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    records = Records(path, {"seed": 0})
    records.add({"error": 1}, set=1)
    with path.open("ab") as file:
        file.write(b'[1, 2]\n"words"\n{"experiment": {"seed": 0}, "of": {"set": 2}, "err')
    records = Records(path, {"seed": 0})
    assert records.get(set=2) is None
    records.add({"error": 2}, set=2)
    assert Records(path, {"seed": 0}).get(set=2)["error"] == 2
    assert Records(path, {"seed": 0}).get(set=1)["error"] == 1


def test_a_folder_that_cannot_be_written(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match=r"cannot write .*choose a folder"):
        append(readonly_folder / "r.jsonl", {})
