"""Pictures of a run: do the codes follow the prior, what became of the 2-D mixture, how does the test error fall."""

import math
from collections.abc import Sequence

import numpy as np

from alikit.metrics import latent
from alikit.training.axes import INK, PALE, Axes, Colour, Figure, ticks

CODES: Colour = (129, 178, 223)
STD: Colour = (31, 104, 168)
SIGMA: Colour = (230, 126, 34)
MEAN: Colour = (39, 150, 96)


def latent_health(mu: np.ndarray | None, sigma: np.ndarray | None, z: np.ndarray) -> np.ndarray:
    """The encoder's codes against the prior N(0, I), as a picture (300, 930, 3) uint8.

    mu, sigma, z: (N, d), the posterior's mean and deviation and the code drawn from it, for N images; mu and sigma may
    both be None. Left: all values of z (bars) against the density of N(0, 1) (line). Middle: per dimension, sorted, the
    mean of z (should lie on 0), its deviation (on 1) and the mean posterior deviation. Right: the squared length of the
    codes over d against its density under the prior. If bars fill the lines, the codes match the prior.
    """
    numbers = latent.latent_health(mu, sigma, z)
    finite = np.isfinite(z).all(axis=1)
    figure = Figure(930, 300)
    summary = f"{len(z)} codes of {z.shape[1]} dimensions"
    summary += f": mean KS distance {numbers['ks_mean']:.3f} (0 best, 1 worst)"
    if "dead" in numbers:
        summary += f", dead dimensions {numbers['dead']:.0%}"
    figure.text(465, 14, summary, "mm")
    codes = z[finite].astype(np.float64)
    if len(codes):
        _values(figure, codes)
        _dimensions(figure, codes, None if sigma is None else sigma[finite])
        _lengths(figure, codes)
    return figure.to_array()


def mixture_figure(
    points: np.ndarray,
    modes: np.ndarray,
    codes: np.ndarray,
    reconstructions: np.ndarray,
    prior: np.ndarray,
    generated: np.ndarray,
) -> np.ndarray:
    """The paper's figure of the 2-D mixture (one of its columns, laid on its side), as a picture (h, w, 3) uint8.

    points: (N, 2) test points, modes: (N,) the component each was drawn from, codes and reconstructions: (N, 2) of
    these points, coloured by component; prior: (M, 2) codes from the prior, generated: (M, 2) their decodings, black.
    Equal aspect; x axes within 6, z axes within 4.
    """
    colours = mode_colours(int(modes.max()) + 1)[modes]
    panels = [
        ("test points x", points, colours, 6),
        ("codes of the test points", codes, colours, 4),
        ("reconstructions", reconstructions, colours, 6),
        ("prior samples z", prior, np.zeros((len(prior), 3)), 4),
        ("generated points", generated, np.zeros((len(generated), 3)), 6),
    ]
    side, pitch = 236, 280
    figure = Figure(pitch * len(panels) + 8, side + 60)
    for column, (title, values, inks, limit) in enumerate(panels):
        left = 34 + pitch * column
        axes = Axes(figure, (left, 30, left + side, 30 + side), (-limit, limit), (-limit, limit), title)
        axes.points(values, inks)
        axes.frame(range(-limit, limit + 1, 2), range(-limit, limit + 1, 2))
    return figure.to_array()


def points_figure(points: np.ndarray) -> np.ndarray:
    """points: (N, 2) of the mixture, generated -> a picture of one panel, (h, w, 3) uint8."""
    side = 420
    figure = Figure(side + 50, side + 60)
    axes = Axes(figure, (34, 30, 34 + side, 30 + side), (-6, 6), (-6, 6), f"{len(points)} generated points")
    finite = np.isfinite(points).all(axis=1)
    axes.points(points[finite], np.zeros((int(finite.sum()), 3)))
    axes.frame(range(-6, 7, 2), range(-6, 7, 2))
    return figure.to_array()


def error_curve(steps: Sequence[int], errors: Sequence[float], chance: float, paper: float | None) -> np.ndarray:
    """Test errors, shares, after some steps, as a picture (h, w, 3) uint8.

    chance   the error of always saying the commonest class, a pale line;  paper: the paper's, a line, where it has one
    """
    figure, percent = Figure(520, 320), 100 * np.array(errors)
    last = max(steps[-1], 1)
    axes = Axes(figure, (46, 34, 500, 270), (0, last), (0, 100), "test error, %", "steps")
    lines = [("by chance", 100 * chance, PALE)]
    if paper is not None:
        lines.append((f"the paper: {paper:g}", paper, SIGMA))
    for _, value, colour in lines:
        axes.line(np.array([0.0, last]), np.array([value, value]), colour)
    axes.line(np.array(steps, float), percent, STD, 2.0)
    axes.points(np.stack([steps, percent], axis=1), np.tile(STD, (len(steps), 1)), 2.5, 1.0)
    figure.text(500, 20, f"{percent[-1]:.2f} after {steps[-1]:,} steps", "rm")
    axes.legend([(name, colour) for name, _, colour in lines])
    axes.frame()
    return figure.to_array()


def _values(figure: Figure, z: np.ndarray) -> None:
    edges, x = np.linspace(-4, 4, 81), np.linspace(-4, 4, 321)
    density = np.histogram(z, edges)[0] / (z.size * np.diff(edges))
    axes = Axes(figure, (46, 50, 306, 254), (-4, 4), (0, max(0.5, 1.1 * density.max())), "all code values", "z")
    axes.bars(edges, density, CODES)
    axes.line(x, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi), INK)
    axes.legend([("codes", CODES), ("N(0, 1)", INK)])
    axes.frame()


def _dimensions(figure: Figure, z: np.ndarray, sigma: np.ndarray | None) -> None:
    curves = [("std of z", np.sort(z.std(axis=0)), STD), ("mean of z", np.sort(z.mean(axis=0)), MEAN)]
    if sigma is not None:
        curves.insert(1, ("mean sigma(x)", np.sort(sigma.mean(axis=0, dtype=np.float64)), SIGMA))
    low = min(-0.5, *(values.min() for _, values, _ in curves))
    high = max(1.5, *(values.max() for _, values, _ in curves))
    high += 0.4 * (high - low)  # room for the legend
    last = max(z.shape[1], 2)
    rank = np.arange(1, z.shape[1] + 1)
    axes = Axes(figure, (358, 50, 618, 254), (1, last), (low, high), "each dimension", "dimensions, sorted per curve")
    for target in (0.0, 1.0):
        axes.line(np.array([1.0, last]), np.array([target, target]), PALE)
    for _, values, colour in curves:
        axes.line(rank, values, colour, 2.0)
    axes.legend([(name, colour) for name, _, colour in curves])
    axes.frame([value for value in ticks(1, last) if value.is_integer()])


def _lengths(figure: Figure, z: np.ndarray) -> None:
    d = z.shape[1]
    lengths, spread = np.square(z).mean(axis=1), math.sqrt(2 / d)
    low, high = np.quantile(lengths, [0.005, 0.995])
    xlim = max(0.0, min(1 - 4 * spread, low)), max(1 + 4 * spread, high)
    edges, x = np.linspace(*xlim, 51), np.linspace(*xlim, 401)[1:]
    density = np.histogram(lengths, edges)[0] / (len(z) * np.diff(edges))
    expected = _chi_square_mean(x, d)
    top = 1.3 * max(density.max(), expected.max())  # room for the legend
    axes = Axes(figure, (660, 50, 920, 254), xlim, (0, top), "length of the codes", "|z|^2 / d")
    axes.bars(edges, density, CODES)
    axes.line(x, expected, INK)
    axes.legend([("codes", CODES), ("N(0, I)", INK)])
    axes.frame()


def _chi_square_mean(x: np.ndarray, d: int) -> np.ndarray:
    """The density of the mean of d squared N(0, 1) variables, at x > 0."""
    log = (d / 2 - 1) * np.log(d * x) - d * x / 2 - d / 2 * math.log(2) - math.lgamma(d / 2) + math.log(d)
    return np.exp(log)


def mode_colours(count: int) -> np.ndarray:
    """(count, 3) colours that differ between neighbours: hues a golden angle apart, in three lightnesses in turn."""
    import colorsys

    lightness = (0.45, 0.62, 0.33)
    colours = [colorsys.hls_to_rgb(k * 0.618034 % 1, lightness[k % 3], 0.75) for k in range(count)]
    return np.array(colours) * 255
