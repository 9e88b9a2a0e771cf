"""House numbers drawn by the program itself, in the look of SVHN's cropped digits: what `--demo` learns from.

No file, no font, no download: a picture is arithmetic on distance fields (see `glyphs`), one scene per (seed, index):

    number  a digit of SVHN's class frequencies among its neighbours, in one of the faces
    view    tilt, slant and perspective of the plane they lie in
    scene   wall, plate, relief and shadow, ink, light; tones drawn from the spread measured on the real crops
    lens    blur, few original pixels, noise, JPEG (see `lens`)

Distances give antialiasing for nothing: the share of a pixel inside an outline is clip(1/2 - F / pixel, 0, 1), so
everything is drawn at 32 x 32 at once. The setting is that of Netzer et al. 2011, Reading Digits in Natural Images
with Unsupervised Feature Learning.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alikit.data.glyphs import FACES, MARGIN, UNIT, glyph, rounded_box
from alikit.data.lens import photograph

SIDE = 32
# The share of each digit 0..9 among the 73,257 digits of SVHN's training set.
FREQUENCIES = np.array([4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]) / 73257
_CUMULATED = np.cumsum(FREQUENCIES)
_Y, _X = (np.mgrid[:SIDE, :SIDE] + 0.5) * (2.0 / SIDE) - 1.0  # the frame, -1..1 both ways
_LOOSE = np.array([0.06, 0.07, 0.12, 0.05, 0.05, 0.05, 0.05])  # how far the camera's angles and offsets scatter
_LUMA = np.array([0.299, 0.587, 0.114])


def draw(seed: int, index: int) -> tuple[np.ndarray, int]:
    """House number `index` of the endless series `seed`: the same picture whenever and wherever it is drawn.

    seed, index: 0 <= value < 2**64. Returns the picture, (32, 32, 3) uint8, and the digit at its centre, 0..9.
    Raises ValueError for a seed or an index outside its range.

    >>> picture, label = draw(seed=0, index=41)
    """
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**64:
            raise ValueError(f"draw: {name} must be in 0 .. 2**64 - 1, not {value}")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    number = _number(rng)
    return photograph(rng, _scene(rng, number, _view(rng, number))), number.label


@dataclass(frozen=True)
class _Number:
    """A row of digits. Lengths are in digit heights, u along the row, v downwards, the first digit's corner at 0."""

    label: int  # the digit that the picture is about
    middle: float  # u of its middle
    length: float  # u of the last digit's end
    stem: float  # half the thickness of its strokes
    field: np.ndarray  # (UNIT + 2 MARGIN, columns), signed distance to the nearest outline

    def distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The field at (u, v), each (32, 32), by bilinear interpolation: (32, 32)."""
        rows, columns = self.field.shape
        column = np.clip(u * UNIT + (MARGIN - 0.5), 0.0, columns - 1.001)
        row = np.clip(v * UNIT + (MARGIN - 0.5), 0.0, rows - 1.001)
        left, top = column.astype(np.int32), row.astype(np.int32)
        right, down = column - left, row - top
        flat, corner = self.field.ravel(), top * columns + left
        above = flat[corner] + right * (flat[corner + 1] - flat[corner])
        corner += columns
        below = flat[corner] + right * (flat[corner + 1] - flat[corner])
        return above + down * (below - above)


@dataclass(frozen=True)
class _View:
    """Where the frame's pixels lie on the wall."""

    u: np.ndarray  # (32, 32), digit heights
    v: np.ndarray  # (32, 32)
    pixel: float  # digit heights per pixel

    def share(self, distance: np.ndarray) -> np.ndarray:
        """The share of each pixel that is inside, from its signed distance to the outline."""
        return np.clip(0.5 - distance / self.pixel, 0.0, 1.0)


class _Tones(NamedTuple):
    """RGB colours, each (3,), 0..1."""

    wall: np.ndarray
    ground: np.ndarray  # what the digits stand on: a plate, or the wall itself
    ink: np.ndarray


def _number(rng: np.random.Generator) -> _Number:
    """A number of one to four digits; which of them is the label's place is left to chance."""
    count = 1 + int(np.searchsorted((0.10, 0.42, 0.85), rng.random()))
    place = int(rng.integers(count))
    digits = np.searchsorted(_CUMULATED[:-1], rng.random(count), side="right")
    face, gap = int(rng.integers(len(FACES))), round(UNIT * rng.uniform(0.04, 0.16))
    fields = [glyph(face, int(digit)) for digit in digits]
    widths = [field.shape[1] - 2 * MARGIN for field in fields]
    offsets = np.concatenate([[0], np.cumsum(np.array(widths) + gap)])
    strip = np.full((UNIT + 2 * MARGIN, offsets[-1] - gap + 2 * MARGIN), 1.0)
    for field, offset in zip(fields, offsets, strict=False):
        part = strip[:, offset : offset + field.shape[1]]
        np.minimum(part, field, out=part)
    middle = offsets[place] + widths[place] / 2
    return _Number(int(digits[place]), middle / UNIT, (offsets[-1] - gap) / UNIT, FACES[face].radius, strip)


def _view(rng: np.random.Generator, number: _Number) -> _View:
    """The camera in front of the number: the labelled digit in the middle, most of the frame's height."""
    height = np.clip(0.76 + 0.10 * rng.standard_normal(), 0.5, 1.0)
    tilt, slant, squeeze, lean_x, lean_y, shift_x, shift_y = _LOOSE * rng.standard_normal(7)
    if rng.random() < 0.12:  # italics and plates hung askew
        slant, tilt = slant + 0.22, tilt * 2.5
    depth = 1.0 + lean_x * _X + lean_y * _Y
    x, y = (_X - shift_x) / depth, (_Y - shift_y) / depth
    cosine, sine, scale = np.cos(tilt), np.sin(tilt), 0.5 / height
    v = (scale * cosine) * y - (scale * sine) * x
    along = scale * np.exp(0.10 + squeeze)  # plates favour narrow digits
    u = (along * cosine) * x + (along * sine) * y + slant * v
    return _View(u + number.middle, v + 0.5, 1.0 / (SIDE * height))


def _scene(rng: np.random.Generator, number: _Number, view: _View) -> np.ndarray:
    """Wall, plate and digits under one light: (3, 32, 32) RGB, 0..1, before the lens."""
    tones = _tones(rng, number.stem)
    plated = rng.random() < 0.55
    canvas = (tones.wall if plated else tones.ground)[:, None, None] + _texture(rng, view)
    if plated:
        _plate(rng, canvas, number, view, tones)
    elif rng.random() < 0.25:  # a door frame, a pipe, the end of the wall
        edge = (_X if rng.random() < 0.8 else _Y) * (1.0 if rng.random() < 0.5 else -1.0) + 0.2 * view.v
        _over(canvas, tones.wall, view.share(rng.uniform(0.6, 0.95) - edge))
    _digits(rng, canvas, number, view, tones)
    return _lit(rng, canvas)


def _plate(rng: np.random.Generator, canvas: np.ndarray, number: _Number, view: _View, tones: _Tones) -> None:
    """A plate behind the number, with its shadow on the wall, perhaps a border line and two screws; paints in place."""
    margin_u, margin_v = 0.07 + 0.45 * rng.random(2) ** 1.4
    outline = rounded_box(
        abs(view.u - number.length / 2) - (number.length / 2 + margin_u),
        abs(view.v - 0.5) - (0.5 + margin_v),
        radius=rng.uniform(0.0, 0.15),
    )
    canvas *= 1.0 - rng.uniform(0.0, 0.5) * view.share(outline - 0.06)
    _over(canvas, tones.ground, view.share(outline))
    style = rng.random()
    if style < 0.3:
        _over(canvas, tones.ink, view.share(abs(outline + rng.uniform(0.03, 0.06)) - 0.018))
    elif style < 0.5:
        _over(canvas, tones.ground + rng.uniform(-0.25, 0.25), view.share(abs(outline) - 0.03))
    if rng.random() < 0.15:
        for end in (-margin_u / 2, number.length + margin_u / 2):
            screw = np.hypot(view.u - end, view.v - 0.5) - 0.035
            _over(canvas, tones.ground * rng.uniform(0.3, 0.8), view.share(screw))


def _digits(rng: np.random.Generator, canvas: np.ndarray, number: _Number, view: _View, tones: _Tones) -> None:
    """The number itself: painted, with a shadow on the ground, in relief, or with a rim; paints in place."""
    distance = number.distance(view.u, view.v) - 0.012 * rng.standard_normal()  # a bolder or a lighter pen
    share, style = view.share(distance), rng.random()
    if style < 0.45:
        angle, reach = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.02, 0.06)
        moved = view.share(number.distance(view.u - reach * np.cos(angle), view.v - reach * np.sin(angle)))
    if style < 0.25:
        canvas *= 1.0 - rng.uniform(0.15, 0.5) * moved
    elif style > 0.92:
        rim = tones.ground + rng.uniform(0.2, 0.6) * (tones.ground - tones.ink)
        _over(canvas, rim, view.share(distance - 0.045))
    _over(canvas, tones.ink, share)
    if 0.25 <= style < 0.45:
        canvas += rng.uniform(0.1, 0.3) * (share - moved)  # lit flanks on one side, dark ones on the other


def _texture(rng: np.random.Generator, view: _View) -> np.ndarray:
    """What the wall is made of, as a change of brightness (32, 32): bricks, boards, plaster, or nothing to speak of."""
    kind, depth = rng.random(), rng.uniform(0.03, 0.12)
    if kind < 0.10:
        course = rng.uniform(0.25, 0.45)
        row = view.v / course + rng.random()
        column = view.u / (course * 2.6) + 0.5 * (np.floor(row) % 2) + rng.random()
        joint = np.minimum(abs(row % 1.0 - 0.5), abs(column % 1.0 - 0.5) * 2.6) * course
        return 1.5 * depth * view.share(joint - 0.02)
    if kind < 0.20:
        board = (view.v / rng.uniform(0.3, 0.7) + rng.random()) % 1.0
        return -depth * board**6
    if kind < 0.30:
        grain = rng.standard_normal(int(rng.integers(8, SIDE)))
        return 0.5 * depth * np.interp(_Y if rng.random() < 0.5 else _X, np.linspace(-1, 1, len(grain)), grain)
    return 0.2 * depth * rng.standard_normal((SIDE, SIDE))


def _lit(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """`canvas` under uneven light, sometimes with the edge of a cast shadow across it."""
    falls = 0.10 * rng.standard_normal(2)
    light = 1.0 + falls[0] * _X + falls[1] * _Y
    if rng.random() < 0.10:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        edge = np.cos(angle) * _X + np.sin(angle) * _Y + rng.uniform(-0.8, 0.8)
        light *= 1.0 - rng.uniform(0.15, 0.45) * np.clip(0.5 + edge * rng.uniform(1, 8), 0.0, 1.0)
    return np.clip(canvas * light, 0.0, 1.0)


def _tones(rng: np.random.Generator, stem: float) -> _Tones:
    """Colours whose levels, contrast and tints scatter as the real crops' do; `stem`: half the strokes' thickness."""
    light_ink = rng.random() < 0.48
    thin = (0.075 / stem) ** 0.4  # thin digits lose more to the lens, so they start with more
    contrast = np.clip(0.31 * thin * np.exp(0.34 * rng.standard_normal()), 0.23, 0.8)
    level = (0.27 if light_ink else 0.60) + 0.15 * rng.standard_normal()
    level = np.clip(level, 0.10, 0.92 - contrast) if light_ink else np.clip(level, 0.10 + contrast, 0.97)
    other = level + contrast if light_ink else level - contrast
    ground, ink = _chroma(rng, level, 0.032), _chroma(rng, other, 0.025)
    family = rng.random()
    if family < 0.16:  # enamel: white on blue, blue on white
        blue = np.array([-0.05, 0.13]) * np.exp(0.4 * rng.standard_normal())
        ground, ink = (blue, ink) if light_ink else (ground, blue)
    elif family < 0.23:  # a painted wall or a coloured digit
        angle = rng.uniform(0.0, 2.0 * np.pi)
        strong = rng.uniform(0.08, 0.22) * np.array([np.cos(angle), np.sin(angle)])
        ground, ink = (strong, ink) if rng.random() < 0.6 else (ground, strong)
    wall = np.clip(0.46 + 0.16 * rng.standard_normal(), 0.10, 0.95)
    cast = _chroma(rng, 0.5, 0.020)  # the camera's white balance
    return _Tones(_rgb(wall, cast + _chroma(rng, wall, 0.030)), _rgb(level, cast + ground), _rgb(other, cast + ink))


def _chroma(rng: np.random.Generator, level: float, spread: float) -> np.ndarray:
    """R - Y and B - Y of a tone of luma `level`: from warm to cool mostly, heavy-tailed, bluer where it is dark."""
    cool = rng.laplace(0.0, spread)
    return np.array([-0.003 - 0.4 * cool + rng.laplace(0.0, 0.009), 0.059 - 0.10 * level + cool])


def _rgb(level: float, chroma: np.ndarray) -> np.ndarray:
    """The colour (3,) of luma `level` whose R - Y and B - Y are `chroma`."""
    red, blue = chroma
    green = -(_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
    return np.clip(level + np.array([red, green, blue]), 0.0, 1.0)


def _over(canvas: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Paint `colour` (3,) over the canvas (3, 32, 32) where `share` (32, 32) says, in place."""
    canvas += share * (colour[:, None, None] - canvas)
