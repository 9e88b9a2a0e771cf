import errno
import os
from pathlib import Path

import pytest

from alikit.errors import AlikitError
from alikit.training.files import write_atomic


def test_chunks_are_joined_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"something longer than what comes")
    write_atomic(path, [b"one ", memoryview(b"two")])
    assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and whole")
    with path.open("rb") as reader:
        write_atomic(path, [b"new"])
        assert reader.read() == b"old and whole"


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"half a file that was never finished")
    write_atomic(tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_file_and_folder_are_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync = os.fsync

    def spy(handle: int) -> None:
        events.append((os.path.isdir(f"/proc/self/fd/{handle}"), (tmp_path / "file").exists()))
        fsync(handle)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("tells files from folders by /proc/self/fd, which this system lacks")
    monkeypatch.setattr(os, "fsync", spy)
    write_atomic(tmp_path / "file", [b"new"])
    assert events == [(False, False), (True, True)]  # (is a folder, the file has its name)


def test_a_disk_that_reports_late_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(AlikitError, match=r"cannot write .*file: No space left on device; free some space") as caught:
        write_atomic(tmp_path / "file", [b"new"])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_readonly_folder(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match="Permission denied; choose a folder that you may write to"):
        write_atomic(readonly_folder / "file", [b"new"])


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AlikitError, match=r"cannot write .*No such file or directory"):
        write_atomic(tmp_path / "missing" / "file", [b"new"])
