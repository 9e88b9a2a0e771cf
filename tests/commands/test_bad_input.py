"""Whatever a user gives a command: one clear line and the right exit code, no traceback, nothing lost."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import alikit
from alikit.errors import DataError
from alikit.training import runs

OPTIONS = [
    ("--lr nan", "argument --lr: a number above 0 to 1 is wanted, not nan"),
    ("--lr inf", "argument --lr: a number above 0"),
    ("--lr 0", "argument --lr: a number above 0"),
    ("--lr=-1e-4", "argument --lr: a number above 0"),
    ("--lr 1.5", "argument --lr: a number above 0 to 1 is wanted, not 1.5"),
    ("--lr fast", "argument --lr: a number is wanted, not 'fast'"),
    ("--beta1 1", "argument --beta1: a number from 0 below 1 is wanted, not 1"),
    ("--beta1 -0.1", "argument --beta1: "),
    ("--beta2 nan", "argument --beta2: "),
    ("--adam-eps 0", "argument --adam-eps: "),
    ("--epochs 0", "argument --epochs: "),
    ("--epochs -inf", "argument --epochs: "),
    ("--epochs 1e10", "argument --epochs: "),
    ("--steps 0", "argument --steps: from 1 up is wanted, not 0"),
    ("--steps 1.5", "argument --steps: a whole number is wanted, not '1.5'"),
    ("--steps 99999999999999999999", "argument --steps: 99999999999999999999 is too large"),
    ("--steps 5 --epochs 1", "argument --epochs: not allowed with argument --steps"),
    ("--batch-size 1", "argument --batch-size: from 2 up is wanted, not 1"),
    ("--seed -1", "argument --seed: from 0 up is wanted, not -1"),
    ("--ema 0", "argument --ema: "),
    ("--ema 1.01", "argument --ema: "),
    ("--width 0", "argument --width: "),
    ("--width 17", "argument --width: "),
    ("--images 1", "argument --images: from 2 up is wanted, not 1"),
    ("--images 20 --batch-size 21", "a batch of 21 is larger than the data (20)"),
    ("--nz 0", "argument --nz: from 1 up"),
    ("--nz 65537", "argument --nz: 65537 is too large"),
    ("--init-std 0", "argument --init-std: "),
    ("--init-std inf", "argument --init-std: "),
    ("--keep 0", "argument --keep: from 1 up"),
    ("--log-every 0", "argument --log-every: from 1 up"),
    ("--sample-every x", "argument --sample-every: a whole number is wanted, not 'x'"),
    ("--checkpoint-every -3", "argument --checkpoint-every: from 1 up"),
    ("--threads 0", "argument --threads: from 1 up"),
    ("--device tpu", "argument --device: invalid choice: 'tpu'"),
    ("--precision fp8", "argument --precision: invalid choice: 'fp8'"),
    ("--batch 8", "unrecognized arguments: --batch 8"),
    ("--learning-rate 1", "unrecognized arguments: --learning-rate 1"),
    ("more", "unrecognized arguments: more"),
    ("--precision bf16", "--precision bf16: the device cpu gives fp32"),
    ("--precision tf32", "--precision tf32: the device cpu gives fp32"),
    (
        "--model nope",
        "--model: there is no 'nope': choose a game of ali, gan, inverse, posthoc, vae, or networks of svhn, ",
    ),
    ("--model svhn", "--model svhn: its images are (32, 32, 3), those of mixture (1, 1, 2)"),
    ("--split extra", "--split: mixture has no split 'extra': choose from train, valid"),
    ("--size 32", "--size: goes with folder, not with mixture"),
    ("--data .", "--data: the mixture is drawn by this program; it reads no files"),
    ("--data synthetic", "--data synthetic draws house numbers: it goes with svhn, not with mixture"),
    ("--batch-size 100001", "a batch of 100,001 is larger than the data (100,000)"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[text for text, _ in OPTIONS])
def test_options(options: str, message: str, command, monkeypatch, working_folder: Path) -> None:
    monkeypatch.setattr("alikit.backend._cuda_obstacle", lambda: "no NVIDIA GPU was found")
    length = () if "epochs" in options else ("--steps", 3)
    result = command("train", "mixture", "--quiet", *length, *options.split())
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(message)
    assert list(working_folder.iterdir()) == []
    if "larger than the data (100,000)" not in message:
        assert command("train", "mixture", *length, *options.split(), "--dry-run").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "the following arguments are required: set"),
        (("mnist",), 2, "argument set: invalid choice: 'mnist'"),
        (("",), 2, "argument set: invalid choice: ''"),
        (("mixture", "--device", "cuda"), 4, "--device cuda: no NVIDIA GPU was found"),
        (("celeba", "--demo"), 2, "--demo: shows svhn (drawn house numbers) or mixture, not celeba"),
        (("svhn", "--size", 32), 2, "--size: goes with folder, not with svhn"),
        (("folder",), 2, "folder: name the folder of pictures by --data DIR"),
        (("folder", "--size", 48, "--data", "."), 2, "--size 48: the networks take folders of 32 or 64 pixels"),
        (("folder", "--data", "nowhere"), 3, "nowhere: there is no such folder of pictures"),
        (("folder", "--data", "empty"), 3, "empty: holds 0 pictures"),
        (("svhn", "--data", "file"), 2, "file is not a folder"),
        (("mixture", "--out", "file"), 2, "--out file: exists already"),
        (("mixture", "--out", "full"), 2, "--out full: exists already; --resume goes on with a run there"),
        (("mixture", "--out", "file/run"), 1, "cannot write file/run: Not a directory"),
        (("mixture", "--out", "x" * 300), 1, "File name too long"),
        (("mixture", "--resume", "nowhere"), 3, "no run folder and no checkpoint at nowhere"),
        (("mixture", "--resume", "empty"), 3, "no checkpoint in empty: looked for files named checkpoint-<step>.h5"),
        (("mixture", "--resume", "full"), 3, "no checkpoint in full"),
        (("mixture", "--resume", "file"), 3, "checkpoint file is not an alikit checkpoint"),
        (("mixture", "--resume", ""), 3, "no checkpoint in ."),
    ],
)
def test_arguments(arguments: tuple, code: int, message: str, command, monkeypatch) -> None:
    monkeypatch.setattr("alikit.backend._cuda_obstacle", lambda: "no NVIDIA GPU was found")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    result = command("train", *arguments, "--quiet")
    assert result.code == code
    assert message in result.error
    assert sorted(p.as_posix() for p in Path().rglob("*")) == ["empty", "file", "full", "full/notes.txt"]
    assert Path("file").read_text() == Path("full/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["svhn", "cifar10", "celeba"])
def test_data_that_are_not_there_and_no_network(name: str, command) -> None:
    result = command("train", name, "--data", "here", "--quiet")
    assert result.code == 3
    for part in ("is missing and cannot be downloaded", "http", "here/", "python -m alikit.train svhn --demo"):
        assert part in result.error


def test_two_pictures_are_too_few_to_train_on(command) -> None:
    Path("two").mkdir()
    for name in "ab":
        Image.new("RGB", (9, 9)).save(f"two/{name}.png")
    result = command("train", "folder", "--data", "two", "--quiet")
    assert result.code == 3
    assert result.error == f"{Path('two').absolute()} (1 of 2 pictures): at least two images are needed to train on"


def test_a_batch_larger_than_the_pictures(command, pictures: Path) -> None:
    result = command("train", "folder", "--data", pictures, "--size", 32, "--batch-size", 40, "--quiet")
    assert (result.code, result.error.split(":")[0]) == (2, "a batch of 40 is larger than the data (39)")
    assert not Path("runs").exists()


def test_a_picture_that_cannot_be_decoded(command, pictures: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pictures, tmp_path / "damaged"))
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:200])
    result = command("train", "folder", "--data", folder, "--size", 32, "--quiet")
    assert result.code == 3
    assert "the picture 07.png cannot be decoded" in result.error


DAMAGE: dict[str, Any] = {
    "truncated": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "foreign": lambda good: b"\x89PNG\r\n\x1a\n" + bytes(4000),
    "bit-flipped": lambda good: good[:9999] + bytes([good[9999] ^ 16]) + good[10000:],
    "bit-flipped header": lambda good: bytes([good[0] ^ 1]) + good[1:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("whole_folder", [True, False], ids=["folder", "file"])
def test_damaged_checkpoints(damage: str, whole_folder: bool, command, image_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(image_run, tmp_path / "run"))
    (path,) = runs.checkpoints(run)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    target = run if whole_folder else path
    for arguments in (("train", "folder", "--resume", target), ("sample", target), ("reconstruct", target)):
        result = command(*arguments)
        assert (result.code, result.out) == (3, "")
        assert path.name in result.error
    with pytest.raises(DataError, match=path.name):
        alikit.load(target)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    assert not Path("samples.png").exists()


def test_a_run_shorter_than_it_is_already(command, point_run: Path, tmp_path: Path) -> None:
    """Its record would say so, beside a checkpoint of more steps."""
    folder = tmp_path / "run"
    shutil.copytree(point_run, folder)
    before = (folder / "config.json").read_bytes()
    result = command("train", "mixture", "--resume", folder, "--steps", "1")
    assert (result.code, result.error) == (
        2,
        "--resume: the end would be step 1 (--steps, --epochs); the run is at step 3 already",
    )
    assert (folder / "config.json").read_bytes() == before


def test_a_run_without_its_record_goes_on(command, point_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(point_run, folder)
    (folder / "config.json").unlink()
    assert command("train", "mixture", "--resume", folder, "--steps", "4").code == 0
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 4
    assert (folder / "config.json").exists()


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that only its owner may enter, or nobody where the tests do not run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)
    folder.rmdir()


def test_a_folder_that_may_not_be_entered(command, monkeypatch, closed_folder: Path, readonly_folder: Path) -> None:
    monkeypatch.chdir(readonly_folder)
    for verb, *arguments in (("sample",), ("reconstruct",), ("train", "mixture", "--quiet", "--resume")):
        result = command(verb, *arguments, closed_folder / "run")
        assert result.code == 1
        assert result.error == f"{closed_folder / 'run'}: Permission denied"


@pytest.mark.parametrize(
    ("line", "code"), [("train mnist", 2), ("sample nowhere", 3), ("reconstruct nowhere", 3), ("data mnist", 2)]
)
def test_as_processes(line: str, code: int, environment: dict[str, str]) -> None:
    verb, argument = line.split()
    command = [sys.executable, "-m", f"alikit.{verb}", argument]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("alikit: error: ")
    assert done.stderr.count("\n") == 1
