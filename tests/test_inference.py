"""The Python interface: arrays in, arrays out, from a run folder or a checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import alikit
from alikit.autograd import Tensor
from alikit.data import Dataset, open_dataset
from alikit.errors import DataError
from alikit.inference import Model, warn_of_other_data
from alikit.nn import Pass
from alikit.training import checkpoint, runs, state
from alikit.training.config import PRESETS
from alikit.training.step import Trainer

IMAGES = replace(PRESETS["svhn"], width=0.04, nz=5, init_std=0.2, lr=0.01)
POINTS = replace(PRESETS["mixture"], width=0.02, init_std=0.2)


def written(folder: Path, config, steps: int = 3) -> Trainer:
    trainer = state.build_trainer(config)
    for number in range(steps):
        x = np.random.default_rng(number).random((6, *trainer.model.spec.image), np.float32)
        trainer.step(x, number)
    state.save(runs.checkpoint_path(folder, steps), trainer, config, steps, "")
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trainer]:
    """A run folder and the trainer whose checkpoint it holds."""
    folder = tmp_path_factory.mktemp("run")
    return folder, written(folder, IMAGES)


@pytest.fixture(scope="module")
def model(run: tuple[Path, Trainer]) -> Model:
    return alikit.load(run[0])


@pytest.fixture
def x(stream) -> np.ndarray:
    return stream("x").random((7, 32, 32, 3), np.float32)


def test_five_lines(run: tuple[Path, Trainer], x: np.ndarray) -> None:
    folder, trainer = run
    model = alikit.load(str(folder))
    z = model.encode(x)
    rebuilt = model.decode(z)
    assert (z.shape, z.dtype) == ((7, 5), np.float32)
    assert (rebuilt.shape, rebuilt.dtype) == ((7, 32, 32, 3), np.float32)
    assert rebuilt.min() >= 0
    assert rebuilt.max() <= 1
    codes = trainer.model.encode(Tensor(x), Pass())  # evaluation mode, the trainer's own weights and statistics
    np.testing.assert_allclose(z, codes.data.reshape(7, 5), rtol=1e-5)
    np.testing.assert_allclose(rebuilt, trainer.model.decode(codes, Pass()).data, rtol=1e-5)
    assert (model.step, model.averaged, model.shape, model.nz) == (3, False, (32, 32, 3), 5)
    assert model.config == IMAGES


def test_a_checkpoint_does_as_well_as_its_folder(run: tuple[Path, Trainer], model: Model, x: np.ndarray) -> None:
    other = alikit.load(runs.checkpoint_path(run[0], 3))
    np.testing.assert_array_equal(other.encode(x), model.encode(x))


def test_bytes_are_pixels_in_255ths(model: Model, stream) -> None:
    pixels = stream("x").integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(model.encode(pixels), model.encode(pixels / 255.0), rtol=1e-4, atol=1e-6)


def test_codes_are_drawn_from_the_posterior_by_seed(model: Model, x: np.ndarray) -> None:
    mu, sigma = model.posterior(x)
    assert mu.shape == sigma.shape == (7, 5)
    assert (sigma > 0).all()
    np.testing.assert_array_equal(model.encode(x, seed=1), model.encode(x, seed=1))
    draws = np.stack([(model.encode(x, seed) - mu) / sigma for seed in range(60)])
    assert abs(draws.mean()) < 0.1
    assert draws.std() == pytest.approx(1, abs=0.1)


def test_reconstruction_goes_through_a_sampled_code(model: Model, x: np.ndarray) -> None:
    np.testing.assert_array_equal(model.reconstruct(x, seed=3), model.decode(model.encode(x, seed=3)))
    assert not np.allclose(model.reconstruct(x, seed=3), model.reconstruct(x, seed=4), atol=1e-3)
    assert not np.allclose(model.reconstruct(x), model.decode(model.posterior(x)[0]), atol=1e-3)


def test_samples_by_seed(model: Model) -> None:
    samples = model.sample(4, seed=2)
    assert samples.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(samples, model.sample(4, seed=2))
    np.testing.assert_allclose(samples[:2], model.sample(2, seed=2), rtol=1e-5)
    assert not np.allclose(samples, model.sample(4, seed=3), atol=1e-3)
    assert len(np.unique(samples.reshape(4, -1), axis=0)) == 4


def test_a_row_s_result_does_not_depend_on_the_others(model: Model, stream) -> None:
    """More rows than one chunk holds; noise aside, each row is by itself."""
    x = stream("x").random((205, 32, 32, 3), np.float32)
    mu, sigma = model.posterior(x)
    alone = model.posterior(x[203:204])
    np.testing.assert_allclose(mu[203:204], alone[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sigma[203:204], alone[1], rtol=1e-4)
    z = model.encode(x)
    np.testing.assert_allclose(model.decode(z)[150:151], model.decode(z[150:151]), rtol=1e-4, atol=1e-6)
    same = model.encode(np.repeat(x[:1], 205, axis=0))
    assert len(np.unique(same, axis=0)) == 205  # noise of its own for every row of every chunk


def test_no_rows_at_all(model: Model) -> None:
    assert model.encode(np.empty((0, 32, 32, 3), np.float32)).shape == (0, 5)
    assert [part.shape for part in model.posterior(np.empty((0, 32, 32, 3)))] == [(0, 5), (0, 5)]
    assert model.decode(np.empty((0, 5))).shape == (0, 32, 32, 3)
    assert model.sample(0).shape == (0, 32, 32, 3)
    assert model.reconstruct(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("shape", [(7, 32, 32), (32, 32, 3), (2, 32, 32, 1), (2, 3, 32, 32), (2, 64, 64, 3), ()])
def test_images_of_another_shape(shape: tuple[int, ...], model: Model) -> None:
    for method in (model.encode, model.posterior, model.reconstruct):
        with pytest.raises(ValueError, match=r"^x: is \(.*, wanted \(N, 32, 32, 3\)"):
            method(np.zeros(shape))


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 10), (2, 1, 1, 6), (0, 4), ()])
def test_codes_of_another_shape(shape: tuple[int, ...], model: Model) -> None:
    with pytest.raises(ValueError, match=r"decode: z is \(.*, wanted \(N, 5\)"):
        model.decode(np.zeros(shape))


def test_codes_may_keep_their_two_axes_of_one(model: Model, stream) -> None:
    z = stream("z").standard_normal((2, 5))
    np.testing.assert_array_equal(model.decode(z.reshape(2, 1, 1, 5)), model.decode(z))


def test_averaged_weights_are_used_where_the_run_has_them(tmp_path: Path, x: np.ndarray) -> None:
    trainer = written(tmp_path, replace(IMAGES, ema=0.3))
    model = alikit.load(tmp_path)
    assert model.averaged
    assert trainer.ema is not None
    with trainer.ema.applied():
        averaged = trainer.model.encode(Tensor(x), Pass()).data.reshape(7, 5)
    np.testing.assert_allclose(model.encode(x), averaged, rtol=1e-5)
    assert not np.allclose(averaged, trainer.model.encode(Tensor(x), Pass()).data.reshape(7, 5), rtol=1e-3)


def test_points(tmp_path: Path) -> None:
    written(tmp_path, POINTS)
    model = alikit.load(tmp_path)
    x = np.ones((3, 1, 1, 2), np.float32)
    assert model.encode(x).shape == (3, 2)
    assert model.reconstruct(x).shape == model.sample(3).shape == (3, 1, 1, 2)
    with pytest.raises(ValueError, match="posterior: this run's encoder is not Gaussian"):
        model.posterior(x)


def test_what_cannot_be_loaded(tmp_path: Path, run: tuple[Path, Trainer]) -> None:
    with pytest.raises(DataError, match="no run folder and no checkpoint at"):
        alikit.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no checkpoint in"):
        alikit.load(tmp_path)
    path = runs.checkpoint_path(tmp_path, 3)
    good = runs.checkpoint_path(run[0], 3).read_bytes()
    for damaged in (b"", good[:100], good[:-1], b"\x89PNG\r\n" + bytes(3000), good[:5000] + b"!" + good[5001:]):
        path.write_bytes(damaged)
        for where in (path, tmp_path):
            with pytest.raises(DataError, match="checkpoint") as caught:
                alikit.load(where)
            assert "\n" not in str(caught.value)
    path.write_bytes(good)
    arrays, meta = checkpoint.load(path)
    del arrays["model/decoder.layers.0.conv.weight"]
    checkpoint.save(path, arrays, meta)
    with pytest.raises(DataError, match=r"does not hold the state of its model \(load_state: missing decoder"):
        alikit.load(path)


def by_hand(layer, x: np.ndarray) -> np.ndarray:
    """A layer's output before its leaky ReLU, in float64: convolution by its definition, population statistics."""
    weight, stride = layer.conv.weight.data.astype(np.float64), layer.conv.stride
    k, side = weight.shape[1], (x.shape[1] - weight.shape[1]) // stride + 1
    y = np.empty((len(x), side, side, len(weight)))
    for i in range(side):
        for j in range(side):
            patch = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, i, j] = np.einsum("nabc,oabc->no", patch, weight)
    if layer.norm is None:
        return y + (0 if layer.conv.bias is None else layer.conv.bias.data)
    norm = layer.norm
    scaled = (y - norm.buffers["running_mean"]) / norm.buffers["running_std"]
    return norm.gamma.data * scaled + norm.beta.data


def leaky(y: np.ndarray, slope: float = 0.01) -> np.ndarray:
    return np.where(y > 0, y, slope * y)


def test_features_are_batch_norm_outputs_before_the_leaky_relu(model: Model, x: np.ndarray) -> None:
    y, outputs = x.astype(np.float64), []
    layers = model.networks.encoder.layers
    for layer in layers[:-1]:
        outputs.append(by_hand(layer, y))
        y = leaky(outputs[-1])
    codes = by_hand(layers[-1], y).reshape(7, -1)
    hidden = np.concatenate([out.reshape(7, -1) for out in outputs[-3:]], axis=1)
    assert (hidden < 0).any()
    found = model.examine(x, seed=3)
    np.testing.assert_allclose(found.hidden, hidden, rtol=1e-3, atol=1e-4 * np.abs(hidden).max())
    np.testing.assert_allclose(found.mu, codes[:, :5], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.sigma, np.exp(codes[:, 5:]), rtol=1e-3)
    np.testing.assert_allclose(model.posterior(x)[1], found.sigma, rtol=1e-5)
    np.testing.assert_array_equal(model.encode(x, seed=3), found.z)
    np.testing.assert_array_equal(model.features(x, 3), np.concatenate([found.z, found.hidden], axis=1))
    np.testing.assert_array_equal(model.features(x, code="mu")[:, :5], found.mu)


def test_features_of_d_are_those_of_its_image_tower(model: Model, x: np.ndarray) -> None:
    y, outputs = x.astype(np.float64), []
    for layer in model.networks.discriminator.x.layers:
        outputs.append(by_hand(layer, y))
        y = leaky(outputs[-1])
    wanted = np.concatenate([out.reshape(7, -1) for out in outputs[-2:]], axis=1)
    found = model.discriminator_features(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_pieces_of_a_list_are_examined_as_the_whole(model: Model, stream) -> None:
    x = stream("x").integers(0, 256, (130, 32, 32, 3), np.uint8)
    whole, pieces = model.examine(x, 2), [model.examine(x[:100], 2), model.examine(x[100:], 2, first=100)]
    for name in ("mu", "sigma", "z", "hidden"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    np.testing.assert_array_equal(whole.z, model.encode(x, 2))
    assert not np.array_equal(model.examine(x[100:], 2).z, pieces[1].z)


def test_maxout_and_no_batch_norm_have_features_too(stream) -> None:
    config = replace(PRESETS["cifar10"], width=0.04, nz=5, init_std=0.2)
    model = Model(state.build_model(config), config, 0, False)
    x = stream("x").random((3, 32, 32, 3), np.float32)
    y = Tensor(x)
    for layer in model.networks.discriminator.x.layers:
        y = layer(y, Pass())
    found = model.discriminator_features(x)
    np.testing.assert_array_equal(found[:, -y.data[0].size :], y.data.reshape(3, -1))


def test_points_are_taken_as_their_data_set_gives_them() -> None:
    model, points = Model(state.build_model(POINTS), POINTS, 0, False), open_dataset("mixture").take(range(5))
    images = points.reshape(5, 1, 1, 2)
    np.testing.assert_array_equal(model.encode(points, 3), model.encode(images, 3))
    np.testing.assert_array_equal(model.reconstruct(points), model.reconstruct(images))
    found = model.interpolate(points[:2], points[2:4], 3)
    np.testing.assert_array_equal(found, model.interpolate(images[:2], images[2:4], 3))
    assert found.shape == (2, 3, 1, 1, 2)
    with pytest.raises(ValueError, match=r"^x: is \(5, 3\), wanted \(N, 1, 1, 2\)"):
        model.encode(np.zeros((5, 3)))


def test_who_has_no_features_says_so(x: np.ndarray) -> None:
    points = Model(state.build_model(POINTS), POINTS, 0, False)
    gan_config, vae_config = (replace(IMAGES, game=game) for game in ("gan", "vae"))
    gan, vae = (Model(state.build_model(config), config, 0, False) for config in (gan_config, vae_config))
    assert (points.gaussian, gan.gaussian, vae.gaussian) == (False, False, True)
    for model, batch in ((points, np.zeros((2, 1, 1, 2))), (gan, x)):
        with pytest.raises(ValueError, match="no Gaussian encoder"):
            model.examine(batch)
    assert gan.discriminator_features(x).shape[0] == 7
    with pytest.raises(ValueError, match="no discriminator"):
        vae.discriminator_features(x)
    with pytest.raises(ValueError, match="there are no images"):
        vae.examine(x[:0])


def test_interpolation_decodes_sampled_codes_of_both_ends(model: Model, x: np.ndarray) -> None:
    found = model.interpolate(x[:3], x[3:6], 4, seed=5)
    assert found.shape == (3, 4, 32, 32, 3)
    z = model.encode(x[:6], seed=5)
    np.testing.assert_allclose(found[:, 0], model.decode(z[:3]), atol=1e-6)
    np.testing.assert_allclose(found[:, 3], model.decode(z[3:]), atol=1e-6)
    np.testing.assert_allclose(found[:, 1], model.decode(z[:3] * 2 / 3 + z[3:] / 3), atol=1e-5)


def test_a_misspelt_code_and_seeds_of_numpy(model: Model, x: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features: code is 'Mu'; wanted 'sample' or 'mu'"):
        model.features(x, code="Mu")
    np.testing.assert_array_equal(model.sample(2, seed=np.int64(3)), model.sample(2, seed=3))


def test_other_data_than_the_run_s_are_told_of(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    dataset = Dataset(name="svhn", split="train", source="there", checksum="abc", images=np.zeros((2, 32, 32, 3)))
    for known, warnings in (("", 0), ("abc", 0), ("def", 1)):
        monkeypatch.setattr(model, "data_checksum", known)
        warn_of_other_data(model, dataset, told.append)
        assert len(told) == warnings
    assert told[0].startswith("there: not the data that this run was trained on")
