"""CelebA from a folder and from the zip: the crop, the partition, the attributes, and what may be wrong with them."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from alikit.data import open_dataset
from alikit.data.archives import open_zip
from alikit.errors import DataError


def open_split(folder, split="train"):
    return open_dataset("celeba", data=folder, split=split, download=False, quiet=True)


def lay_out(root, celeba_files, zipped, prefix="img_align_celeba/"):
    faces, attributes, partition = celeba_files
    root.mkdir(parents=True, exist_ok=True)
    (root / "list_attr_celeba.txt").write_text(attributes)
    (root / "list_eval_partition.txt").write_text(partition)
    if zipped:
        with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
            for name, content in faces.items():
                archive.writestr(prefix + name, content)
    else:
        (root / "img_align_celeba").mkdir()
        for name, content in faces.items():
            (root / "img_align_celeba" / name).write_bytes(content)
    return root


@pytest.fixture(params=[False, True], ids=["folder", "zip"])
def place(request, tmp_path, celeba_files):
    return lay_out(tmp_path / "celeba", celeba_files, request.param)


@pytest.mark.parametrize(("split", "rows"), [("train", range(5)), ("valid", range(5, 7)), ("test", range(7, 9))])
def test_splits_crop_and_attributes(place, celeba_files, split, rows):
    faces, attributes, _ = celeba_files
    dataset = open_split(place, split)
    assert (len(dataset), dataset.shape) == (len(rows), (64, 64, 3))
    lines = attributes.splitlines()
    assert dataset.label_names == tuple(lines[1].split())
    for i, row in enumerate(rows):
        name, *values = lines[2 + row].split()
        assert dataset.labels[i].tolist() == [(int(v) + 1) // 2 for v in values]
        scaled = Image.open(io.BytesIO(faces[name])).resize((64, 78), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(dataset.take([i])[0], np.asarray(scaled)[7:71])


def test_folder_and_zip_have_the_same_content(tmp_path, celeba_files):
    sets = [open_split(lay_out(tmp_path / name, celeba_files, zipped)) for name, zipped in (("a", False), ("b", True))]
    assert sets[0].checksum == sets[1].checksum


def test_data_in_the_sets_own_subfolder(tmp_path, celeba_files):
    lay_out(tmp_path / "celeba", celeba_files, zipped=False)
    assert open_split(tmp_path).cache == tmp_path / "celeba" / "celeba-train.h5"


def test_prepared_once_and_again_after_a_change(tmp_path, celeba_files, monkeypatch):
    root = lay_out(tmp_path, celeba_files, zipped=False)
    before = open_split(root)
    with monkeypatch.context() as patch:
        patch.setattr("alikit.data.celeba._read", lambda *args: pytest.fail("read again"))
        assert open_split(root).checksum == before.checksum
    (root / "img_align_celeba" / "000001.jpg").write_bytes(celeba_files[0]["000009.jpg"] + b"\0")
    assert open_split(root).checksum != before.checksum


def test_a_missing_image_is_named(tmp_path, celeba_files):
    del celeba_files[0]["000004.jpg"], celeba_files[0]["000005.jpg"]
    for zipped in (False, True):
        root = lay_out(tmp_path / str(zipped), celeba_files, zipped)
        with pytest.raises(DataError, match=r"lacks 2 images of list_eval_partition\.txt, first 000004\.jpg"):
            open_split(root)


def test_an_undecodable_image_is_named(tmp_path, celeba_files):
    faces = celeba_files[0]
    faces["000003.jpg"] = faces["000003.jpg"][:600]
    for zipped in (False, True):
        root = lay_out(tmp_path / str(zipped), celeba_files, zipped)
        with pytest.raises(DataError, match=r"img_align_celeba.*000003\.jpg cannot be decoded"):
            open_split(root)
        assert not list(root.glob("*.h5"))


def test_a_flipped_bit_in_the_zip_is_noticed(tmp_path, celeba_files):
    root = lay_out(tmp_path, celeba_files, zipped=True)
    raw = bytearray((root / "img_align_celeba.zip").read_bytes())
    raw[raw.index(celeba_files[0]["000002.jpg"]) + 900] ^= 4
    (root / "img_align_celeba.zip").write_bytes(raw)
    with pytest.raises(DataError, match=r"000002\.jpg cannot be decoded \(Bad CRC-32"):
        open_split(root)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_zips_are_noticed(tmp_path, celeba_files, attempt, data):
    faces = celeba_files[0]
    path = tmp_path / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in list(faces)[:2]:
            archive.writestr(name, name * 3)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))])
    archive = attempt(lambda: open_zip(path), path)
    if archive is not None:
        archive.close()


def test_zips_of_a_later_version_are_refused(tmp_path):
    path = tmp_path / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("000001.jpg", "x")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 99  # the version needed to read the member
    path.write_bytes(raw)
    with pytest.raises(DataError, match="not a zip archive, or damaged"):
        open_zip(path)


@pytest.mark.parametrize("prefix", ["../", "/", "x/../../", "..\\"])
def test_zips_that_leave_the_folder_are_refused(tmp_path, celeba_files, prefix):
    root = lay_out(tmp_path, celeba_files, zipped=True, prefix=prefix)
    with pytest.raises(DataError, match=r"refused, its member .*000001\.jpg' points outside"):
        open_split(root)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>quota</html>", "Google Drive"),
        (b"PK\x03\x04 nothing", "not a zip archive, or damaged"),
    ],
)
def test_something_else_in_the_zips_place(tmp_path, celeba_files, content, reason):
    root = lay_out(tmp_path, celeba_files, zipped=True)
    (root / "img_align_celeba.zip").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        open_split(root)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("list_eval_partition.txt", lambda text: "", "is empty"),
        ("list_eval_partition.txt", lambda text: "\n\n", "is not CelebA's partition list"),
        ("list_eval_partition.txt", lambda text: text.replace("3.jpg 0", "3.jpg 3"), "line 3 is not"),
        ("list_eval_partition.txt", lambda text: text.replace(" 1", ""), "line 6 is not"),
        ("list_eval_partition.txt", lambda text: text.replace("0\n", "1\n"), "no image of the split train"),
        ("list_eval_partition.txt", lambda text: "<html>quota</html>", "is a web page"),
        ("list_attr_celeba.txt", lambda text: "", "is empty"),
        ("list_attr_celeba.txt", lambda text: text[: len(text) // 2], "its first line"),
        ("list_attr_celeba.txt", lambda text: text.replace("3.jpg", "3.jpg 1"), "line 5 is not"),
        ("list_attr_celeba.txt", lambda text: text.replace("-1", "-2"), "with 40 values of 1 or -1"),
        ("list_attr_celeba.txt", lambda text: text.replace("000002.jpg", "000022.jpg"), r"lacks 1 .* 000002\.jpg"),
        ("list_attr_celeba.txt", lambda text: "Ä" + text, "is not CelebA's attribute list"),
        ("list_attr_celeba.txt", lambda text: "9\n", "its first line"),
    ],
)
def test_damaged_lists_are_refused(tmp_path, celeba_files, file, change, reason):
    root = lay_out(tmp_path, celeba_files, zipped=False)
    (root / file).write_text(change((root / file).read_text()), "utf-8")
    with pytest.raises(DataError, match=reason) as caught:
        open_split(root)
    assert file in str(caught.value)
