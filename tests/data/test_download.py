"""Downloads, from a server on this machine: checked, refused, interrupted, impossible."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from alikit.data import files, open_dataset, svhn
from alikit.data.download import fetch
from alikit.data.files import Published
from alikit.data.reporting import Report
from alikit.errors import AlikitError, DataError

CONTENT = bytes(range(256)) * 50
PAGES = {
    "/good": (200, CONTENT),
    "/other": (200, CONTENT[::-1]),
    "/quota": (200, b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>"),
    "/gone": (404, b"not here"),
    "/cut": (200, CONTENT),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = PAGES[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.fixture
def published(server):
    return lambda page: Published("set.bin", server + page, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_download_lands_in_its_place(tmp_path, published, capsys):
    path = fetch(published("/good"), tmp_path / "new" / "folder", True, Report())
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["set.bin"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert published("/good").url in said


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("/other", "not the published file"),
        ("/cut", "no connection"),
        ("/gone", "HTTP status 404"),
        ("/quota", "web page instead of the file .Google Drive"),
    ],
)
def test_a_bad_answer_leaves_nothing(tmp_path, published, page, reason):
    with pytest.raises(DataError, match=reason) as caught:
        fetch(published(page), tmp_path / "mistyped" / "set", True, Report(quiet=True))
    assert published(page).url in str(caught.value)
    assert "--demo" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=reason):
        fetch(published(page), tmp_path, True, Report(quiet=True))
    assert tmp_path.exists()  # which was there before


@pytest.mark.parametrize("name", ["svhn", "cifar10", "celeba"])
@pytest.mark.parametrize("download", [True, False])
def test_without_network_one_line_says_all(tmp_path, name, download):
    with pytest.raises(DataError) as caught:
        open_dataset(name, data=tmp_path, quiet=True, download=download)
    text = str(caught.value)
    file = {"svhn": "train_32x32.mat", "cifar10": "cifar-10-binary.tar.gz", "celeba": "list_eval_partition.txt"}[name]
    assert text.startswith(f"{tmp_path / name / file} is missing")
    assert ("no connection" if download else "downloads are switched off") in text
    assert "http" in text
    assert "`python -m alikit.train svhn --demo`, without --data, needs no data" in text
    assert "\n" not in text
    assert caught.value.exit_code == 3


def test_a_place_that_cannot_be_written(tmp_path, published):
    (tmp_path / "file").touch()
    with pytest.raises(AlikitError, match="cannot be written") as caught:
        fetch(published("/good"), tmp_path / "file" / "folder", True, Report(quiet=True))
    assert caught.value.exit_code == 1


def test_missing_svhn_is_fetched_and_prepared(tmp_path, server, svhn_file, monkeypatch):
    images, _ = svhn_file(tmp_path / "elsewhere.mat")
    content = (tmp_path / "elsewhere.mat").read_bytes()
    monkeypatch.setitem(PAGES, "/train_32x32.mat", (200, content))
    there = Published("train_32x32.mat", f"{server}/train_32x32.mat", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(svhn.PUBLISHED, "train", there)
    train = open_dataset("svhn", data=tmp_path / "data", quiet=True)
    assert (train.array == images).all()
    assert train.published is True
    assert sorted(p.name for p in (tmp_path / "data" / "svhn").iterdir()) == ["svhn-train.h5", "train_32x32.mat"]


def test_published_files_are_those_of_the_specification():
    from alikit.data import celeba, cifar10

    every = [*svhn.PUBLISHED.values(), cifar10.ARCHIVE, celeba.ARCHIVE, celeba.ATTRIBUTES, celeba.PARTITION]
    assert len({file.sha256 for file in every}) == len(every)
    assert all(len(bytes.fromhex(file.sha256)) == 32 and file.url.startswith("http") for file in every)
    assert files.Place(files.Path("x"), "svhn").home.name == "svhn"
