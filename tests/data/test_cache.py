"""Prepared files: whole or not at all, fresh or made again, damaged ones noticed."""

import contextlib
import hashlib
import os
import resource
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alikit.data import cache
from alikit.data.cache import Content
from alikit.data.hdf5 import whole_file
from alikit.data.reporting import Report
from alikit.errors import DataError

QUIET = Report(quiet=True)


@pytest.fixture
def content(rng):
    images = rng.integers(0, 256, (25, 6, 5, 3), np.uint8)
    labels = rng.integers(0, 10, 25).astype(np.uint8)
    return images, Content(images.shape, lambda: iter(np.split(images, [7, 20])), labels, ("a", "b"), {"f": "00ff"})


def same(prepared, images, content):
    return (
        np.array_equal(prepared.images, images)
        and np.array_equal(prepared.labels, content.labels)
        and prepared.label_names == content.label_names
        and prepared.sources == content.sources
    )


def refuse():
    raise AssertionError("read again")


def test_what_is_written_is_read(tmp_path, content):
    images, made = content
    path = tmp_path / "new" / "set.h5"
    first = cache.prepare([path], "state 1", lambda: ("state 1", made), QUIET)
    again = cache.prepare([path], "state 1", refuse, QUIET)
    assert same(first, images, made)
    assert same(again, images, made)
    assert first.checksum == again.checksum
    assert again.path == path
    assert again.images.flags.c_contiguous
    assert [p.name for p in path.parent.iterdir()] == ["set.h5"]


def test_the_checksum_is_that_of_the_bytes(tmp_path, content):
    images, made = content
    wanted = hashlib.sha256(images.tobytes() + made.labels.tobytes()).hexdigest()
    assert cache.prepare([tmp_path / "set.h5"], None, lambda: ("s", made), QUIET).checksum == wanted
    assert cache.prepare([], None, lambda: ("s", made), QUIET).checksum == wanted


def test_sets_without_labels(tmp_path, rng):
    images = rng.integers(0, 256, (4, 3, 3, 3), np.uint8)
    made = Content(images.shape, lambda: iter([images]))
    for _ in range(2):
        prepared = cache.prepare([tmp_path / "set.h5"], "s", lambda: ("s", made), QUIET)
        assert prepared.labels is None
        assert np.array_equal(prepared.images, images)


def test_another_state_of_the_sources_is_prepared_again(tmp_path, content):
    images, made = content
    path = tmp_path / "set.h5"
    cache.write(path, "state 1", made, QUIET)
    darker = Content(made.shape, lambda: iter([images // 2]), made.labels)
    again = cache.prepare([path], "state 2", lambda: ("state 2", darker), QUIET)
    assert np.array_equal(again.images, images // 2)
    assert cache.load(path, "state 1") is None


def test_without_sources_what_was_prepared_serves(tmp_path, content):
    images, made = content
    cache.write(tmp_path / "set.h5", "state 1", made, QUIET)
    assert same(cache.prepare([tmp_path / "set.h5"], None, refuse, QUIET), images, made)


def test_files_of_another_format_are_left_and_replaced(tmp_path, content):
    images, made = content
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = np.bytes_("alikit prepared images 0")
    assert cache.load(path, None) is None
    assert same(cache.prepare([path], "s", lambda: ("s", made), QUIET), images, made)


@pytest.fixture(scope="module")
def intact():
    """A prepared file's bytes and its content; module-wide, as hypothesis wants it."""
    images = np.random.default_rng(1).integers(0, 256, (9, 4, 5, 3), np.uint8)
    made = Content(images.shape, lambda: iter([images]), np.arange(9, dtype=np.uint8), ("a",), {"f": "00"})
    with tempfile.TemporaryDirectory() as folder:
        cache.write(Path(folder) / "set.h5", "state", made, QUIET)
        yield (Path(folder) / "set.h5").read_bytes(), images, made


@pytest.fixture
def check(tmp_path, intact, attempt):
    """Loads as it was written, or not at all."""
    _, images, made = intact
    path = tmp_path / "set.h5"

    def load_damaged(damaged):
        path.write_bytes(damaged)
        found = attempt(lambda: cache.load(path, "state"), path)
        assert found is None or same(found, images, made)

    return load_damaged


shared_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@shared_folder
@given(st.data())
def test_flipped_bits_are_noticed(intact, check, data):
    raw = intact[0]
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check(bytes(damaged))


@shared_folder
@given(share=st.floats(0, 1))
def test_cut_files_are_noticed(intact, check, share):
    raw = intact[0]
    check(raw[: int(share * len(raw))])


def test_a_flipped_pixel_is_mended_with_a_warning(tmp_path, content, capsys):
    images, made = content
    path = tmp_path / "set.h5"
    cache.write(path, "s", made, QUIET)
    raw = bytearray(path.read_bytes())
    raw[raw.index(images[3].tobytes())] ^= 1
    path.write_bytes(raw)
    assert same(cache.prepare([path], "s", lambda: ("s", made), QUIET), images, made)
    assert f"warning: {path}: the prepared images are damaged (its CRC-32 differs)" in capsys.readouterr().err
    assert same(cache.prepare([path], "s", refuse, QUIET), images, made)


@contextlib.contextmanager
def unprivileged():
    """Without the rights of root, for whom no folder is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_folder_makes_way_for_the_next(content, capsys):
    images, made = content
    with tempfile.TemporaryDirectory() as folder:
        locked, open_ = Path(folder) / "locked", Path(folder) / "open"
        locked.mkdir()
        open_.mkdir()
        for path, mode in ((locked, 0o555), (open_, 0o777), (Path(folder), 0o755)):
            path.chmod(mode)
        with unprivileged():
            both = cache.prepare([locked / "set.h5", open_ / "set.h5"], "s", lambda: ("s", made), Report())
            none = cache.prepare([locked / "set.h5"], "s", lambda: ("s", made), Report())
    assert same(both, images, made)
    assert both.path == open_ / "set.h5"
    assert same(none, images, made)
    assert none.path is None
    said = capsys.readouterr().err
    assert f"{locked / 'set.h5'}: prepared images cannot be kept there" in said
    assert "the next start prepares them again" in said


@contextlib.contextmanager
def full_disk(free):
    """A limit on the size of files stands for a disk with so many bytes left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_debris(tmp_path, rng):
    images = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    made = Content(images.shape, lambda: iter(np.split(images, 4)), np.arange(64, dtype=np.uint8))
    path = tmp_path / "set.h5"
    cache.write(path, "old", made, QUIET)
    old = path.read_bytes()
    with full_disk(100_000):
        prepared = cache.prepare([path], "new", lambda: ("new", made), QUIET)
    assert same(prepared, images, made)
    assert prepared.path is None
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["set.h5"]
    assert path.read_bytes() == old


@pytest.mark.parametrize("free", [0, 300, 2_000, 20_000])
def test_a_disk_that_fills_up_at_the_very_end(tmp_path, free):
    """Nobody calls `check`: the refused write must show when the file is closed."""
    with full_disk(free), pytest.raises(OSError, match="File too large"), whole_file(tmp_path / "x.h5") as (file, _):
        file["x"] = np.arange(5000)
    assert [p for p in tmp_path.iterdir() if p.is_file()] == []


def test_what_a_killed_writer_left_is_swept(tmp_path, content):
    _, made = content
    old, young = tmp_path / ".set.h5.00000000.tmp", tmp_path / ".set.h5.11111111.tmp"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    cache.write(tmp_path / "set.h5", "s", made, QUIET)
    assert not old.exists()
    assert young.exists()


def test_an_error_of_the_reader_leaves_nothing(tmp_path, content):
    images, made = content

    def blocks():
        yield images[:5]
        raise DataError("broken.jpg")

    with pytest.raises(DataError, match=r"broken\.jpg"):
        cache.prepare([tmp_path / "set.h5"], "s", lambda: ("s", Content(made.shape, blocks)), QUIET)
    assert [p for p in tmp_path.iterdir() if p.is_file()] == []


def test_a_set_larger_than_memory_is_mapped(tmp_path, content, monkeypatch):
    images, made = content
    monkeypatch.setattr(cache, "_fits_in_memory", lambda nbytes: False)
    dataset = cache.prepare([tmp_path / "set.h5"], "s", lambda: ("s", made), QUIET).as_dataset("n", "s", "here")
    assert dataset.array is None
    batch = dataset.take([24, 0, 3])
    assert type(batch) is np.ndarray
    np.testing.assert_array_equal(batch, images[[24, 0, 3]])
    np.testing.assert_array_equal(dataset.labels_of([24, 0]), made.labels[[24, 0]])


def test_half_the_memory_is_the_limit():
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert cache._fits_in_memory(memory // 2)
    assert not cache._fits_in_memory(memory // 2 + 1)
