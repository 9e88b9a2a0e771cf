"""The models ALI is compared with: their sizes, their encoders, what is frozen."""

import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.models import ALI, GAN, SPECS, VAE, Generative, InverseMapping, PostHoc
from alikit.nn import Pass


def count(module) -> int:
    return sum(p.data.size for p in module.parameters())


def test_the_mixture_s_players_count_their_parameters() -> None:
    """405,201 and 484,802 are the authors' (method 2.6); the encoders differ from ALI's in input and output alone."""
    spec = SPECS["mixture"]
    gan, vae, inverse, posthoc = (kind(spec) for kind in (GAN, VAE, InverseMapping, PostHoc))
    assert (count(gan.decoder), count(gan.discriminator)) == (484_802, 405_201)
    assert count(vae.encoder) == 2 * 400 + 800 + 400 * 400 + 800 + 400 * 4 + 4
    assert count(inverse.encoder) == 2 * 400 + 800 + 400 * 400 + 800 + 400 * 2 + 2
    assert (count(posthoc.encoder), count(posthoc.discriminator)) == (164_002, 407_201)
    assert count(vae) == count(vae.encoder) + count(vae.decoder)


def test_the_gan_s_d_of_images_is_ali_s_without_the_code() -> None:
    gan, ali = GAN(SPECS["svhn"]), ALI(SPECS["svhn"])
    assert count(gan.discriminator.x) == count(ali.discriminator.x) == 2_789_632
    assert count(gan.discriminator.xz) == count(ali.discriminator.xz) - 512 * 1024


@pytest.mark.parametrize("kind", [GAN, VAE, InverseMapping, PostHoc])
def test_decoders_start_like_ali_s(kind: type[Generative]) -> None:
    spec = SPECS["small"].resized(0.1, 3)
    other, ali = kind(spec, seed=5), ALI(spec, seed=5)
    for (name, p), (wanted, q) in zip(other.decoder.named_parameters(), ali.decoder.named_parameters(), strict=True):
        assert name == wanted
        np.testing.assert_array_equal(p.data, q.data)


def test_a_gan_has_no_encoder() -> None:
    gan = GAN(SPECS["mixture"].resized(0.03))
    x = Tensor(np.zeros((2, 1, 1, 2), np.float32))
    assert not gan.encodes
    assert {name for name, _ in gan.children()} == {"decoder", "discriminator"}
    with pytest.raises(ValueError, match="encode: a GAN has no encoder"):
        gan.encode(x, Pass())
    with pytest.raises(ValueError, match="code_parameters: a GAN has no encoder"):
        gan.code_parameters(x, Pass())


def test_the_vae_s_encoder_of_points_is_gaussian() -> None:
    model = VAE(SPECS["mixture"].resized(0.05), seed=3)
    x = Tensor(np.ones((4000, 1, 1, 2), np.float32))
    found = model.code_parameters(x, Pass())
    assert found is not None
    mu, sigma = (values.reshape(-1, 2) for values in found)
    z = model.encode(x, Pass()).data.reshape(-1, 2)
    np.testing.assert_allclose(z.mean(axis=0), mu[0], atol=0.06)
    np.testing.assert_allclose(z.std(axis=0), sigma[0], rtol=0.06)


@pytest.mark.parametrize("name", ["mixture", "small"])
def test_the_inverse_mapping_is_a_function(name: str) -> None:
    model = InverseMapping(SPECS[name].resized(0.1, None if name == "mixture" else 3))
    x = Tensor(np.random.default_rng(0).random((3, *model.spec.image), np.float32))
    first, again = model.encode(x, Pass(step=1)), model.encode(x, Pass(step=2))
    np.testing.assert_array_equal(first.data, again.data)
    assert first.shape == (3, 1, 1, model.spec.nz)
    assert model.code_parameters(x, Pass()) is None


def test_post_hoc_inference_has_ali_s_noise() -> None:
    model = PostHoc(SPECS["mixture"].resized(0.1))
    x = Tensor(np.ones((2, 1, 1, 2), np.float32))
    first, again = model.encode(x, Pass(step=1)), model.encode(x, Pass(step=2))
    assert not np.array_equal(first.data, again.data)


@pytest.mark.parametrize(
    ("kind", "networks"),
    [(ALI, {"encoder", "decoder"}), (GAN, {"decoder"}), (VAE, {"encoder", "decoder"}), (PostHoc, {"encoder"})],
)
def test_who_moves_to_please_the_generators_loss(kind: type[Generative], networks: set[str]) -> None:
    model = kind(SPECS["mixture"].resized(0.03))
    named = dict(model.generator_parameters())
    assert {name.partition(".")[0] for name in named} == networks
    assert all(named[name] is p for name, p in model.named_parameters() if name in named)
