"""`--model gan|vae|inverse|posthoc`: the models ALI is compared with, as runs like any other."""

import json
from pathlib import Path

import numpy as np
import pytest

import alikit

POINTS = ("mixture", "--width", 0.03, "--batch-size", 16, "--threads", 1, "--quiet")


def last_line(run: str) -> dict:
    return json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def image_options(pictures: Path) -> tuple:
    return ("folder", "--data", pictures, "--size", 32, "--width", 0.04, "--nz", 3, "--batch-size", 4, "--threads", 1)


def test_points_from_a_gan_to_inference_for_it(command) -> None:
    assert command("train", *POINTS, "--model", "gan", "--steps", 3, "--out", "gan").code == 0
    found = last_line("gan")
    assert {"loss_d", "loss_g", "coverage_modes_nearest", "coverage_share_covered"} <= found.keys()
    assert not any(name.startswith(("reconstruction", "latent")) for name in found)
    assert sorted(p.suffix for p in Path("gan").iterdir()) == [".h5", ".json", ".jsonl", ".jsonl", ".png"]
    for game, loss in (("inverse", "loss"), ("posthoc", "loss_g")):
        result = command(
            "train", *POINTS, "--model", game, "--decoder", "gan", "--steps", 2, "--seed", 4, "--out", game
        )
        assert (result.code, result.err) == (0, "")
        assert {loss, "reconstruction_ratio", "coverage_modes_nearest", "latent_ks_mean"} <= last_line(game).keys()
        z = np.random.default_rng(1).standard_normal((4, 2))
        np.testing.assert_array_equal(alikit.load(game).decode(z), alikit.load("gan").decode(z))


def test_a_gan_encodes_nothing_and_says_so(command, image_options: tuple) -> None:
    command("train", *image_options, "--quiet", "--model", "gan", "--steps", 2, "--out", "gan")
    model = alikit.load("gan")
    assert model.sample(2).shape == (2, 32, 32, 3)
    for refused in (model.encode, model.posterior, model.reconstruct):
        with pytest.raises(ValueError, match="a GAN has no encoder"):
            refused(np.zeros((2, 32, 32, 3)))
    result = command("reconstruct", "gan")
    assert (result.code, result.error.partition(":")[0]) == (2, "gan")
    assert "is a GAN, which has no encoder; train one by --model posthoc --decoder RUN" in result.error
    assert command("sample", "gan", "--count", 4).code == 0


@pytest.mark.parametrize("game", ["gan", "vae", "posthoc"])
def test_images(game: str, command, image_options: tuple, image_run: Path) -> None:
    """Pictures, figures and checkpoints as in any run, and a resumed run that ends with the same bytes."""
    options = (*image_options, "--model", game, "--ema", 0.3, "--log-every", 1, "--checkpoint-every", 1)
    options = (*options, "--decoder", image_run) if game == "posthoc" else options
    assert command("train", *options, "--steps", 4, "--quiet", "--out", "whole").code == 0
    assert command("train", *options, "--steps", 2, "--quiet", "--out", "parts").code == 0
    result = command("train", *options, "--steps", 4, "--resume", "--out", "parts")
    assert result.code == 0
    assert f"goes on from checkpoint-00000002.h5; {game}:svhn, " in result.out
    names = ["checkpoint-00000004.h5", "metrics.jsonl", "samples-00000004.png"]
    names += [] if game == "gan" else ["reconstructions-00000004.png", "latents-00000004.png"]
    for name in names[2:]:
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()
    whole, parts = (Path(run, names[0]).read_bytes() for run in ("whole", "parts"))
    assert whole == parts
    assert last_line("whole") == last_line("parts")
    logged = {"gan": "prob_sample", "vae": "kl", "posthoc": "prob_sample"}[game]
    assert np.isfinite(last_line("whole")[logged])


def test_runs_are_named_after_what_they_train(command) -> None:
    for arguments in ((), ("--model", "gan"), ("--model", "vae:mixture-dropout")):
        command("train", *POINTS, *arguments, "--steps", 1)
    names = ["00000-mixture", "00001-mixture-gan", "00002-mixture-vae"]
    assert sorted(path.name for path in Path("runs").iterdir()) == names
    command("train", *POINTS, "--model", "gan", "--resume", "--steps", 2)
    assert len(list(Path("runs").iterdir())) == 3
    assert alikit.load("runs/00001-mixture-gan").step == 2
    assert json.loads(Path("runs/00002-mixture-vae/config.json").read_text())["options"]["model"] == "mixture-dropout"


def test_other_runs_on_the_same_points(command) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        command("train", *POINTS, "--steps", 1, "--seed", seed, "--data-seed", 5, "--out", name)
    checksums = {json.loads(Path(name, "config.json").read_text())["data"]["sha256"] for name in "ab"}
    assert len(checksums) == 1
    assert Path("a/samples-00000001.png").read_bytes() != Path("b/samples-00000001.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "posthoc"), 2, "--model posthoc: name the run whose decoder it takes by --decoder RUN"),
        (("--model", "vae", "--decoder", "x"), 2, "--decoder: goes with --model inverse or posthoc, not with vae"),
        (("--model", "inverse", "--decoder", "nowhere"), 3, "no run folder and no checkpoint at nowhere"),
        (("--model", "inverse", "--decoder", "IMAGES"), 2, "was trained on folder, not on mixture"),
        (("--model", "posthoc", "--decoder", "POINTS"), 2, "has other networks than this run; --width 0.03 fits it"),
        (("--model", "wgan"), 2, "--model: there is no 'wgan': choose a game of ali, gan, inverse, posthoc, vae, or"),
        (("--model", "wgan:mixture"), 2, "--model: there is no 'wgan': choose from ali, gan, vae, inverse, posthoc"),
        (("--model", "gan:svhn"), 2, "--model svhn: its images are (32, 32, 3), those of mixture (1, 1, 2)"),
    ],
)
def test_what_does_not_fit(
    arguments: tuple, code: int, message: str, command, image_run: Path, point_run: Path
) -> None:
    places = {"IMAGES": image_run, "POINTS": point_run}
    options = ("mixture", "--width", 0.05, "--batch-size", 16, "--threads", 1, "--quiet", "--steps", 1, "--out", "run")
    for more in ((), ("--dry-run",)):
        result = command("train", *options, *(places.get(a, a) for a in arguments), *more)
        assert result.code == code
        assert message in result.error
        assert not Path("run").exists()


@pytest.fixture
def on_gan(command) -> Path:
    """A run for the GAN `a/gan`, of two steps; `b/gan` is another GAN."""
    for seed, name in enumerate("ab"):
        command("train", *POINTS, "--model", "gan", "--steps", 1, "--seed", seed, "--ema", 0.5, "--out", f"{name}/gan")
    options = ("--model", "posthoc", "--decoder", "a/gan", "--ema", 0.5)
    assert command("train", *POINTS, *options, "--steps", 2, "--out", "run").code == 0
    return Path("run")


@pytest.mark.parametrize("begun", ["with a checkpoint", "without one"])
def test_a_moved_gan_is_known_by_its_decoder(begun: str, on_gan: Path, command) -> None:
    if begun == "without one":
        (on_gan / "checkpoint-00000002.h5").unlink()
    again = ("train", *POINTS, "--model", "posthoc", "--steps", 3, "--resume", on_gan, "--decoder")
    refused = command(*again, "b/gan")
    assert (refused.code, "decoder is 'b/gan', the checkpoint has 'a/gan'" in refused.error) == (2, True)
    assert command(*again, "nowhere/gan").code == 3
    Path("a").rename("moved")
    assert command(*again, "moved/gan").code == 0
    assert json.loads((on_gan / "config.json").read_text())["options"]["decoder"] == "moved/gan"
    z = np.random.default_rng(1).standard_normal((4, 2))
    np.testing.assert_array_equal(alikit.load(on_gan).decode(z), alikit.load("moved/gan").decode(z))


def test_of_a_run_without_checkpoint_and_hash_nothing_is_known(on_gan: Path, command) -> None:
    """Begun by an older version."""
    (on_gan / "checkpoint-00000002.h5").unlink()
    record = json.loads((on_gan / "config.json").read_text())
    del record["decoder_sha256"]
    (on_gan / "config.json").write_text(json.dumps(record))
    Path("a").rename("moved")
    refused = command("train", *POINTS, "--model", "posthoc", "--resume", on_gan, "--decoder", "moved/gan")
    assert (refused.code, "decoder is 'moved/gan', the checkpoint has 'a/gan'" in refused.error) == (2, True)


def test_a_run_goes_on_as_what_it_is(command) -> None:
    command("train", *POINTS, "--model", "gan", "--steps", 1, "--out", "run")
    result = command("train", *POINTS, "--model", "vae", "--steps", 2, "--resume", "run")
    assert (result.code, "game is 'vae', the checkpoint has 'gan'" in result.error) == (2, True)
    assert command("train", *POINTS, "--steps", 2, "--resume", "run").code == 0
