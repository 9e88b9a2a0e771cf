"""Validation error against C, one line for each kind of features, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alikit.errors import AlikitError


def validation_curve(exponents: np.ndarray, curves: Sequence[tuple[str, np.ndarray, float]]) -> np.ndarray:
    """exponents: (grid,) c of C = exp(c); curves: (title, errors (grid,) as shares, the C chosen) -> (h, w, 3) uint8.

    AlikitError where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise AlikitError('--plot needs matplotlib: pip install "alikit[eval]"') from None
    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # no window system is asked for
    axes = figure.add_subplot()
    for title, errors, chosen in curves:
        (line,) = axes.plot(exponents, 100 * errors, label=title)
        at = int(np.argmin(np.abs(exponents - np.log(chosen))))
        axes.plot(exponents[at], 100 * errors[at], "o", color=line.get_color())
    axes.set_xlabel("c, with C = exp(c); dots: chosen")
    axes.set_ylabel("validation error, %")
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
