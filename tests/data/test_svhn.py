"""SVHN's .mat files: read right, prepared once, and refused with one line when they are something else."""

import hashlib
import os
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from alikit.data import open_dataset, svhn
from alikit.errors import DataError


def open_train(folder, **options):
    return open_dataset("svhn", data=folder, download=False, **options)


@pytest.mark.parametrize("place", [".", "svhn"])
def test_images_and_digits(tmp_path, svhn_file, place):
    images, digits = svhn_file(tmp_path / place / "train_32x32.mat", count=1030)
    train = open_train(tmp_path)
    assert (train.name, train.split, len(train), train.shape) == ("svhn", "train", 1030, (32, 32, 3))
    indices = [1029, 0, 10, 517]
    np.testing.assert_array_equal(train.take(indices), images[indices])
    np.testing.assert_array_equal(train.labels_of(indices), digits[indices])
    np.testing.assert_array_equal(train.array, images)
    assert train.array.flags.c_contiguous
    assert train.source == str(tmp_path / place / "train_32x32.mat")
    assert train.checksum == hashlib.sha256(images.tobytes() + digits.tobytes()).hexdigest()
    assert train.cache == tmp_path / place / "svhn-train.h5"


def test_splits_are_different_files(tmp_path, svhn_file):
    made = {split: svhn_file(tmp_path / f"{split}_32x32.mat", 12)[0] for split in ("train", "test", "extra")}
    for split, images in made.items():
        np.testing.assert_array_equal(open_train(tmp_path, split=split).array, images)


def test_the_second_start_reads_the_prepared_file(tmp_path, svhn_file, monkeypatch):
    svhn_file(tmp_path / "train_32x32.mat")
    first = open_train(tmp_path)
    monkeypatch.setattr(svhn, "read_mat", lambda path: pytest.fail("read again"))
    monkeypatch.setattr(svhn.files, "sha256_of", lambda path: pytest.fail("hashed again"))
    again = open_train(tmp_path)
    np.testing.assert_array_equal(again.array, first.array)
    assert (again.checksum, again.published) == (first.checksum, False)
    (tmp_path / "train_32x32.mat").unlink()
    np.testing.assert_array_equal(open_train(tmp_path).array, first.array)


def test_a_changed_file_is_read_again(tmp_path, svhn_file):
    path = tmp_path / "train_32x32.mat"
    svhn_file(path)
    open_train(tmp_path)
    images, _ = svhn_file(path)
    os.utime(path, (1, 1))
    np.testing.assert_array_equal(open_train(tmp_path).array, images)


def test_a_file_that_is_not_the_published_one_is_used_with_a_warning(tmp_path, svhn_file, capsys):
    path = tmp_path / "train_32x32.mat"
    svhn_file(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for _ in range(2):  # freshly read, and from the prepared file
        assert open_train(tmp_path, quiet=True).published is False
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{path} (SHA-256 {sha256[:12]}..., published 435e94d69a87...)" in said


def test_the_published_file_is_used_without_a_word(tmp_path, svhn_file, monkeypatch, capsys):
    path = tmp_path / "train_32x32.mat"
    svhn_file(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(svhn.PUBLISHED, "train", svhn.PUBLISHED["train"]._replace(sha256=sha256))
    assert open_train(tmp_path, quiet=True).published is True
    assert capsys.readouterr().err == ""


IMAGES = np.zeros((32, 32, 3, 4), np.uint8)
LABELS = np.ones((4, 1), np.uint8)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"Z": IMAGES, "y": LABELS}, r"X is missing \(\)"),
        ({"X": IMAGES}, r"y is missing \(\)"),
        ({"X": IMAGES[:, :31], "y": LABELS}, r"X is uint8 \(32, 31, 3, 4\)"),
        ({"X": IMAGES.transpose(3, 0, 1, 2), "y": LABELS}, r"X is uint8 \(4, 32, 32, 3\)"),
        ({"X": IMAGES[..., 0], "y": LABELS}, r"X is uint8 \(32, 32, 3\)"),
        ({"X": IMAGES.astype(float), "y": LABELS}, "X is double"),
        ({"X": IMAGES[..., :0], "y": LABELS[:0]}, "X is uint8"),
        ({"X": IMAGES, "y": LABELS[:3]}, r"y is uint8 \(3, 1\).* the 4 images"),
        ({"X": IMAGES, "y": np.array(["a", "b", "c", "d"])[:, None]}, "y is "),
        ({"X": IMAGES, "y": LABELS * 0}, "labels from 0 to 0"),
        ({"X": IMAGES, "y": LABELS * 11}, "labels from 11 to 11"),
        ({"X": IMAGES, "y": np.full((4, 1), 1.5)}, r"labels from 1\.5"),
        ({"X": IMAGES, "y": np.full((4, 1), np.nan)}, "labels from nan"),
    ],
)
def test_other_contents_are_refused(tmp_path, variables, reason):
    path = tmp_path / "train_32x32.mat"
    savemat(path, variables, do_compression=True)
    with pytest.raises(DataError, match=reason) as caught:
        open_train(tmp_path)
    assert str(path) in str(caught.value)


def test_labels_as_doubles_and_in_a_row_are_taken(tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"X": IMAGES, "y": np.array([[1.0, 10.0, 9.0, 3.0]])})
    assert open_train(tmp_path).labels.tolist() == [1, 0, 9, 3]


def test_doubled_variables_are_refused(tmp_path):
    parts = []
    for name, value in (("X", IMAGES), ("X", IMAGES + 1), ("y", LABELS)):
        savemat(tmp_path / "part.mat", {name: value})
        parts.append((tmp_path / "part.mat").read_bytes())
    (tmp_path / "train_32x32.mat").write_bytes(parts[0] + parts[1][128:] + parts[2][128:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user runs it; the tests turn every warning into an error
        with pytest.raises(DataError, match='Duplicate variable name "X"'):
            open_train(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello, this is not MATLAB at all\n" * 40, "is not an SVHN file in MATLAB 5 format, or damaged"),
        (b"<!DOCTYPE html><html><title>Quota exceeded</title></html>", "is a web page"),
        (b"\0" * 4096, "is not an SVHN file"),
    ],
)
def test_foreign_files_are_refused(tmp_path, content, reason):
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        open_train(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "delete it to have it downloaded again" in str(caught.value)
    assert not (tmp_path / "svhn-train.h5").exists()


def test_matlabs_newer_format_is_refused(tmp_path):
    with h5py.File(tmp_path / "train_32x32.mat", "w", userblock_size=512) as file:
        file["X"] = IMAGES
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with open(tmp_path / "train_32x32.mat", "r+b") as file:
        file.write(head)
    with pytest.raises(DataError, match="is not an SVHN file in MATLAB 5 format"):
        open_train(tmp_path)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "train_32x32.mat").mkdir()
    with pytest.raises(DataError, match=r"train_32x32\.mat"):
        open_train(tmp_path)


@pytest.fixture
def intact(tmp_path, svhn_file):
    path = tmp_path / "train_32x32.mat"
    svhn_file(path, 5)
    return path.read_bytes()


@pytest.fixture
def check(tmp_path, intact, attempt):
    """Read as it was written, or not at all; never with a warning of SciPy's."""
    path = tmp_path / "train_32x32.mat"
    images, digits = svhn.read_mat(path)

    def read_damaged(damaged):
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = attempt(lambda: svhn.read_mat(path), path)
        assert found is None or (np.array_equal(found[0], images) and np.array_equal(found[1], digits))

    return read_damaged


shared_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@shared_folder
@given(st.data())
def test_flipped_bits_are_noticed(intact, check, data):
    damaged = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 3))):
        near = data.draw(st.sampled_from([len(intact) - 1, 400]))  # half of the flips among the headers
        damaged[data.draw(st.integers(0, near))] ^= 1 << data.draw(st.integers(0, 7))
    check(bytes(damaged))


@shared_folder
@given(share=st.floats(0, 1, exclude_max=True))
def test_cut_files_are_noticed(intact, check, share):
    check(intact[: int(share * len(intact))])
