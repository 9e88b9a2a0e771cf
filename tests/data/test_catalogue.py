"""The one door: names, splits, sizes, data folders; and how little its import costs."""

import subprocess
import sys

import numpy as np
import pytest

from alikit.data import SPLITS, TERMS, Dataset, held_out_split, open_dataset
from alikit.errors import UsageError


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("mnist", {}, "no data set 'mnist': choose from svhn, cifar10"),
        ("svhn", {"split": "valid"}, "svhn has no split 'valid': choose from train, test, extra"),
        ("cifar10", {"split": "extra"}, "choose from train, valid, test"),
        ("cifar10", {"size": 64}, "cifar10 are 32x32"),
        ("tiny-imagenet", {"size": 32}, "tiny-imagenet are 64x64"),
        ("folder", {"size": 0, "data": "."}, "from 1 to 1024"),
        ("folder", {"size": 2000, "data": "."}, "from 1 to 1024"),
        ("folder", {}, "--data DIR"),
        ("mixture", {"size": 32}, "points"),
        ("mixture", {"data": "."}, "reads no files"),
        ("mixture", {"seed": -1}, "--seed"),
        ("celeba", {"data": "synthetic"}, "goes with svhn"),
        ("svhn", {"data": __file__}, "is not a folder"),
    ],
)
def test_options_that_do_not_fit(name, options, reason):
    with pytest.raises(UsageError, match=reason):
        open_dataset(name, **options)


def test_every_set_has_terms_and_a_held_out_split():
    for name, splits in SPLITS.items():
        assert TERMS[name]
        for split in splits:
            assert held_out_split(name, split) in splits
            assert held_out_split(name, split) != split


def test_the_papers_held_out_splits():
    assert held_out_split("svhn", "train") == "test"
    assert held_out_split("svhn", "extra") == "train"
    assert {held_out_split(name, "train") for name in SPLITS if name != "svhn"} == {"valid"}


def test_where_data_is_looked_for(tmp_path, svhn_file, private_cache, monkeypatch):
    in_cache, _ = svhn_file(private_cache / "svhn" / "train_32x32.mat")
    in_variable, _ = svhn_file(tmp_path / "variable" / "train_32x32.mat")
    in_option, _ = svhn_file(tmp_path / "option" / "svhn" / "train_32x32.mat")
    np.testing.assert_array_equal(open_dataset("svhn").array, in_cache)
    monkeypatch.setenv("ALIKIT_DATA", str(tmp_path / "variable"))
    np.testing.assert_array_equal(open_dataset("svhn").array, in_variable)
    np.testing.assert_array_equal(open_dataset("svhn", data=tmp_path / "option").array, in_option)
    monkeypatch.setenv("ALIKIT_DATA", "")
    np.testing.assert_array_equal(open_dataset("svhn").array, in_cache)


def test_the_variable_names_a_folder(monkeypatch):
    for value, reason in (
        ("synthetic", "names a folder .*--data synthetic draws"),
        (__file__, "^ALIKIT_DATA: .* not a"),
    ):
        monkeypatch.setenv("ALIKIT_DATA", value)
        with pytest.raises(UsageError, match=reason):
            open_dataset("svhn", download=False)
    assert open_dataset("svhn", data="synthetic").source.startswith("drawn")


def test_batches_by_index(rng):
    images = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
    dataset = Dataset(
        name="n", split="s", source="here", checksum="", images=images, labels=np.arange(5, dtype=np.uint8)
    )
    batch = dataset.take(np.array([4, 4, 0]))
    np.testing.assert_array_equal(batch, images[[4, 4, 0]])
    batch[:] = 0
    assert images[4].any()
    assert dataset.array is images
    assert dataset.labels_of([3]).tolist() == [3]
    assert dataset.take([]).shape == (0, 4, 4, 3)
    assert repr(dataset) == "<n s: 5 of (4, 4, 3), from here>"
    for odd in ([0.5], [True, False, False, True, True], ["1"]):
        with pytest.raises(TypeError, match=r"n s: indices are .*, wanted integers"):
            dataset.take(odd)
        with pytest.raises(TypeError, match="wanted integers"):
            dataset.labels_of(odd)
    for index in (-1, 5):
        with pytest.raises(IndexError, match=r"outside 0\.\.4"):
            dataset.take([0, index])
        with pytest.raises(IndexError, match=r"outside 0\.\.4"):
            dataset.labels_of([index])


def test_the_import_is_light():
    heavy = "scipy PIL h5py pooch requests tqdm imageio cupy torch alikit.autograd alikit.kernels"
    code = f"import sys, alikit.data; print([m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
