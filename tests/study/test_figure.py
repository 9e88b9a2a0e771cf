"""The paper's figure: where its panels are, and what is drawn in them."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from alikit.errors import AlikitError
from alikit.study import figure


def columns(rng: np.random.Generator, models: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    names = [name for _, name, _ in figure.ROWS]
    return {model: {name: rng.uniform(-3, 3, (40, 2)) for name in names} for model in models}


@pytest.fixture
def draw(tmp_path: Path, stream):
    """draw(columns, points in each panel): the picture, (h, w, 3)."""
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib, of the extra eval")

    def make(found: dict, count: int = 40) -> np.ndarray:
        modes = np.arange(count) % 25
        figure.draw(tmp_path / "figure.png", found, modes, ["words"] * len(found))
        return iio.imread(tmp_path / "figure.png")[..., :3]

    return make


def test_a_column_for_each_model_and_five_rows(draw, stream) -> None:
    wide = draw(columns(stream("x"), ("ali", "inverse", "posthoc", "vae")))
    narrow = draw(columns(stream("x"), ("ali",)))
    assert wide.shape[0] == narrow.shape[0] > 5 * narrow.shape[1] / 2
    assert wide.shape[1] > 2.5 * narrow.shape[1]


def test_points_are_coloured_by_mode_and_samples_black(draw, stream) -> None:
    found = columns(stream("x"), ("ali",))
    picture = draw(found).astype(int)
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 40).any(axis=1)
    rows = np.flatnonzero(coloured) / len(coloured)
    assert rows.min() < 0.2
    assert 0.45 < rows.max() < 0.62  # the upper three rows of five, under a title


def test_points_that_are_not_finite_or_outside_are_left_out(draw, stream) -> None:
    found = columns(stream("x"), ("ali",))
    before = draw(found)
    for arrays in found.values():
        for name in arrays:
            arrays[name] = np.concatenate([arrays[name], [[np.nan, 0.0], [99.0, 0.0], [0.0, np.inf]]])
    np.testing.assert_array_equal(draw(found, 43), before)


def test_equal_figures_are_equal_bytes(draw, tmp_path: Path, stream) -> None:
    found = columns(stream("x"), ("ali", "vae"))
    draw(found)
    first = (tmp_path / "figure.png").read_bytes()
    draw(found)
    assert (tmp_path / "figure.png").read_bytes() == first
    assert b"Software" not in first


def test_without_matplotlib_it_is_said_before_the_work(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AlikitError, match=r'the figure needs matplotlib: pip install "alikit\[eval\]", or --no-figure'):
        figure.check_matplotlib()
