from dataclasses import replace

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.errors import DataError
from alikit.inference import Model
from alikit.metrics.reconstruction import mean_pair_error, reconstruction_error
from alikit.models.classifier import Classifier
from alikit.scoring import scores
from alikit.scoring.scores import Score
from alikit.training import state
from alikit.training.images import to_uint8
from tests.scoring.conftest import CONFIG

NETWORK = Classifier((32, 32, 3), 3)
NAMES = ("toy train", "toy test")


def by_name(found: list[Score]) -> dict[tuple[str, str], Score]:
    return {(score.name, score.against): score for score in found}


def test_images_are_chosen_apart_and_by_seed(train: Dataset, held_out: Dataset) -> None:
    real = scores.choose(train, 100, held_out, 1000, 0)
    assert len(real.train) == len(real.other) == len(real.held_out) == 40
    used = {image.tobytes() for image in train.images[:100]}
    halves = [{image.tobytes() for image in half} for half in (real.train, real.other)]
    assert halves[0] | halves[1] <= used
    assert not halves[0] & halves[1]
    again, other = scores.choose(train, 100, held_out, 1000, 0), scores.choose(train, 100, held_out, 1000, 1)
    np.testing.assert_array_equal(again.train, real.train)
    assert not np.array_equal(other.held_out, real.held_out)
    place = {image.tobytes(): label for image, label in zip(held_out.images, held_out.labels, strict=True)}
    assert [place[image.tobytes()] for image in real.held_out] == real.labels.tolist()


def test_too_few_to_judge_by(train: Dataset, held_out: Dataset) -> None:
    with pytest.raises(DataError, match="scores need more than 5 images to judge against, found 5"):
        scores.choose(train, 10, held_out, 1000, 0)


class Replay:
    """A "model" whose samples are given images."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def prior(self, count: int, seed: int) -> np.ndarray:
        return np.arange(count)

    def decode(self, z: np.ndarray) -> np.ndarray:
        return self.images[z] / np.float32(255)


def test_a_model_that_draws_other_training_images_has_its_floor(train: Dataset, held_out: Dataset) -> None:
    real = scores.choose(train, 120, held_out, 40, 0)
    found = scores.of_samples(Replay(real.other), NETWORK, real, NAMES, 1, 0, quiet=True)  # type: ignore[arg-type]
    assert len(found) == 2 * 9
    for score in found:
        assert (score.std, score.images) == (None, 40)
        assert score.value == pytest.approx(score.floor, abs=1e-9), score.name


def test_copies_of_training_images_are_told_from_held_out_ones(train: Dataset, held_out: Dataset) -> None:
    real = scores.choose(train, 120, held_out, 40, 0)
    found = by_name(scores.of_samples(Replay(real.train), NETWORK, real, NAMES, 1, 0, True))  # type: ignore[arg-type]
    assert found["two_sample", "toy train"].value == 0
    assert found["frechet", "toy train"].value == pytest.approx(0, abs=1e-6)
    assert found["two_sample", "toy test"].value > 0.2
    assert found["two_sample", "toy train"].floor > 0.2


def test_draws_are_independent_sets_of_samples(model: Model, train: Dataset, held_out: Dataset, monkeypatch) -> None:
    real, seeds, draw = scores.choose(train, 120, held_out, 12, 0), [], Model.prior
    monkeypatch.setattr(Model, "prior", lambda self, count, seed: seeds.append(seed) or draw(self, count, seed))
    found = scores.of_samples(model, NETWORK, real, NAMES, 3, 7, quiet=True)
    assert seeds == [7, 8, 9]
    assert all(score.std is not None for score in found)
    assert by_name(found)["frechet", "toy train"].std > 0


def test_features_are_measured_in_deviations_of_real_ones(model: Model, train: Dataset, held_out: Dataset) -> None:
    """A classifier whose features are a thousand times as large gives the same scores."""
    real = scores.choose(train, 120, held_out, 20, 0)
    loud = Classifier((32, 32, 3), 3)
    norm = loud.body.layers[-1].norm
    norm.gamma.data *= 1000
    norm.beta.data *= 1000
    both = [scores.of_samples(model, network, real, NAMES, 1, 0, quiet=True) for network in (NETWORK, loud)]
    for a, b in zip(*both, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-2, abs=1e-3), a.name


def test_an_encoder_that_is_no_gaussian_has_scores_of_codes_too(train: Dataset, held_out: Dataset) -> None:
    config = replace(CONFIG, game="inverse", init_std=0.5)
    model = Model(state.build_model(config), config, 0, False)
    real = scores.choose(train, 120, held_out, 30, 0)
    found = by_name(scores.of_codes(model, NETWORK, real, "toy test", 5, quiet=True))
    rebuilt = to_uint8(model.reconstruct(real.held_out, 5))
    error = reconstruction_error(real.held_out, rebuilt)
    assert found["reconstruction_error", "toy test"].value == pytest.approx(error)
    assert ("latent_ks_mean", "toy test") in found
    assert ("latent_sigma_mean", "toy test") not in found


def test_scores_of_codes(model: Model, train: Dataset, held_out: Dataset) -> None:
    real = scores.choose(train, 120, held_out, 30, 0)
    found = by_name(scores.of_codes(model, NETWORK, real, "toy test", 5, quiet=True))
    rebuilt = to_uint8(model.decode(model.encode(real.held_out, 5)))
    error = found["reconstruction_error", "toy test"]
    assert error.value == pytest.approx(reconstruction_error(real.held_out, rebuilt))
    assert error.floor == pytest.approx(mean_pair_error(real.held_out))
    assert found["reconstruction_ratio", "toy test"].floor == 1
    for name in ("label_agreement", "reconstruction_accuracy"):
        assert 0 <= found[name, "toy test"].value <= 1
        assert 0 < found[name, "toy test"].floor <= 1
    ks = found["latent_ks_mean", "toy test"]
    assert ks.floor < 0.3
    assert ks.value >= 0
    assert found["latent_dead", "toy test"].floor is None
    blind = scores.of_codes(model, NETWORK, real._replace(labels=None), "toy test", 5, quiet=True)
    assert not any("label" in score.name or "accuracy" in score.name for score in blind)


def test_a_perfect_reconstruction_agrees_in_every_label(model: Model, train: Dataset, held_out: Dataset) -> None:
    real = scores.choose(train, 120, held_out, 30, 0)
    found = scores._label_scores(NETWORK, real.held_out, real.held_out, real.labels, "toy test")
    agree, right = found
    assert agree.value == 1
    assert right.value == scores.accuracy(NETWORK, real.held_out, real.labels)
    assert f"{right.value:.3f}" in right.best


def test_attributes_have_answers_one_by_one(held_out: Dataset) -> None:
    both = replace(held_out, labels=np.stack([held_out.labels > 0, held_out.labels > 1, held_out.labels < 0], axis=1))
    share = scores.accuracy(NETWORK, both.images, both.labels.astype(np.uint8))
    assert 0 <= share <= 1
    assert share * 3 * len(both) == pytest.approx(round(share * 3 * len(both)))


def test_pixels_are_measured_on_no_more_than_enough(
    model: Model, train: Dataset, held_out: Dataset, monkeypatch
) -> None:
    monkeypatch.setattr(scores, "CODES", 10)
    real = scores.choose(train, 120, held_out, 30, 0)
    found = scores.of_codes(model, NETWORK, real, "toy test", 5, quiet=True)
    assert {score.images for score in found} == {10}
