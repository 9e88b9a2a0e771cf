"""CIFAR-10's binary version, from the folder and straight from the archive; the archive's traps."""

import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alikit.data import cifar10, open_dataset
from alikit.errors import DataError

INSIDE = "cifar-10-batches-bin"


def open_split(folder, split="train"):
    return open_dataset("cifar10", data=folder, split=split, download=False, quiet=True)


def as_folder(root, members):
    (root / INSIDE).mkdir(parents=True)
    for name, content in members.items():
        (root / INSIDE / name).write_bytes(content)
    return root / INSIDE


def as_members(members):
    return {f"{INSIDE}/{name}": content for name, content in members.items()}


@pytest.mark.parametrize(
    ("split", "rows"), [("train", slice(0, 90)), ("valid", slice(90, 100)), ("test", slice(100, 120))]
)
def test_splits(tmp_path, cifar_files, tar_of, split, rows):
    """ALI's split: the last tenth of the 50,000 is held out. Folder and archive give the same."""
    members, images, labels = cifar_files
    as_folder(tmp_path / "a", members)
    (tmp_path / "b").mkdir()
    tar_of(tmp_path / "b" / "cifar-10-binary.tar.gz", as_members(members))
    loaded = [open_split(tmp_path / place, split) for place in "ab"]
    for dataset in loaded:
        np.testing.assert_array_equal(dataset.array, images[rows])
        np.testing.assert_array_equal(dataset.labels, labels[rows])
        assert dataset.label_names[3] == "cat"
    assert loaded[0].checksum == loaded[1].checksum
    assert [dataset.published for dataset in loaded] == [None, False]
    np.testing.assert_array_equal(open_split(tmp_path / "b", split).array, images[rows])  # now from the prepared file


def test_the_published_sizes():
    assert cifar10._RECORD * cifar10._RECORDS == 30_730_000


def test_a_changed_file_is_read_again(tmp_path, cifar_files):
    members, images, _ = cifar_files
    folder = as_folder(tmp_path, members)
    open_split(tmp_path, "test")
    (folder / "test_batch.bin").write_bytes(members["data_batch_2.bin"])
    np.testing.assert_array_equal(open_split(tmp_path, "test").array, images[20:40])


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"x", lambda raw: b"hello"]
)
def test_files_of_another_size_are_refused(tmp_path, cifar_files, change):
    members, _, _ = cifar_files
    members["data_batch_4.bin"] = change(members["data_batch_4.bin"])
    as_folder(tmp_path, members)
    with pytest.raises(DataError, match=r"data_batch_4\.bin has [\d,]+ bytes instead of 61,460"):
        open_split(tmp_path)


def test_labels_above_nine_are_refused(tmp_path, cifar_files):
    members, _, _ = cifar_files
    members["data_batch_1.bin"] = b"\x0a" + members["data_batch_1.bin"][1:]
    as_folder(tmp_path, members)
    with pytest.raises(DataError, match=r"data_batch_1\.bin has the label 10"):
        open_split(tmp_path)


def test_a_missing_file_is_named(tmp_path, cifar_files):
    members, _, _ = cifar_files
    del members["data_batch_3.bin"]
    as_folder(tmp_path, members)
    with pytest.raises(DataError, match=r"data_batch_3\.bin: cannot be read \(No such file"):
        open_split(tmp_path)


@pytest.mark.parametrize("name", ["../evil.bin", "/etc/evil", f"{INSIDE}/../../evil", "..\\evil", "C:\\evil"])
def test_members_that_leave_the_folder_are_refused(tmp_path, cifar_files, tar_of, name):
    members, _, _ = cifar_files
    tar_of(tmp_path / "cifar-10-binary.tar.gz", {**as_members(members), name: b"x"})
    with pytest.raises(DataError, match="points outside") as caught:
        open_split(tmp_path)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, cifar_files, tar_of, kind):
    members, _, _ = cifar_files
    info = tarfile.TarInfo(f"{INSIDE}/trap")
    info.type, info.linkname = kind, "/etc/passwd"
    tar_of(tmp_path / "cifar-10-binary.tar.gz", as_members(members), [info])
    with pytest.raises(DataError, match="trap' is a link or a device"):
        open_split(tmp_path)


def test_archives_without_the_files_are_refused(tmp_path, cifar_files, tar_of):
    members, _, _ = cifar_files
    wrong = {f"{INSIDE}/data_batch_{i}.bin": members["data_batch_1.bin"] for i in (1, 2, 4)}
    tar_of(tmp_path / "cifar-10-binary.tar.gz", wrong)
    with pytest.raises(DataError, match=r"lacks data_batch_3\.bin, data_batch_5\.bin"):
        open_split(tmp_path)
    tar_of(tmp_path / "cifar-10-binary.tar.gz", {**wrong, f"{INSIDE}/data_batch_3.bin": b"short"})
    with pytest.raises(DataError, match=r"data_batch_3\.bin' has 5 bytes instead of 61,460"):
        open_split(tmp_path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_archives_are_noticed(tmp_path, cifar_files, tar_of, attempt, data):
    members, _, _ = cifar_files
    path = tmp_path / "cifar-10-binary.tar.gz"
    members["test_batch.bin"] = bytes(
        i * i % 9 for i in range(len(members["test_batch.bin"]))
    )  # well compressed, as images are not
    tar_of(path, as_members({"test_batch.bin": members["test_batch.bin"]}))
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    found = attempt(lambda: cifar10._read_archive(path, "test"), path)
    assert found is None or found[0] == {"test_batch.bin": members["test_batch.bin"]}
