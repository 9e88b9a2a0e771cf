"""A small plotter on Pillow, because the core has no matplotlib: figures, axes, bars, lines, points, text.

Everything is drawn four times as large and averaged down, which smooths the edges.
Boxes are (left, top, right, bottom) in final pixels; data coordinates run upwards.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Colour = tuple[int, int, int]
Limits = tuple[float, float]

INK: Colour = (40, 40, 40)
PALE: Colour = (222, 222, 222)
_FINE = 4  # subpixels per pixel and direction
_TEXT = 11  # pixels


class Figure:
    """A white picture of width x height pixels."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._image = Image.new("RGB", (width * _FINE, height * _FINE), "white")
        self._font = ImageFont.load_default(_TEXT * _FINE)
        self.draw = ImageDraw.Draw(self._image)

    def text(self, x: float, y: float, text: str, anchor: str = "lm", colour: Colour = INK) -> None:
        """Writes at pixel (x, y); anchor as Pillow has it ("lm": left middle, "mt": middle top)."""
        self.draw.text((x * _FINE, y * _FINE), text, colour, self._font, anchor)

    def blend(self, left: int, top: int, colours: np.ndarray, alpha: np.ndarray) -> None:
        """Lays colours: (h, w, 3) uint8 with alpha: (h, w) uint8, of 255, over the subpixels from (left, top) on."""
        from PIL import Image

        self._image.paste(Image.fromarray(colours), (left, top), Image.fromarray(alpha))

    def to_array(self) -> np.ndarray:
        """-> (height, width, 3) uint8."""
        return np.asarray(self._image.reduce(_FINE))


class Axes:
    """A framed box of a figure with a title, ticks and labels; data outside the limits is not drawn."""

    def __init__(
        self, figure: Figure, box: tuple[int, int, int, int], xlim: Limits, ylim: Limits, title: str, xlabel: str = ""
    ) -> None:
        self.figure, self.box, self.xlim, self.ylim = figure, box, xlim, ylim
        left, top, right, bottom = box
        figure.text((left + right) / 2, top - 8, title, "ms")
        figure.text((left + right) / 2, bottom + 20, xlabel, "mt")

    def frame(self, xticks: Sequence[float] | None = None, yticks: Sequence[float] | None = None) -> None:
        """The border with ticks, at round numbers unless told. Call it last: it covers what was drawn to the rim."""
        left, top, right, bottom = self.box
        for value in ticks(*self.xlim) if xticks is None else xticks:
            x = self._x(value)
            self._stroke([(x, bottom), (x, bottom + 3)], INK, 1.0)
            self.figure.text(x, bottom + 5, f"{value:g}", "mt")
        for value in ticks(*self.ylim) if yticks is None else yticks:
            y = self._y(value)
            self._stroke([(left - 3, y), (left, y)], INK, 1.0)
            self.figure.text(left - 6, y, f"{value:g}", "rm")
        self._stroke([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 1.0)

    def bars(self, edges: np.ndarray, heights: np.ndarray, colour: Colour) -> None:
        """A histogram: edges (n + 1,), heights (n,)."""
        x, y = self._x(edges) * _FINE, self._y(np.clip(heights, *self.ylim)) * _FINE
        for start, stop, top in zip(x[:-1], x[1:], y, strict=True):
            self.figure.draw.rectangle((start, top, stop, self.box[3] * _FINE), colour)

    def line(self, x: np.ndarray, y: np.ndarray, colour: Colour, width: float = 1.5) -> None:
        """A line through the points x, y: (n,); values beyond the limits run along the rim."""
        self._stroke(list(zip(self._x(x), self._y(np.clip(y, *self.ylim)), strict=True)), colour, width)

    def points(self, points: np.ndarray, colours: np.ndarray, radius: float = 1.3, opacity: float = 0.35) -> None:
        """Dots at points: (n, 2), colours: (n, 3) in 0..255; where dots overlap their colours mix and grow opaque.

        Points that are not finite are outside the limits too.
        """
        left, top, right, bottom = (edge * _FINE for edge in self.box)
        x = np.rint(self._x(points[:, 0]) * _FINE) - left
        y = np.rint(self._y(points[:, 1]) * _FINE) - top
        dot = _disc(round(radius * _FINE))
        x, y = (x[:, None] + dot[:, 0]).ravel(), (y[:, None] + dot[:, 1]).ravel()
        width, height = right - left, bottom - top
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        place = (y[seen] * width + x[seen]).astype(np.int64)
        counts = np.bincount(place, minlength=width * height)
        inked = np.flatnonzero(counts)  # of many subpixels a few
        count, inks = counts[inked], np.repeat(colours, len(dot), axis=0)[seen].astype(np.float64)
        mixed, alpha = np.zeros((height * width, 3), np.uint8), np.zeros(height * width, np.uint8)
        for channel, ink in enumerate(inks.T):
            mixed[inked, channel] = np.rint(np.bincount(place, ink, width * height)[inked] / count)
        alpha[inked] = np.rint((1 - (1 - opacity) ** count) * 255)
        self.figure.blend(left, top, mixed.reshape(height, width, 3), alpha.reshape(height, width))

    def legend(self, entries: Sequence[tuple[str, Colour]]) -> None:
        """Names with a short line of their colour each, below one another in the upper left corner."""
        left, top = self.box[0] + 8, self.box[1] + 11
        for row, (name, colour) in enumerate(entries):
            y = top + 15 * row
            self._stroke([(left, y), (left + 14, y)], colour, 3.0)
            self.figure.text(left + 19, y, name)

    def _x(self, value: Any) -> Any:
        left, _, right, _ = self.box
        return left + (value - self.xlim[0]) / (self.xlim[1] - self.xlim[0]) * (right - left)

    def _y(self, value: Any) -> Any:
        _, top, _, bottom = self.box
        return bottom - (value - self.ylim[0]) / (self.ylim[1] - self.ylim[0]) * (bottom - top)

    def _stroke(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        self.figure.draw.line(fine, colour, round(width * _FINE), joint="curve")


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers (steps of 1, 2 or 5 times a power of ten) within [low, high]."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _disc(radius: int) -> np.ndarray:
    """The offsets (n, 2) of the pixels of a disc."""
    span = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(span, span)
    inside = x**2 + y**2 <= (radius + 0.5) ** 2
    return np.stack([x[inside], y[inside]], axis=1)
