"""Pictures are judged by the colours found where the data say they must be."""

import numpy as np
import pytest

from alikit.training import plots
from alikit.training.axes import Axes, Figure, ticks

RNG = np.random.default_rng(11)
N, D = 400, 32


def posterior(
    spread: float = 0.9, sigma: float = 0.43589, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu, sigma, z with z ~ N(shift, spread^2 + sigma^2)."""
    mu = shift + spread * RNG.standard_normal((N, D))
    return mu, np.full((N, D), sigma), (mu + sigma * RNG.standard_normal((N, D))).astype(np.float32)


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 25) -> np.ndarray:
    return (np.abs(picture.astype(int) - colour) <= tolerance).all(axis=2)


def panel(picture: np.ndarray, number: int) -> np.ndarray:
    """The inside of one panel of the latent picture, below its legend."""
    left, top = (46, 358, 660)[number], (86, 100, 86)[number]
    return picture[top:253, left + 2 : left + 258]


def test_bars_fill_the_curve_when_codes_match_the_prior() -> None:
    picture = plots.latent_health(*posterior())
    assert picture.shape == (300, 930, 3)
    assert picture.dtype == np.uint8
    values = near(panel(picture, 0), plots.CODES)
    columns = np.flatnonzero(values.any(axis=0))
    assert abs(columns.mean() - 128) < 8  # around z = 0
    middle = panel(picture, 0)[:, 128]
    blue = near(middle[None], plots.CODES)[0]
    curve = np.flatnonzero((middle < 90).all(axis=1))[0]
    assert blue[curve + 20 :].all()  # bars from the axis up to the curve ...
    assert abs(np.flatnonzero(blue)[0] - curve) < 20  # ... and no further


def test_shifted_codes_show_in_every_panel() -> None:
    good, bad = plots.latent_health(*posterior()), plots.latent_health(*posterior(shift=1.5))
    centre = [np.nonzero(near(panel(picture, 0), plots.CODES))[1].mean() for picture in (good, bad)]
    assert centre[1] - centre[0] == pytest.approx(1.5 / 8 * 260, abs=8)
    height = [np.nonzero(near(panel(picture, 1), plots.MEAN))[0].mean() for picture in (good, bad)]
    assert height[1] < height[0] - 40  # the means have left their line at 0
    overlap = [length_overlap(picture) for picture in (good, bad)]
    assert overlap[0] > 0.8
    assert overlap[1] == 0


def length_overlap(picture: np.ndarray) -> float:
    """Share of the columns under the middle of the prior's curve that hold bars."""
    inside = panel(picture, 2)
    curve = (inside < 90).all(axis=2)
    columns = np.flatnonzero(curve[:130].any(axis=0))
    return near(inside, plots.CODES)[:, columns].any(axis=0).mean()


def test_posterior_deviation_is_drawn_at_its_height() -> None:
    rows = []
    for sigma in (0.2, 0.9):
        picture = plots.latent_health(*posterior(spread=0.3, sigma=sigma))
        rows.append(np.nonzero(near(panel(picture, 1), plots.SIGMA))[0].mean())
    pixels_per_unit = 204 / ((1.5 + 0.5) * 1.4)
    assert rows[0] - rows[1] == pytest.approx(0.7 * pixels_per_unit, abs=2)


def test_an_encoder_without_a_posterior_and_the_smallest_codes() -> None:
    picture = plots.latent_health(None, None, RNG.standard_normal((50, 2)))
    assert not near(panel(picture, 1), plots.SIGMA).any()
    assert near(panel(picture, 1), plots.STD).any()


@pytest.mark.parametrize("value", [0.0, 1e-30, 3e38, np.nan, np.inf])
def test_a_collapsed_or_exploded_encoder_is_drawn_too(value: float) -> None:
    z = np.full((20, 3), value, np.float32)
    assert plots.latent_health(z, np.abs(z), z).shape == (300, 930, 3)
    z[1:] = RNG.standard_normal((19, 3))
    assert plots.latent_health(z, np.ones_like(z), z).shape == (300, 930, 3)


def test_equal_codes_give_equal_pictures() -> None:
    codes = posterior()
    assert np.array_equal(plots.latent_health(*codes), plots.latent_health(*codes))


MEANS = np.array([(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)], float)


def mixture_picture() -> tuple[np.ndarray, np.ndarray]:
    modes = np.arange(500) % 25
    points = MEANS[modes]
    codes = points / 2
    reconstructions = MEANS[(modes + 1) % 25]  # each mode comes back as its neighbour
    prior, generated = np.full((40, 2), (1.0, -3.0)), np.full((60, 2), (-2.0, 4.0))
    return plots.mixture_figure(points, modes, codes, reconstructions, prior, generated), plots.mode_colours(25)


def colour_at(picture: np.ndarray, column: int, x: float, y: float, limit: int) -> np.ndarray:
    """The colour at data point (x, y) of a panel."""
    left = 34 + 280 * column
    return picture[int(30 + (limit - y) / (2 * limit) * 236), int(left + (x + limit) / (2 * limit) * 236)].astype(int)


def test_mixture_panels_show_each_mode_in_its_colour_and_place() -> None:
    picture, colours = mixture_picture()
    for mode, (x, y) in enumerate(MEANS):
        assert np.abs(colour_at(picture, 0, x, y, 6) - colours[mode]).max() < 6
        assert np.abs(colour_at(picture, 1, x / 2, y / 2, 4) - colours[mode]).max() < 6
        assert np.abs(colour_at(picture, 2, x, y, 6) - colours[(mode - 1) % 25]).max() < 6
    assert colour_at(picture, 3, 1, -3, 4).max() < 6
    assert colour_at(picture, 4, -2, 4, 6).max() < 6
    assert colour_at(picture, 4, 2, 4, 6).min() == 255


def test_colours_of_modes_differ() -> None:
    colours = plots.mode_colours(25)
    gaps = np.abs(colours[:, None] - colours[None]).max(axis=2) + 1000 * np.eye(25)
    assert gaps.min() > 12
    neighbours = np.abs(np.diff(colours, axis=0)).max(axis=1)
    assert neighbours.min() > 60


def test_mixture_with_points_far_outside_and_not_finite() -> None:
    wild = np.array(
        [[np.nan, 0], [np.inf, 1], [1, -np.inf], [1e30, 0], [7, 7], [-6.5, 0], [6.5, 0], [0, 6.5], [0, -6.5]]
    )
    picture = plots.mixture_figure(wild, np.arange(9), wild, wild, wild, wild)
    for column, limit in enumerate((6, 4, 6, 4, 6)):
        left = 34 + 280 * column
        assert (picture[34:262, left + 4 : left + 232] == 255).all(), limit


def test_dots_grow_opaque_and_mix() -> None:
    figure = Figure(100, 100)
    axes = Axes(figure, (0, 0, 100, 100), (0, 1), (0, 1), "")
    red, blue = (255.0, 0.0, 0.0), (0.0, 0.0, 255.0)
    axes.points(np.array([[0.25, 0.5]]), np.array([red]), radius=4, opacity=0.5)
    axes.points(np.array([[0.75, 0.5]] * 2), np.array([red, blue]), radius=4, opacity=0.5)
    picture = figure.to_array().astype(int)
    assert np.abs(picture[50, 25] - (255, 127, 127)).max() <= 1
    assert np.abs(picture[50, 75] - (159, 64, 159)).max() <= 1  # 3/4 of (127, 0, 127) on white
    assert (picture[20, 50] == 255).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-4, 4, [-4, -2, 0, 2, 4]),
        (0, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (1, 256, [50, 100, 150, 200, 250]),
        (0.55, 1.45, [0.6, 0.8, 1.0, 1.2, 1.4]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)
