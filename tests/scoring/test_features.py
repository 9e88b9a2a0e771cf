from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.inference import Model
from alikit.scoring import features
from alikit.scoring.features import KINDS, available, build
from alikit.training import state
from alikit.training.config import PRESETS

ROWS = np.array([5, 2, 17])


def of(kind: str, model: Model, train: Dataset, folder: Path, rows: np.ndarray = ROWS, **options) -> np.ndarray:
    settings = {"used": len(train), "code": "sample", "seed": 0} | options
    return build(kind, model, train, **settings).of(train, rows, folder, quiet=True)


def test_each_kind_is_what_it_says(model: Model, train: Dataset, tmp_path: Path) -> None:
    x = train.images[ROWS]
    np.testing.assert_allclose(of("pixels", model, train, tmp_path), x.reshape(3, -1) / 255, rtol=1e-6)
    np.testing.assert_allclose(
        of("discriminator", model, train, tmp_path), model.discriminator_features(x), rtol=1e-4, atol=1e-6
    )
    mu = of("encoder", model, train, tmp_path, code="mu")
    np.testing.assert_allclose(mu, model.features(x, code="mu"), rtol=1e-4, atol=1e-6)
    sampled = of("encoder", model, train, tmp_path)
    np.testing.assert_array_equal(sampled[:, 5:], mu[:, 5:])
    noise = (sampled[:, :5] - mu[:, :5]) / model.posterior(x)[1]
    assert 0.3 < noise.std() < 2


def test_noise_belongs_to_the_image_and_the_seed(model: Model, train: Dataset, tmp_path: Path) -> None:
    first = of("encoder", model, train, tmp_path)
    np.testing.assert_array_equal(of("encoder", model, train, tmp_path, ROWS[::-1])[::-1], first)
    alone = of("encoder", model, train, tmp_path / "fresh", np.array([2]))
    np.testing.assert_allclose(alone, first[1:2], rtol=1e-4, atol=1e-6)
    other = of("encoder", model, train, tmp_path, seed=1)
    assert not np.allclose(other[:, :5], first[:, :5])
    np.testing.assert_array_equal(other[:, 5:], first[:, 5:])


def test_an_untrained_encoder_has_the_run_s_first_weights_and_statistics_of_its_own(
    model: Model, train: Dataset, tmp_path: Path
) -> None:
    trained = Model(state.build_model(model.config), model.config, 9, False)
    for parameter in trained.networks.encoder.parameters():
        parameter.data *= 0.9
    untrained = of("untrained", trained, train, tmp_path, np.arange(120), code="mu")
    np.testing.assert_array_equal(of("untrained", model, train, tmp_path, np.arange(120), code="mu"), untrained)
    assert not np.allclose(untrained[ROWS], of("encoder", trained, train, tmp_path, code="mu"))
    hidden = untrained[:, 5:]
    assert 0.5 < hidden.std() < 2  # as batch norm leaves it


def test_rows_are_kept_by_weights_and_data(
    model: Model, train: Dataset, held_out: Dataset, tmp_path: Path, monkeypatch
) -> None:
    asked, examine = [], Model.examine
    monkeypatch.setattr(Model, "examine", lambda self, x: asked.append(len(x)) or examine(self, x))
    of("encoder", model, train, tmp_path)
    of("encoder", model, train, tmp_path, code="mu", seed=3)  # the same raw rows
    assert asked == [1, 3, 1]  # single ones to see how wide a row is
    assert len(list(tmp_path.iterdir())) == 2
    of("encoder", model, replace(train, checksum="other"), tmp_path)
    build("encoder", model, train, 120, "mu", 0).of(held_out, ROWS, tmp_path, quiet=True)
    other = Model(state.build_model(replace(model.config, seed=1)), model.config, 0, False)
    of("encoder", other, train, tmp_path)
    assert len(list(tmp_path.iterdir())) == 8


def test_runs_without_encoder_or_d(model: Model) -> None:
    assert available(model) == KINDS
    for game, kinds in (("gan", ("pixels", "discriminator")), ("vae", ("encoder", "pixels", "untrained"))):
        config = replace(model.config, game=game)
        assert available(Model(state.build_model(config), config, 0, False)) == kinds


@pytest.mark.parametrize("game", ["ali", "gan"])
def test_points_have_no_tower(game: str) -> None:
    config = replace(PRESETS["mixture"], game=game, width=0.02)
    model = Model(state.build_model(config), config, 0, False)
    assert available(model) == ("pixels",)
    with pytest.raises(ValueError, match=r"^discriminator_features: this run's discriminator has no tower on x"):
        model.discriminator_features(np.zeros((3, 2), np.float32))


def test_no_images_have_no_features(model: Model) -> None:
    for features_of in (model.discriminator_features, model.features):
        with pytest.raises(ValueError, match="there are no images"):
            features_of(np.zeros((0, 32, 32, 3), np.uint8))


def test_keys_tell_weights_and_codes_apart(model: Model, train: Dataset) -> None:
    keys = {
        build(kind, model, train, 120, code, 0).key for kind in ("encoder", "untrained") for code in ("mu", "sample")
    }
    assert len(keys) == 4
    assert features.build("pixels", model, train, 120, "mu", 0).key == ""
