"""Folders of pictures: every mode and orientation, the share held out, and pictures that cannot be read."""

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from alikit.data import cache, files, open_dataset
from alikit.data.folders import split_names
from alikit.data.pictures import decode, decode_blocks, fit_square, list_pictures, to_rgb
from alikit.data.reporting import Report
from alikit.errors import DataError

RAMP = np.linspace(0, 255, 16).astype(np.uint8) * np.ones((16, 1), np.uint8)


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def as_square(data, size=8):
    return decode(data, lambda image: fit_square(image, size))


@pytest.fixture
def pictures(tmp_path, rng):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for i in range(30):
        name = f"more/{i}.JPG" if i % 3 == 0 else f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (9 + i, 20, 3), np.uint8)).save(folder / name)
    for name in ("notes.txt", ".hidden.png", "more/._0.JPG"):
        (folder / name).write_text("not a picture")
    return folder


def open_split(folder, split="train", size=8, name="folder"):
    return open_dataset(name, data=folder, split=split, size=size, quiet=True)


def test_every_picture_is_in_one_split(pictures):
    train, valid = open_split(pictures), open_split(pictures, "valid")
    assert (len(train), len(valid), train.shape) == (29, 1, (8, 8, 3))
    assert train.labels is None
    assert train.labels_of([0]) is None
    found = {image.tobytes() for dataset in (train, valid) for image in dataset.array}
    assert len(found) == 30
    some = np.asarray(fit_square(Image.open(pictures / "1.png"), 8))
    assert some.tobytes() in found


def test_the_users_folder_stays_as_it_is(pictures, private_cache):
    before = sorted(pictures.rglob("*"))
    assert open_split(pictures).cache.is_relative_to(private_cache)
    assert sorted(pictures.rglob("*")) == before


def test_prepared_once_per_size_and_again_after_a_change(pictures, monkeypatch):
    first = open_split(pictures)
    assert open_split(pictures, size=12).shape == (12, 12, 3)
    assert len(open_split(pictures, "valid")) == 1
    with monkeypatch.context() as patch:
        patch.setattr("alikit.data.folders._blocks", lambda *args: pytest.fail("read again"))
        assert open_split(pictures).checksum == first.checksum
    Image.new("RGB", (9, 9), "red").save(pictures / "1.png")
    assert open_split(pictures).checksum != first.checksum


@pytest.mark.parametrize(("suffix", "anew"), [("tiff", True), ("png", False)])
def test_prepared_by_a_version_that_made_deep_grey_black(tmp_path, suffix, anew):
    root, names = tmp_path / "grey", [f"{i}.{suffix}" for i in range(2)]
    root.mkdir()
    for name in names:
        Image.fromarray(RAMP / np.float32(255) if anew else RAMP).save(root / name)
    (name,) = split_names(names, "train")
    stamp = files.stamp([], listing=files.listing_stamp(root, [name]), split="train", size="16")
    black = cache.Content((1, 16, 16, 3), lambda: iter([np.zeros((1, 16, 16, 3), np.uint8)]))
    cache.write(files.private_cache_path(root, "folder-train-16"), stamp, black, Report(quiet=True))
    found = open_split(root, size=16).take([0])[0]
    np.testing.assert_array_equal(found, RAMP[..., None].repeat(3, 2) if anew else 0)


def test_the_share_held_out():
    names = [f"{i}.png" for i in range(1000)]
    train, valid = split_names(names, "train"), split_names(names, "valid")
    assert len(valid) == 50
    assert sorted(train + valid) == sorted(names)
    assert split_names(names[::-1], "valid") == valid[::-1]
    more = split_names([*names, "new.png"], "valid")
    assert len(set(more) ^ set(valid)) <= 2
    assert split_names(["a", "b"], "train") + split_names(["a", "b"], "valid") in (["a", "b"], ["b", "a"])


@pytest.mark.parametrize("held_out", ["val", "valid"])
def test_a_folder_split_by_its_owner(held_out):
    names = ["train/a/1.png", "train/2.png", f"{held_out}/3.png", "test/4.png"]
    assert split_names(names, "train") == names[:2]
    assert split_names(names, "valid") == names[2:3]


def test_tiny_imagenet_is_such_a_folder(tmp_path, pictures):
    pictures.rename(tmp_path / "tiny-imagenet")
    for data in (tmp_path, tmp_path / "tiny-imagenet"):
        dataset = open_split(data, size=None, name="tiny-imagenet")
        assert (dataset.name, dataset.shape, len(dataset)) == ("tiny-imagenet", (64, 64, 3), 29)


def test_tiny_imagenet_never_takes_other_sets(tmp_path, pictures, monkeypatch):
    """In the common data folder lie the pictures of CelebA too."""
    monkeypatch.setenv("ALIKIT_DATA", str(pictures))
    with pytest.raises(DataError, match=r"tiny-imagenet is missing.*image-net\.org"):
        open_split(None, size=64, name="tiny-imagenet")


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(form):
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(as_square(encoded(deep, form), 16), RAMP[..., None].repeat(3, 2))


@pytest.mark.parametrize("values", [RAMP / np.float32(255), RAMP.astype(np.int32) * 257])
def test_floating_point_and_32_bit_grey_are_scaled(values):
    deep = Image.fromarray(values)
    np.testing.assert_array_equal(as_square(encoded(deep, "TIFF"), 16), RAMP[..., None].repeat(3, 2))
    assert (as_square(encoded(Image.fromarray(values * 0), "TIFF"), 16) == 0).all()


@pytest.mark.parametrize(
    ("values", "range_of_them"),
    [
        (RAMP.astype(np.float32), r"floating-point values lie in \[0, 255\]; wanted are \[0, 1\]"),
        (RAMP - np.float32(1), r"floating-point values lie in \[-1, 254\]"),
        (RAMP + np.float32("nan"), r"floating-point values lie in \[nan, nan\]"),
        (RAMP.astype(np.int32), r"32-bit values lie in \[0, 255\]; wanted are 16 bits"),
        (RAMP.astype(np.int32) * 2**20, "32-bit values lie in"),
        (-RAMP.astype(np.int32) * 257, "32-bit values lie in"),
    ],
)
def test_values_of_an_unknown_scale_are_refused(values, range_of_them):
    with pytest.raises(ValueError, match=range_of_them):
        as_square(encoded(Image.fromarray(values), "TIFF"), 16)


def test_grey_pictures():
    np.testing.assert_array_equal(as_square(encoded(Image.fromarray(RAMP)), 16), RAMP[..., None].repeat(3, 2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode):
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = (90, 90, 90, 255)
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.fromarray((rgba[..., 3] > 0).astype(np.uint8), "L").convert("P")
        image.putpalette([0, 0, 0, 90, 90, 90])
        data = encoded(image, transparency=0)
    else:
        data = encoded(image.convert(mode))
    found = as_square(data, 16)
    assert (found[0, 0] == 255).all()
    assert (found[8, 8] == 90).all()


def test_half_transparent_pixels_are_mixed():
    found = as_square(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))), 4)
    assert abs(found.astype(int) - 127).max() <= 1


def test_cmyk_pictures():
    found = as_square(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(found.astype(int) - (255, 0, 0)).max() < 12


def test_pictures_are_turned_upright():
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be rotated by 90 degrees clockwise
    lying = Image.fromarray(np.rot90(upright).copy())
    found = as_square(encoded(lying, "JPEG", quality=95, exif=exif), 16)
    assert np.abs(found.astype(int) - upright).max() < 12


def test_the_middle_is_cut_out():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (as_square(encoded(Image.fromarray(wide)), 10) == 255).all()
    assert (as_square(encoded(Image.fromarray(wide.transpose(1, 0, 2))), 10) == 255).all()


def test_small_pictures_are_enlarged():
    assert (as_square(encoded(Image.new("RGB", (1, 3), (1, 2, 3))), 64) == (1, 2, 3)).all()


def test_large_jpegs_lose_nothing_by_the_shortcut(rng):
    """Decoding at a fraction of the size must look like decoding in full: within 2 grey levels on average."""
    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
    data = encoded(coarse.resize((1536, 1536), Image.Resampling.BICUBIC), "JPEG", quality=95)
    full = to_rgb(Image.open(io.BytesIO(data))).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(as_square(data, 64).astype(int) - np.asarray(full)).mean() < 2


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", encoded(Image.new("RGB", (50, 50)))[:60]])
def test_an_undecodable_picture_is_named(pictures, content, private_cache):
    (pictures / "more" / "33.png").write_bytes(content)
    assert "more/33.png" in split_names(list_pictures(pictures), "train")
    with pytest.raises(DataError, match=r"pictures: the picture more/33\.png cannot be decoded \(.+\)"):
        open_split(pictures)
    assert not list(private_cache.rglob(".*"))


def test_a_picture_that_claims_to_be_huge_is_refused(pictures):
    raw = bytearray(encoded(Image.new("RGB", (8, 8))))
    raw[16:24] = struct.pack(">II", 60_000, 60_000)
    (pictures / "bomb.png").write_bytes(raw)
    with pytest.raises(DataError, match=r"bomb\.png cannot be decoded"):
        open_split(pictures)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_hostile_bytes_never_escape(attempt, data):
    """Whatever the decoder meets: an array of the right form, or one line that names the picture."""
    image = Image.fromarray(RAMP).convert(data.draw(st.sampled_from(["L", "RGB"])))
    raw = bytearray(encoded(image, data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    blocks = decode_blocks(["bad"], lambda name: bytes(raw), lambda image: fit_square(image, 8), "here")
    found = attempt(lambda: next(blocks), "here: the picture bad")
    assert found is None or (found.shape, found.dtype) == ((1, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(("count", "holds"), [(0, "0 pictures"), (1, "1 picture")])
def test_too_few_pictures(tmp_path, count, holds):
    for i in range(count):
        Image.new("RGB", (5, 5)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=f"holds {holds}, none of them for train: at least two"):
        open_split(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        open_split(tmp_path / "nowhere")


def test_linked_folders_are_followed_and_loops_are_not(pictures, tmp_path):
    root = tmp_path / "links"
    (root / "inner").mkdir(parents=True)
    (root / "linked").symlink_to(pictures)
    (root / "up").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "inner" / "up").symlink_to(root)
    assert list_pictures(root) == sorted(f"linked/{name}" for name in list_pictures(pictures))


def test_a_folder_that_cannot_be_read_is_not_passed_over(pictures, monkeypatch):
    import os

    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("more"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"more: cannot be read \(Permission denied\)"):
        list_pictures(pictures)
