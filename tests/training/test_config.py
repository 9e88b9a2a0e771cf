from dataclasses import fields, replace
from pathlib import Path

import pytest

from alikit import train
from alikit.data import SPLITS
from alikit.errors import DataError, UsageError
from alikit.models import SPECS
from alikit.training import allowed
from alikit.training.config import (
    DEMO,
    FREE,
    PRESETS,
    Config,
    continued,
    data_seed,
    from_json,
    resolve,
    settled,
    split_model,
    to_json,
)

#: method 3.1: batch, epochs, beta1
PUBLISHED = {
    "svhn": (100, 100, 0.5),
    "cifar10": (100, 6475, 0.5),
    "celeba": (100, 123, 0.5),
    "tiny-imagenet": (128, 125, 0.5),
    "mixture": (100, 200, 0.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_constants(name: str) -> None:
    config = resolve(name, {})
    assert (config.batch_size, config.epochs, config.beta1) == PUBLISHED[name]
    assert (config.lr, config.beta2, config.adam_eps) == (1e-4, 0.999, 1e-8)
    assert (config.model, config.dataset, config.width, config.steps) == (name, name, 1.0, None)
    assert (config.ema, config.nz, config.init_std, config.seed, config.precision) == (None, None, None, 0, "fp32")


def test_every_set_has_a_preset_a_network_and_a_place_in_the_command() -> None:
    assert PRESETS.keys() == set(SPLITS) == set(train.SETS)
    assert all(config.model in SPECS and config.split in SPLITS[name] for name, config in PRESETS.items())


def test_every_constant_can_be_overridden_by_the_command() -> None:
    names = {field.name for field in fields(Config)}
    assert set(train.OVERRIDES) | {"dataset", "threads", "game"} == names  # --model names the game too
    assert names >= FREE


def test_what_the_user_gave_wins_over_the_demo_and_the_demo_over_the_preset() -> None:
    config = resolve("svhn", {"steps": 7, "lr": 0.5}, demo=True)
    assert config == replace(PRESETS["svhn"], **{**DEMO["svhn"], "steps": 7, "lr": 0.5})
    assert config.data == "synthetic"
    assert resolve("mixture", {}, demo=True).steps == DEMO["mixture"]["steps"]
    assert config.reconstruction > 0
    for other in ({"game": "gan"}, {"conditional": True}, {"labels": 100}):  # games without that term
        assert resolve("svhn", other, demo=True).reconstruction == 0
    with pytest.raises(UsageError, match=r"--demo: shows svhn .* or mixture, not celeba"):
        resolve("celeba", {}, demo=True)


@pytest.mark.parametrize(("size", "model"), [(32, "svhn"), (64, "tiny-imagenet")])
def test_a_folder_s_network_follows_its_size(size: int, model: str) -> None:
    assert resolve("folder", {"size": size}).model == model
    assert resolve("folder", {"size": 64, "model": "celeba"}).model == "celeba"
    assert resolve("folder", {}).size == 64
    with pytest.raises(UsageError, match="--size 48: the networks take folders of 32 or 64 pixels"):
        resolve("folder", {"size": 48})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"seed": 1}, {"seed": 1}),
        ({"model": "celeba-paper"}, {"model": "celeba-paper"}),
        ({"model": "gan", "lr": 0.1}, {"game": "gan", "lr": 0.1}),
        ({"model": "vae:celeba-paper"}, {"game": "vae", "model": "celeba-paper"}),
        ({"model": "ali"}, {"game": "ali"}),
    ],
)
def test_a_model_is_a_game_or_networks_or_both(given: dict, wanted: dict) -> None:
    assert split_model(given) == wanted


def test_an_unknown_game() -> None:
    with pytest.raises(UsageError, match=r"--model: there is no 'wgan': choose from ali, gan, vae, .*, then :NETWORKS"):
        split_model({"model": "wgan:svhn"})


@pytest.mark.parametrize("game", ["inverse", "posthoc"])
def test_who_takes_a_decoder(game: str) -> None:
    assert resolve("mixture", {"game": game, "decoder": "run"}).decoder == "run"
    with pytest.raises(UsageError, match=f"--model {game}: name the run whose decoder it takes by --decoder RUN"):
        resolve("mixture", {"game": game})
    with pytest.raises(UsageError, match="--decoder: goes with --model inverse or posthoc, not with gan"):
        resolve("mixture", {"game": "gan", "decoder": "run"})


def test_only_a_vae_warms_up() -> None:
    assert resolve("mixture", {"game": "vae"}).kl_warm_up == 1000
    assert resolve("svhn", {"game": "vae", "kl_warm_up": 0}).kl_warm_up == 0
    with pytest.raises(UsageError, match="--kl-warm-up: goes with --model vae, not with ali"):
        resolve("svhn", {"kl_warm_up": 5})


def test_noise_goes_with_a_discriminator() -> None:
    config = resolve("svhn", {"game": "gan", "instance_noise": 0.1})
    assert (config.instance_noise, config.instance_noise_steps) == (0.1, 10_000)
    assert PRESETS["svhn"].instance_noise == 0
    for game in ("vae", "inverse"):
        with pytest.raises(UsageError, match=f"--instance-noise: on the images that D sees; {game} has no D"):
            resolve("mixture", {"game": game, "decoder": "run", "instance_noise": 0.1})
    with pytest.raises(UsageError, match="--instance-noise-steps: goes with --instance-noise"):
        resolve("svhn", {"instance_noise_steps": 5})


def test_drawn_data_have_a_seed_of_their_own_if_wanted() -> None:
    assert data_seed(resolve("mixture", {"seed": 3})) == 3
    assert data_seed(resolve("mixture", {"seed": 3, "data_seed": 0})) == 0


@pytest.mark.parametrize("ema", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_of_the_moving_average_outside_its_range(ema: float) -> None:
    with pytest.raises(UsageError, match="--ema: a rate in"):
        resolve("svhn", {"ema": ema})


def test_json_round_trip() -> None:
    config = resolve("folder", {"data": "~/pictures", "epochs": 0.5, "nz": 16, "ema": 0.001})
    assert from_json(to_json(config), Path("c.h5")) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda v: {k: x for k, x in v.items() if k != "model"}, "model"),
        (lambda v: v | {"momentum": 1}, "momentum"),
        (lambda v: [v], "everything"),
        (lambda v: None, "everything"),
    ],
)
def test_json_of_another_version_is_refused(change, named: str) -> None:
    with pytest.raises(DataError, match=f"^c.h5: its configuration does not fit this version of alikit.*{named}"):
        from_json(change(to_json(PRESETS["svhn"])), Path("c.h5"))


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("batch_size", "eight", "a whole number is wanted, not '\"eight\"'"),
        ("batch_size", "8", "a whole number is wanted"),
        ("batch_size", 8.0, "a whole number is wanted, not '8.0'"),
        ("batch_size", True, "a whole number is wanted, not 'true'"),
        ("steps", 0, "from 1 up is wanted, not 0"),
        ("lr", -5, "a number above 0 to 1 is wanted, not -5"),
        ("lr", float("nan"), "a number above 0 to 1 is wanted, not NaN"),
        ("lr", None, "a number is wanted, not 'null'"),
        ("ema", [1], "a number is wanted, not '\\[1\\]'"),
        ("conditional", 1, "true or false is wanted, not 1"),
        ("split", "dev", 'one of train, test, extra is wanted, not "dev"'),
        ("model", "nonsense", 'one of svhn, cifar10, .* is wanted, not "nonsense"'),
        ("data", 3, "a text is wanted, not 3"),
        ("dataset", ["svhn"], "one of svhn, cifar10, "),
        ("dataset", "mnist", 'one of svhn, cifar10, .* is wanted, not "mnist"'),
        ("game", ["ali"], "one of ali, gan, "),
        ("precision", "fp8", "one of fp32, tf32, bf16 is wanted"),
    ],
)
def test_values_that_no_option_could_have_put_there(field: str, value: object, wanted: str) -> None:
    with pytest.raises(DataError, match=f"^c.json: {field}: {wanted}"):
        from_json(to_json(PRESETS["svhn"]) | {field: value}, Path("c.json"))


@pytest.mark.parametrize(
    ("dataset", "values", "wanted"),
    [
        ("mixture", {"conditional": True}, "--conditional: .* mixture has none"),
        ("svhn", {"conditional": True, "game": "vae"}, "--conditional: goes with ALI's own game"),
        ("mixture", {"labels": 5}, "--labels: mixture has no classes"),
        ("svhn", {"labels": 1001}, "--labels 1001: a multiple of the 10 classes is wanted"),
        ("svhn", {"labelled_batch": 5}, "--labelled-batch: goes with --labels"),
        ("svhn", {"game": "gan", "reconstruction": 1.0}, "--reconstruction: a term of ALI's loss"),
        ("svhn", {"game": "vae", "instance_noise": 0.1}, "--instance-noise: .* vae has no D"),
        ("mixture", {"game": "gan", "decoder": "run"}, "--decoder: goes with --model inverse or posthoc, not with gan"),
    ],
)
def test_values_that_no_options_could_have_put_there_together(dataset: str, values: dict, wanted: str) -> None:
    with pytest.raises(DataError, match=f"^c.json: {wanted}"):
        from_json(to_json(PRESETS[dataset]) | values, Path("c.json"))


def test_every_number_of_a_configuration_has_its_range() -> None:
    numbers = {field.name for field in fields(Config) if field.type.startswith(("int", "float"))}
    assert numbers == allowed.NUMBERS.keys()
    for config in PRESETS.values():
        assert from_json(to_json(config), Path("c.json")) == config


def test_an_option_younger_than_the_file_takes_its_default() -> None:
    values = {k: v for k, v in to_json(PRESETS["mixture"]).items() if k != "images"}
    assert from_json(values, Path("c.h5")) == PRESETS["mixture"]
    del values["kl_warm_up"]  # what such a file's VAE had
    assert from_json(values, Path("c.h5")) == replace(PRESETS["mixture"], kl_warm_up=0)


def test_a_resumed_run_may_go_on_longer_elsewhere_and_on_another_device() -> None:
    saved = replace(PRESETS["svhn"], steps=500, device="cuda", data="/old")
    config = continued(saved, {"steps": 900, "device": "cpu", "data": "/new", "keep": 9, "lr": saved.lr})
    assert config == replace(saved, steps=900, device="cpu", data="/new", keep=9)
    assert continued(saved, {}) == saved
    assert continued(saved, {"epochs": 3.0}).steps is None  # steps would override them
    assert continued(saved, {"epochs": 3.0}).epochs == 3.0


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Config)} - FREE))
def test_what_changes_a_number_is_refused(name: str) -> None:
    saved = PRESETS["svhn"]
    other = {"dataset": "cifar10", "model": "x", "split": "extra", "precision": "bf16"}.get(name, 3)
    with pytest.raises(UsageError, match=rf"^--resume: .*checkpoint's: {name} is {other!r}, the checkpoint has "):
        continued(saved, {name: other})


def test_all_differences_are_listed() -> None:
    with pytest.raises(UsageError, match=r"lr is 0.5, the checkpoint has 0.0001; seed is 4, the checkpoint has 0$"):
        continued(PRESETS["svhn"], {"lr": 0.5, "steps": 3, "seed": 4, "beta1": 0.5})


def test_how_often_a_run_is_looked_at_depends_on_the_device() -> None:
    """Where nobody said: 500 steps are minutes on a CPU and less than a second on a GPU."""
    on_cpu, on_gpu = (settled(PRESETS["svhn"], device) for device in ("cpu", "cuda"))
    assert (on_cpu.log_every, on_cpu.sample_every, on_cpu.checkpoint_every) == (10, 500, 500)
    assert (on_gpu.log_every, on_gpu.sample_every, on_gpu.checkpoint_every) == (100, 10_000, 10_000)
    assert (on_cpu.device, on_gpu.device) == ("cpu", "cuda")
    given = settled(replace(PRESETS["svhn"], sample_every=7), "cuda")
    assert (given.log_every, given.sample_every) == (100, 7)
    assert settled(on_cpu, "cuda") == replace(on_cpu, device="cuda")
