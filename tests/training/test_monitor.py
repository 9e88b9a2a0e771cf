"""What a run shows of itself: pictures and numbers in evaluation mode, comparable from look to look."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.data.mixture import MEANS, SIGMA
from alikit.metrics.latent import latent_health
from alikit.metrics.reconstruction import reconstruction_error, reconstruction_ratio
from alikit.nn import Pass
from alikit.training import state
from alikit.training.config import PRESETS
from alikit.training.monitor import Monitor, decode, encode_decode
from alikit.training.step import Trainer

SVHN = replace(PRESETS["svhn"], width=0.04, nz=3, seed=6, lr=0.01, init_std=0.3)
MIXTURE = replace(PRESETS["mixture"], width=0.03, lr=0.01)
EVALUATION = Pass(seed=6)


@pytest.fixture
def x(stream) -> np.ndarray:
    """Ten held-out images."""
    return stream("x").random((10, 32, 32, 3), np.float32)


def trained(config, x: np.ndarray) -> Trainer:
    trainer = state.build_trainer(config)
    for number in range(2):
        trainer.step(x[:6], number)
    return trainer


def test_pictures_and_numbers_of_images(tmp_path: Path, x: np.ndarray) -> None:
    trainer = trained(SVHN, x)
    before = {name: array.copy() for name, array in trainer.model.state().items()}
    numbers = Monitor(trainer, x, tmp_path, None, 0.0).look(20)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "latents-00000020.png",
        "reconstructions-00000020.png",
        "samples-00000020.png",
    ]
    for name, array in trainer.model.state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)

    z = trainer.model.encode(Tensor(x), EVALUATION)
    mu, sigma = (p.reshape(10, 3) for p in trainer.model.code_parameters(Tensor(x), EVALUATION))
    rebuilt = trainer.model.decode(z, EVALUATION).data
    wanted = {f"latent_{k}": v for k, v in latent_health(mu, sigma, z.data.reshape(10, 3)).items()} | {
        "reconstruction_error": reconstruction_error(x, rebuilt),
        "reconstruction_ratio": reconstruction_ratio(x, rebuilt),
    }
    assert numbers == pytest.approx(wanted, rel=1e-5)


def test_pictures_show_samples_and_pairs(tmp_path: Path, x: np.ndarray) -> None:
    """64 samples in 8 columns; odd columns of the other picture are the held-out images themselves."""
    trainer = trained(SVHN, x)
    Monitor(trainer, x, tmp_path, None, 0.0).look(1)
    samples = iio.imread(tmp_path / "samples-00000001.png")
    side = (samples.shape[0] - 2) // 8 - 2
    assert samples.shape == (8 * (side + 2) + 2, 8 * (side + 2) + 2, 3)
    first = trainer.model.decode(trainer.model.prior(64, EVALUATION), EVALUATION).data[0]
    scale = side // 32
    tile = samples[2 : 2 + side : scale, 2 : 2 + side : scale]
    np.testing.assert_allclose(tile / 255, first, atol=0.003)
    pairs = iio.imread(tmp_path / "reconstructions-00000001.png")
    np.testing.assert_allclose(pairs[6 : 6 + side : scale, 6 : 6 + side : scale] / 255, x[0], atol=0.003)


def test_two_looks_at_one_model_are_the_same_bytes(tmp_path: Path, x: np.ndarray) -> None:
    monitor = Monitor(trained(SVHN, x), x, tmp_path, None, 0.0)
    first, second = monitor.look(1), monitor.look(2)
    assert first == second
    for kind in ("samples", "reconstructions", "latents"):
        assert (tmp_path / f"{kind}-00000001.png").read_bytes() == (tmp_path / f"{kind}-00000002.png").read_bytes()


def test_the_averaged_weights_are_shown_and_the_run_s_own_come_back(tmp_path: Path, x: np.ndarray) -> None:
    plain, averaged = trained(SVHN, x), trained(replace(SVHN, ema=0.5), x)
    weights = averaged.adam_g.flat.data.copy()
    np.testing.assert_array_equal(weights, plain.adam_g.flat.data)
    assert averaged.ema is not None
    seen = Monitor(averaged, x, tmp_path, None, 0.0).look(1)
    np.testing.assert_array_equal(averaged.adam_g.flat.data, weights)
    assert seen != Monitor(plain, x, tmp_path, None, 0.0).look(2)
    plain.adam_g.flat.data[...] = averaged.ema.average
    assert seen == Monitor(plain, x, tmp_path, None, 0.0).look(2)


def test_points(tmp_path: Path, stream) -> None:
    x = (MEANS[stream("mode").integers(25, size=60)] + 0.05 * stream("x").standard_normal((60, 2))).astype(np.float32)
    x = x.reshape(60, 1, 1, 2)
    numbers = Monitor(trained(MIXTURE, x), x, tmp_path, MEANS, SIGMA).look(7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents-00000007.png", "samples-00000007.png"]
    assert {name for name in numbers if name.startswith("coverage_")}
    assert "latent_sigma_mean" not in numbers  # this encoder has no sigma
    assert 0 <= numbers["reconstruction_ratio"] < 2


def test_chunks_draw_noise_of_their_own_and_rows_keep_their_order(x: np.ndarray) -> None:
    model = trained(SVHN, x).model
    same = np.repeat(x[:1], 10, axis=0)
    mu, sigma, z, rebuilt = encode_decode(model, same, EVALUATION, chunk=4)
    assert mu is not None
    assert sigma is not None
    assert (mu.shape, sigma.shape, z.shape, rebuilt.shape) == ((10, 3), (10, 3), (10, 3), (10, 32, 32, 3))
    np.testing.assert_allclose(mu, np.repeat(mu[:1], 10, axis=0), rtol=1e-4, atol=1e-6)
    assert len(np.unique(z[:, 0])) == 10
    np.testing.assert_allclose(rebuilt, decode(model, z, EVALUATION, chunk=3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(encode_decode(model, x, EVALUATION)[0], encode_decode(model, x, EVALUATION, 3)[0], 1e-4)
