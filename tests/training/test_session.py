"""From a configuration to a run that is ready: where it is written, what it goes on from, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alikit.data import Dataset, open_dataset
from alikit.errors import AlikitError, DataError, DeviceError, UsageError
from alikit.training import runs, session, state
from alikit.training.config import PRESETS, Config

TINY = replace(PRESETS["mixture"], width=0.02, batch_size=8, steps=5, device="cpu")


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def mixture() -> Dataset:
    return open_dataset("mixture")


def checkpoint(folder: Path, step: int = 3, checksum: str = "abc") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = runs.checkpoint_path(folder, step)
    state.save(path, state.build_trainer(TINY), TINY, step, checksum)
    return path


def test_a_new_run_gets_a_numbered_folder_and_its_record(mixture: Dataset) -> None:
    first, held = session.start(TINY, mixture, None, None, quiet=True)
    second, _ = session.start(TINY, mixture, None, None, quiet=True)
    assert [first.folder, second.folder] == [Path("runs/00000-mixture"), Path("runs/00001-mixture")]
    assert (first.step, first.total_steps, first.continued, held) == (0, 5, False, "valid, not trained on")
    record = json.loads((first.folder / "config.json").read_text())
    assert record["options"] == json.loads(json.dumps(TINY.__dict__))
    assert record["total_steps"] == 5
    assert record["data"] == {
        "source": mixture.source,
        "split": "train",
        "images": 100_000,
        "sha256": mixture.checksum,
        "held_out": held,
    }
    assert record["parameters"] == sum(p.data.size for p in first.trainer.model.parameters())
    assert record["versions"].keys() >= {"alikit", "python", "numpy", "h5py"}
    assert session.saved_config(first.folder) == TINY


def test_the_decoder_of_a_new_run_starts_at_its_data_s_mean(stream, monkeypatch) -> None:
    images = stream("images").integers(0, 256, (12, 32, 32, 3), np.uint8)
    dataset = Dataset(name="svhn", split="train", source="here", checksum="", images=images)
    monkeypatch.setattr("alikit.training.feed.open_dataset", lambda *args, **options: dataset)
    config = replace(PRESETS["svhn"], width=0.04, nz=3, batch_size=4, device="cpu")
    run, _ = session.start(config, dataset, Path("run"), None, quiet=True)
    bias = run.trainer.model.decoder.layers[-1].conv.bias
    assert bias is not None
    np.testing.assert_allclose(1 / (1 + np.exp(-bias.data)), images.mean(axis=0) / 255, rtol=1e-4)


def test_averages_begin_where_the_weights_do(stream, monkeypatch) -> None:
    """At the mean image as well."""
    images = stream("images").integers(0, 256, (12, 32, 32, 3), np.uint8)
    dataset = Dataset(name="svhn", split="train", source="here", checksum="", images=images)
    monkeypatch.setattr("alikit.training.feed.open_dataset", lambda *args, **options: dataset)
    config = replace(PRESETS["svhn"], width=0.04, nz=3, batch_size=4, ema=0.01, device="cpu")
    trainer = session.start(config, dataset, Path("run"), None, quiet=True)[0].trainer
    assert trainer.ema is not None
    np.testing.assert_array_equal(trainer.ema.average, trainer.ema.flat.data)


def test_a_continued_run(mixture: Dataset) -> None:
    saved = state.read(checkpoint(Path("run"), 3, mixture.checksum))
    saved.arrays["model/decoder.layers.0.norm.beta"][...] = 7
    run, _ = session.start(TINY, mixture, Path("run"), saved, quiet=True)
    assert (run.step, run.continued) == (3, False)  # no config.json there: nothing else of that run is known
    assert (run.trainer.model.decoder.layers[0].norm.beta.data == 7).all()
    run, _ = session.start(TINY, mixture, Path("run"), saved, quiet=True)
    assert run.continued


def test_other_data_than_the_checkpoint_s_are_refused(mixture: Dataset) -> None:
    saved = state.read(checkpoint(Path("run"), checksum="of other data"))
    with pytest.raises(UsageError, match="--resume: the data differ from the checkpoint's"):
        session.start(TINY, mixture, Path("run"), saved, quiet=True)
    assert not Path("run/config.json").exists()


@pytest.mark.parametrize(
    ("images", "config", "steps"),
    [
        (531_131, PRESETS["svhn"], 531_200),
        (45_000, PRESETS["cifar10"], 2_913_750),
        (162_770, PRESETS["celeba"], 200_244),
        (1_281_167, PRESETS["tiny-imagenet"], 1_251_250),
        (100_000, PRESETS["mixture"], 200_000),
        (100_000, TINY, 5),
        (100, replace(TINY, steps=None, epochs=0.5, batch_size=30), 2),
        (100, replace(TINY, steps=None, epochs=1e-9, batch_size=30), 1),
    ],
)
def test_length_of_a_run(images: int, config: Config, steps: int) -> None:
    """The published runs' iterations: every epoch ends with the smaller batch that is left."""
    assert session.total_steps(config, images) == steps


def test_what_resume_means(working_folder: Path) -> None:
    def meaning(resume: str, out: Path | None = None) -> tuple[Path | None, Path | None]:
        return session.resume_point(resume, out, "mixture")

    assert meaning("auto") == (None, None)
    assert meaning("auto", Path("fresh")) == (None, None)
    early = Path("runs/00004-mixture")
    early.mkdir(parents=True)
    assert meaning("auto") == (early, None)  # the newest run was stopped before it wrote anything
    path = checkpoint(Path("runs/00002-mixture"))
    checkpoint(Path("runs/00007-svhn"))
    assert meaning("auto") == (early, None)
    assert meaning("runs/00002-mixture") == (path.parent, path)
    assert meaning(str(path)) == (path.parent, path)
    newer = checkpoint(early, 12)
    checkpoint(early, 9)
    assert meaning("auto") == (early, newer)
    assert meaning("auto", Path("runs/00002-mixture")) == (path.parent, path)
    Path("begun").mkdir()
    Path("begun/config.json").write_text("{}")
    assert meaning("begun") == (Path("begun"), None)
    Path("empty").mkdir()
    for nothing in ("nowhere", "empty"):
        with pytest.raises(DataError, match=f"no (run folder and no )?checkpoint (at|in) {nothing}"):
            meaning(nothing)


def test_checkpoints_in_a_folder_that_is_no_run_s_are_left_alone() -> None:
    """The run would take their folder for its own, and delete the oldest of them."""
    one, folder = checkpoint(Path("collected"), 3), Path("collected")
    ways = [(str(one), None), ("collected", None), ("auto", folder)]
    for resume, out in ways:
        assert session.resume_point(resume, out, "mixture") == (folder, one)
    checkpoint(folder, 4)
    for resume, out in ways:
        with pytest.raises(UsageError, match=r"--resume .*: collected holds several checkpoints and is no run's"):
            session.resume_point(resume, out, "mixture")
    (folder / "config.json").write_text("{}")
    assert session.resume_point(str(one), None, "mixture") == (folder, one)


def test_resuming_passes_over_a_damaged_checkpoint_with_a_warning(capsys) -> None:
    good, damaged = checkpoint(Path("run"), 3), checkpoint(Path("run"), 4)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    Path("run/config.json").write_text("{}")
    assert session.resume_point("run", None, "mixture") == (Path("run"), good)
    err = capsys.readouterr().err
    assert err.startswith("alikit: warning: checkpoint run/checkpoint-00000004.h5 is damaged")
    assert err.endswith("falling back to checkpoint-00000003.h5\n")


def test_a_config_file_that_is_missing_or_damaged() -> None:
    folder = Path("run")
    folder.mkdir()
    assert session.saved_config(folder) is None
    for text in ("", "{", "[]", '{"options": 3}', '{"options": {}}', "\xff"):
        (folder / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(
            DataError, match=r"^run/config.json: .*(cannot be read|has no .options.|does not fit)"
        ) as caught:
            session.saved_config(folder)
        assert "\n" not in str(caught.value)


def test_devices_and_precisions(monkeypatch) -> None:
    monkeypatch.setattr("alikit.backend._cuda_obstacle", lambda: "no NVIDIA GPU was found")
    config, reason = session.settle(replace(TINY, device="auto"))
    assert (config.device, reason) == ("cpu", "no NVIDIA GPU was found")
    assert session.settle(TINY) == (TINY, "as asked")
    with pytest.raises(DeviceError, match="--device cuda: no NVIDIA GPU was found") as caught:
        session.settle(replace(TINY, device="cuda"))
    assert caught.value.exit_code == 4
    for precision in ("bf16", "tf32"):
        with pytest.raises(UsageError, match=f"--precision {precision}: the device cpu gives fp32"):
            session.settle(replace(TINY, precision=precision))


def test_folders_that_cannot_be_written(readonly_folder: Path, mixture: Dataset, monkeypatch) -> None:
    with pytest.raises(AlikitError, match=r"cannot write .*Permission denied; choose a folder that") as caught:
        session.start(TINY, mixture, readonly_folder / "run", None, quiet=True)
    assert caught.value.exit_code == 1
    monkeypatch.chdir(readonly_folder)
    with pytest.raises(AlikitError, match="cannot write runs: Permission denied; choose a folder that"):
        session.start(TINY, mixture, None, None, quiet=True)
    with pytest.raises(AlikitError, match=r"cannot write .*config.json: Permission denied"):
        session.start(TINY, mixture, readonly_folder, None, quiet=True)
