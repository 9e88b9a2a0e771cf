import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alikit.errors import AlikitError, DataError
from alikit.training import checkpoint

RNG = np.random.default_rng(7)
ARRAYS = {
    "encoder/conv1/weight": RNG.standard_normal((3, 5, 5, 2)).astype(np.float32),
    "encoder/conv1/gamma": RNG.standard_normal(3),
    "adam/step": np.array(12345678901, np.int64),
    "order": RNG.permutation(40).astype(np.uint32),
}
META = {"step": 1200, "config": {"lr": 1e-4, "name": "svhn", "widths": [32, 64]}, "note": "z~, σ"}


def same(loaded: dict[str, np.ndarray], saved: dict[str, np.ndarray]) -> bool:
    return loaded.keys() == saved.keys() and all(
        loaded[name].dtype == saved[name].dtype
        and loaded[name].shape == saved[name].shape
        and loaded[name].tobytes() == saved[name].tobytes()
        for name in saved
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "checkpoint.h5"
    checkpoint.save(path, ARRAYS, META)
    return path.read_bytes()


def resealed(body: bytes, version: int = 1) -> bytes:
    """A file with a header that fits its body."""
    lines = f"alikit checkpoint {version}\nbytes {len(body)}\nsha256 {hashlib.sha256(body).hexdigest()}\n"
    return lines.encode().ljust(512, b"\0") + body


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.h5", ARRAYS, META)
    arrays, meta = checkpoint.load(tmp_path / "c.h5")
    assert same(arrays, ARRAYS)
    assert meta == META
    assert os.listdir(tmp_path) == ["c.h5"]


DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">f4", ">i8", ">c16"]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (3, 2)])
def test_every_dtype_and_shape_comes_back_exactly(tmp_path: Path, shape: tuple[int, ...]) -> None:
    arrays = {f"{n}/x": np.asarray(100 * RNG.standard_normal(shape)).astype(dtype) for n, dtype in enumerate(DTYPES)}
    arrays["nan/x"] = np.full(shape, np.nan, np.float32)
    checkpoint.save(tmp_path / "c.h5", arrays, {})
    assert same(checkpoint.load(tmp_path / "c.h5")[0], arrays)


def test_arrays_that_are_not_contiguous_come_back_by_value(tmp_path: Path) -> None:
    base = RNG.standard_normal((4, 6))
    arrays = {"transposed": base.T, "strided": base[::2, ::-1], "broadcast": np.broadcast_to(base[0], (3, 6))}
    checkpoint.save(tmp_path / "c.h5", arrays, {})
    assert same(checkpoint.load(tmp_path / "c.h5")[0], {name: array.copy("C") for name, array in arrays.items()})


def test_equal_contents_give_equal_bytes(tmp_path: Path, good: bytes) -> None:
    checkpoint.save(tmp_path / "c.h5", dict(reversed(ARRAYS.items())), dict(reversed(META.items())))
    assert (tmp_path / "c.h5").read_bytes() == good


def test_any_hdf5_tool_opens_it_and_the_header_is_readable(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "c.h5").write_bytes(good)
    with h5py.File(tmp_path / "c.h5", "r") as file:
        assert sorted(file["encoder/conv1"]) == ["gamma", "weight"]
    first, second, third = good.splitlines()[:3]
    assert first == b"alikit checkpoint 1"
    assert second == b"bytes %d" % (len(good) - 512)
    assert third == b"sha256 " + hashlib.sha256(good[512:]).hexdigest().encode()


def test_a_meta_object_larger_than_an_hdf5_header(tmp_path: Path) -> None:
    meta = {"log": "x" * 200_000}
    checkpoint.save(tmp_path / "c.h5", {}, meta)
    assert checkpoint.load(tmp_path / "c.h5") == ({}, meta)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "a/./b", "a\0b"])
def test_names_that_hdf5_would_change_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="array name"):
        checkpoint.save(tmp_path / "c.h5", {name: np.zeros(2)}, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([object()]), np.array(["2020-01-01"], "M8[D]")])
def test_dtypes_that_are_no_numbers_are_refused(tmp_path: Path, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="array 'x' has dtype"):
        checkpoint.save(tmp_path / "c.h5", {"x": value}, {})


def test_a_name_cannot_be_array_and_group(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' is an array and cannot also be the group of 'a/b/c'"):
        checkpoint.save(tmp_path / "c.h5", {"a/b/c": np.zeros(2), "a": np.zeros(2)}, {})


def test_meta_that_json_lacks_is_refused_and_the_old_file_kept(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "c.h5").write_bytes(good)
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "c.h5", ARRAYS, {"loss": float("nan")})
    assert (tmp_path / "c.h5").read_bytes() == good


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits_never_give_wrong_arrays(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, flips: list
) -> None:
    damaged = bytearray(good)
    for place, bit in flips:
        damaged[place % len(good)] ^= 1 << bit
    accept_only_the_original(tmp_path_factory.getbasetemp() / "flipped.h5", bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(start=st.integers(0, 1 << 20), length=st.integers(1, 4096), filling=st.binary(max_size=64))
def test_missing_or_foreign_stretches_never_give_wrong_arrays(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, start: int, length: int, filling: bytes
) -> None:
    start %= len(good)
    damaged = good[:start] + filling + good[start + length :]
    accept_only_the_original(tmp_path_factory.getbasetemp() / "spliced.h5", damaged)


def test_every_bit_of_the_header_is_checked(tmp_path: Path, good: bytes) -> None:
    for place in range(512):
        damaged = bytearray(good)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "c.h5").write_bytes(damaged)
        with pytest.raises(DataError):
            checkpoint.load(tmp_path / "c.h5")


def accept_only_the_original(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        checkpoint.verify(path)
    except DataError:
        with pytest.raises(DataError, match=f"^checkpoint {path} [^\n]*$"):
            checkpoint.load(path)
    else:
        arrays, meta = checkpoint.load(path)
        assert same(arrays, ARRAYS)
        assert meta == META


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda good: b"", "is empty"),
        (lambda good: good[:10], "is not an alikit checkpoint"),
        (lambda good: good[:300], "is damaged: 0 bytes of data where [0-9]+ were written"),
        (lambda good: good[:-1], "is damaged: [0-9]+ bytes of data where"),
        (lambda good: good + b"x", "is damaged: [0-9]+ bytes of data where"),
        (lambda good: good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "is damaged: its bytes do not give the SHA-256"),
        (lambda good: good[512:], "is not an alikit checkpoint"),
        (lambda good: b"\x89PNG\r\n\x1a\n" + bytes(4000), "is not an alikit checkpoint"),
        (lambda good: resealed(good[512:], version=2), "has format version 2, this alikit reads version 1"),
        (lambda good: resealed(b"no HDF5 at all"), "is not laid out as an alikit checkpoint"),
        (lambda good: resealed(foreign_hdf5()), "is not laid out as an alikit checkpoint"),
    ],
)
def test_each_damage_has_its_reason(tmp_path: Path, good: bytes, damage, reason: str) -> None:
    path = tmp_path / "c.h5"
    path.write_bytes(damage(good))
    with pytest.raises(DataError, match=f"checkpoint .*c.h5 {reason}") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def foreign_hdf5() -> bytes:
    image = io.BytesIO()
    with h5py.File(image, "w", userblock_size=512) as file:
        file["x"] = np.zeros(3)
    return image.getvalue()[512:]


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        checkpoint.load(tmp_path / "missing.h5")
    with pytest.raises(DataError, match="is not a file"):
        checkpoint.load(tmp_path)


def test_a_full_disk_keeps_the_old_checkpoint(small_disk: Path) -> None:
    path = small_disk / "checkpoint.h5"
    checkpoint.save(path, ARRAYS, META)
    with pytest.raises(AlikitError, match="No space left on device; free some space"):
        checkpoint.save(path, {"large": np.zeros(1 << 18, np.float64)}, META)
    assert same(checkpoint.load(path)[0], ARRAYS)
    assert os.listdir(small_disk) == ["checkpoint.h5"]
    checkpoint.save(path, {"fits": np.zeros(1 << 14)}, {})  # and the failure left no space taken


def test_a_file_size_limit_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.h5"
    checkpoint.save(path, ARRAYS, META)
    script = """
        import resource, sys
        import numpy as np
        from alikit.errors import AlikitError
        from alikit.training import checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.save(sys.argv[1], {"large": np.zeros(1 << 18)}, {})
        except AlikitError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True, env=env()
    )
    assert "File too large; free some space" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert same(checkpoint.load(path)[0], ARRAYS)
    assert os.listdir(tmp_path) == ["checkpoint.h5"]


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.h5"
    script = """
        import sys
        import numpy as np
        from alikit.training import checkpoint
        for step in range(10_000):
            checkpoint.save(sys.argv[1], {"x": np.full(1 << 20, step, np.float32)}, {"step": step})
            print(step, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), path], stdout=subprocess.PIPE, text=True, env=env()
    )
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    arrays, meta = checkpoint.load(path)
    assert meta["step"] >= 4
    assert (arrays["x"] == meta["step"]).all()


def test_a_readonly_folder(readonly_folder: Path) -> None:
    with pytest.raises(AlikitError, match="Permission denied; choose a folder that you may write to"):
        checkpoint.save(readonly_folder / "checkpoint.h5", ARRAYS, META)


def env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
