"""Small data sets in the published layouts, a private cache folder, and no way to the network."""

import io
import socket
import tarfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import alikit.data.cifar10
import alikit.data.files
from alikit.errors import DataError

RECORDS = 20  # per CIFAR-10 file, instead of 10,000


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """The user's cache folder is a fresh one, $ALIKIT_DATA is not set, and only this machine can be reached."""
    folder = tmp_path / "user-cache"
    monkeypatch.setattr(alikit.data.files, "user_cache", lambda: folder)
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    lookup = socket.getaddrinfo

    def local_only(host, *args, **kwargs):
        if host not in ("localhost", "127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, "no network in tests")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local_only)
    return folder


@pytest.fixture
def attempt():
    """Call a reader on a damaged file: its result, or None where it refused with one line that names the file."""

    def run(reader, path):
        try:
            return reader()
        except DataError as error:
            message = str(error)
        assert str(path) in message
        assert "\n" not in message
        return None

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@pytest.fixture
def svhn_file(rng):
    """Write an SVHN .mat file of `count` images; returns images (N, 32, 32, 3) and digits (N,)."""

    def write(path, count=37):
        path.parent.mkdir(parents=True, exist_ok=True)
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        digits = (np.arange(count) % 10).astype(np.uint8)
        y = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": y}, do_compression=True)
        return images, digits

    return write


@pytest.fixture
def cifar_files(rng, monkeypatch):
    """The six files of CIFAR-10 with 20 records each, as {name: bytes}, and all images and labels of the five."""
    monkeypatch.setattr(alikit.data.cifar10, "_RECORDS", RECORDS)
    images = rng.integers(0, 256, (6 * RECORDS, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, 6 * RECORDS).astype(np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    rows = np.concatenate([labels[:, None], planes], axis=1).reshape(6, RECORDS, 3073)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    return {name: part.tobytes() for name, part in zip(names, rows, strict=True)}, images, labels


@pytest.fixture
def tar_of():
    """Write a tar.gz of {member name: bytes}; `extra` are further TarInfo members without content."""

    def write(path, members, extra=()):
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for info in extra:
                tar.addfile(info)

    return write


@pytest.fixture
def celeba_files(rng):
    """Nine faces as {file name: JPEG bytes}, and the texts of the attribute and the partition list."""
    names = [f"{i:06d}.jpg" for i in range(1, 10)]
    faces = {}
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (11, 9, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((178, 218), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        faces[name] = stream.getvalue()
    attributes = np.where(rng.random((9, 40)) < 0.5, 1, -1)
    rows = "\n".join(f"{n} " + " ".join(f"{v:2d}" for v in row) for n, row in zip(names, attributes, strict=True))
    header = " ".join(f"Attribute_{i}" for i in range(40))
    partition = "".join(f"{n} {code}\n" for n, code in zip(names, "000001122", strict=True))
    return faces, f"9\n{header}\n{rows}\n", partition
