"""Links in folders of pictures: what has several names is there once."""

import pytest
from PIL import Image

from alikit.data import open_dataset
from alikit.data.pictures import list_pictures, one_name_each
from alikit.errors import DataError


@pytest.fixture
def two_folders(tmp_path):
    """`b/one.png` and `c/two.png`: their root."""
    root = tmp_path / "two"
    for folder, name in (("b", "one.png"), ("c", "two.png")):
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (5, 5)).save(root / folder / name)
    return root


def opened(folder, split):
    return open_dataset("folder", data=folder, split=split, size=8, quiet=True)


def test_a_folder_linked_from_beside_it_gives_its_pictures_once(two_folders):
    """Under its own name, wherever that is: the same picture must not be trained on and held out."""
    (two_folders / "a").symlink_to("b")
    (two_folders / "d").symlink_to("c")
    (two_folders / "a0").mkdir()
    (two_folders / "a0" / "c").symlink_to(two_folders / "c")
    assert list_pictures(two_folders) == ["b/one.png", "c/two.png"]


def test_folders_linked_to_each_other(two_folders):
    for folder in "bc":
        for link, target in (("x", "b"), ("y", "c"), ("z", "elsewhere")):
            (two_folders / folder / link).symlink_to(two_folders / target)
    elsewhere = two_folders / "elsewhere"
    elsewhere.symlink_to(two_folders.parent / "outside")
    (two_folders.parent / "outside").mkdir()
    (two_folders.parent / "outside" / "three.png").write_bytes((two_folders / "b" / "one.png").read_bytes())
    (two_folders.parent / "outside" / "back").symlink_to(two_folders / "b")
    assert list_pictures(two_folders) == ["b/one.png", "b/z/three.png", "c/two.png"]


def test_a_picture_linked_from_beside_it_is_one_picture(two_folders):
    """Under its own name, else that of the first link to it: it must not be trained on and held out."""
    outside, hidden = two_folders.parent / "three.png", two_folders / "c" / ".four.png"
    for path, colour in ((outside, "red"), (hidden, "blue")):
        Image.new("RGB", (5, 5), colour).save(path)
    links = {"a1": "b/one.png", "a2": "c/two.png", "b/x": outside, "c/x": outside, "c/y": hidden, "d": hidden}
    for link, target in links.items():
        (two_folders / f"{link}.png").symlink_to(two_folders / target)
    kept = ["b/one.png", "b/x.png", "c/two.png", "c/y.png"]
    assert one_name_each(two_folders, list_pictures(two_folders)) == kept
    found = [opened(two_folders, split) for split in ("train", "valid")]
    assert [len(dataset) for dataset in found] == [3, 1]
    assert found[0].source.endswith("(3 of 4 pictures)")


def test_copies_are_pictures_of_their_own(two_folders):
    """However they were made: nobody but their owner can tell what they are for."""
    (two_folders / "hard.png").hardlink_to(two_folders / "b" / "one.png")
    (two_folders / "link.png").symlink_to("hard.png")
    assert one_name_each(two_folders, list_pictures(two_folders)) == ["b/one.png", "c/two.png", "hard.png"]


def test_an_owner_may_split_by_links(two_folders):
    """What lies beside `train` and `val` is no part of the set."""
    Image.new("RGB", (5, 5)).save(two_folders / "c" / "three.png")
    for folder, name in (("train", "b/one.png"), ("val", "c/two.png")):
        (two_folders / folder).mkdir()
        (two_folders / folder / "linked.png").symlink_to(two_folders / name)
    assert [len(opened(two_folders, split)) for split in ("train", "valid")] == [1, 1]


def test_a_link_to_nothing_is_named(two_folders):
    (two_folders / "gone.png").symlink_to("nothing.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file or directory\)"):
        opened(two_folders, "train")
