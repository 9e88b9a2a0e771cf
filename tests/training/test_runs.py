import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from alikit.errors import AlikitError, DataError
from alikit.training import checkpoint, runs


def save(run: Path, step: int, mtime: int | None = None) -> Path:
    path = runs.checkpoint_path(run, step)
    checkpoint.save(path, {"step": np.array(step)}, {"step": step})
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_runs_are_numbered_across_labels(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    assert runs.new_run(root, "svhn") == root / "00000-svhn"
    assert runs.new_run(root, "tiny-imagenet").name == "00001-tiny-imagenet"
    (root / "00041-mine").mkdir()
    (root / "notes").mkdir()
    (root / "99-too-short").mkdir()
    assert runs.new_run(root, "svhn").name == "00042-svhn"
    (root / "99999-x").mkdir()
    assert runs.new_run(root, "svhn").name == "100000-svhn"
    assert runs.new_run(root, "svhn").name == "100001-svhn"


def test_runs_started_at_once_get_different_numbers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: runs.new_run(tmp_path, f"run{n}"), range(48)))
    assert sorted(path.name[:5] for path in made) == [f"{n:05d}" for n in range(48)]
    assert sorted(path.name for path in made) == sorted(os.listdir(tmp_path))


def test_a_number_whose_owner_was_faster_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "00000-celeba").mkdir()
    monkeypatch.setattr(runs, "_numbered", lambda *_: [])  # as if we had looked before 00000-celeba was there
    assert runs.new_run(tmp_path, "svhn").name == "00001-svhn"
    assert sorted(os.listdir(tmp_path)) == ["00000-celeba", "00001-svhn"]


@pytest.mark.parametrize("label", ["", "a/b", "a/", "/etc"])
def test_a_label_is_a_plain_name(tmp_path: Path, label: str) -> None:
    with pytest.raises(ValueError, match="no plain folder name"):
        runs.new_run(tmp_path, label)


def test_runs_cannot_be_made_in_a_readonly_folder_or_a_file(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match="Permission denied; choose a folder"):
        runs.new_run(readonly_folder, "svhn")
    with pytest.raises(AlikitError, match=r"cannot write .*File exists"):
        runs.new_run(Path(__file__), "svhn")


def test_latest_run_goes_by_number_and_whole_label(tmp_path: Path) -> None:
    for name in ("00002-svhn", "00010-svhn", "100000-cifar10", "00011-svhn-wide", "00012"):
        (tmp_path / name).mkdir()
    assert runs.latest_run(tmp_path, "svhn") == tmp_path / "00010-svhn"
    assert runs.latest_run(tmp_path, "svhn-wide") == tmp_path / "00011-svhn-wide"
    assert runs.latest_run(tmp_path, "celeba") is None
    assert runs.latest_run(tmp_path / "missing", "svhn") is None


def test_file_names(tmp_path: Path) -> None:
    assert runs.checkpoint_path(tmp_path, 1200) == tmp_path / "checkpoint-00001200.h5"
    assert runs.picture_path(tmp_path, "samples", 7) == tmp_path / "samples-00000007.png"


def test_the_newest_checkpoint_is_found_by_number(tmp_path: Path) -> None:
    for step in (99_999_999, 5, 123_456_789):
        save(tmp_path, step)
    (tmp_path / "checkpoint-999999999.h5.part").touch()
    assert [path.name[11:-3] for path in runs.checkpoints(tmp_path)] == ["00000005", "99999999", "123456789"]
    assert runs.find_checkpoint(tmp_path) == runs.checkpoint_path(tmp_path, 123_456_789)
    assert runs.find_checkpoint(tmp_path / "checkpoint-00000005.h5") == tmp_path / "checkpoint-00000005.h5"


def test_damaged_checkpoints_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    damage(runs.checkpoint_path(tmp_path, 20))
    damage(runs.checkpoint_path(tmp_path, 30))
    said: list[str] = []
    assert runs.find_checkpoint(tmp_path, said.append) == runs.checkpoint_path(tmp_path, 10)
    assert len(said) == 2
    assert "checkpoint-00000030.h5 is damaged" in said[0]
    assert said[0].endswith("falling back to checkpoint-00000010.h5")
    with pytest.warns(UserWarning, match="falling back"):
        runs.find_checkpoint(tmp_path)


def test_what_was_looked_for_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run folder and no checkpoint at .*missing"):
        runs.find_checkpoint(tmp_path / "missing")
    with pytest.raises(DataError, match=r"looked for files named checkpoint-<step>\.h5"):
        runs.find_checkpoint(tmp_path)
    for step in (1, 2):
        damage(save(tmp_path, step))
    with pytest.raises(
        DataError, match=r"none of the 2 checkpoints in .* can be read; the newest: .*-00000002.h5 is dam"
    ):
        runs.find_checkpoint(tmp_path)


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    kept = [save(tmp_path, step, mtime=2000 - step) for step in (8, 9, 10, 11)]  # the clock went backwards
    (tmp_path / "checkpoint-00000012.h5.part").touch()
    (tmp_path / "samples-00000008.png").touch()
    assert len(runs.prune(tmp_path, 2, kept[3])) == 3
    assert sorted(os.listdir(tmp_path)) == [kept[2].name, kept[3].name, "samples-00000008.png"]
    assert runs.prune(tmp_path, 5, kept[3]) == []
    with pytest.raises(ValueError, match="wanted at least 1"):
        runs.prune(tmp_path, 0, kept[3])


def test_prune_never_prefers_a_damaged_later_step_to_what_was_just_written(tmp_path: Path) -> None:
    save(tmp_path, 100)
    damage(save(tmp_path, 200))
    written = save(tmp_path, 150)  # resumed from 100, because 200 is damaged
    runs.prune(tmp_path, 1, written)
    assert runs.find_checkpoint(tmp_path) == written


def test_prune_in_a_readonly_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    save(tmp_path, 1)
    written = save(tmp_path, 2)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(AlikitError, match="Permission denied"):
        runs.prune(tmp_path, 1, written)


def test_rewind_sets_later_checkpoints_aside(tmp_path: Path) -> None:
    for step in (10, 20, 100_000_000):
        save(tmp_path, step)
    aside = runs.rewind(tmp_path, 10)
    assert [path.name for path in aside] == ["checkpoint-00000020.h5.old", "checkpoint-100000000.h5.old"]
    assert all(path.exists() for path in aside)
    assert runs.find_checkpoint(tmp_path) == runs.checkpoint_path(tmp_path, 10)
    assert runs.rewind(tmp_path, 10) == []


def test_write_json(tmp_path: Path) -> None:
    config = {"name": "svhn", "lr": 1e-4, "note": "σ"}
    runs.write_json(tmp_path / runs.CONFIG, config)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == config
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(tmp_path / runs.CONFIG, {"lr": float("inf")})
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == config
    assert os.listdir(tmp_path) == ["config.json"]


def test_names_that_are_not_utf_8_are_written_and_read(tmp_path: Path) -> None:
    name = os.fsdecode(b"p\xff")
    runs.write_json(tmp_path / "config.json", {"data": name})
    assert json.loads((tmp_path / "config.json").read_text()) == {"data": name}
