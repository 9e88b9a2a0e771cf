"""The paper's figure of the mixture (its figure 6), by matplotlib: five rows, a column for each model with an encoder.

Held-out points, their codes and their reconstructions coloured by mode; draws from the prior and their decodings black.
Equal aspect; x axes within 6, z axes within 4.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alikit.errors import AlikitError
from alikit.study.report import TITLES
from alikit.training.files import write_atomic
from alikit.training.plots import mode_colours

#: row -> (its name at the left, the arrays drawn, limit of both axes)
ROWS = (
    ("held-out points", "points", 6),
    ("codes", "codes", 4),
    ("reconstructions", "reconstructions", 6),
    ("prior", "prior", 4),
    ("generated", "generated", 6),
)
BY_MODE = ("points", "codes", "reconstructions")


def check_matplotlib() -> None:
    """AlikitError with the way out where matplotlib is not installed: before the hours, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise AlikitError(
            'the figure needs matplotlib: pip install "alikit[eval]", or --no-figure for the tables alone'
        )


def draw(path: Path, columns: Mapping[str, dict[str, np.ndarray]], modes: np.ndarray, captions: Sequence[str]) -> None:
    """Writes the figure as a PNG file.

    columns    model -> (N, 2) arrays by the names in ROWS;  modes: (N,) of the held-out points
    captions   a line under each column's title
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.7 * len(columns) + 0.5, 13.2), dpi=110)
    axes = figure.subplots(len(ROWS), len(columns), squeeze=False)
    inks = mode_colours(int(modes.max()) + 1)[modes] / 255
    for c, ((model, arrays), caption) in enumerate(zip(columns.items(), captions, strict=True)):
        for r, (title, name, limit) in enumerate(ROWS):
            _panel(axes[r, c], arrays[name], inks if name in BY_MODE else "black", limit)
            if c == 0:
                axes[r, c].set_ylabel(title)
        axes[0, c].set_title(f"({'abcdefgh'[c]}) {TITLES[model].replace(' + ', ' +' + chr(10))}\n{caption}", fontsize=9)
    figure.tight_layout()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # no version: equal figures, equal bytes
    write_atomic(path, [buffer.getbuffer()])


def _panel(axes: Any, points: np.ndarray, colours: Any, limit: int) -> None:
    finite = np.isfinite(points).all(axis=1)
    inks = colours[finite] if isinstance(colours, np.ndarray) else colours
    axes.scatter(points[finite, 0], points[finite, 1], s=3, c=inks, alpha=0.3, linewidths=0)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_xticks(range(-limit, limit + 1, 2))
    axes.set_yticks(range(-limit, limit + 1, 2))
    axes.tick_params(labelsize=7)
