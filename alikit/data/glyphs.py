"""Digits as distance fields: the typefaces of the drawn house numbers, with no font file behind them.

A digit is a skeleton, written below as a path in a unit box (x to the right, y down), and a face says how a pen goes
along it: how wide, how bold, how round. What is kept is the signed distance to the outline, in digit heights,

    F(p) = min over segments s of |p - s| - r(s),        negative inside the ink,

because everything a house number does to its digits is arithmetic on F: F < 0 is the ink, F < 0.01 a bolder ink,
|F - 0.05| < 0.01 a line around it, clip(1/2 - F / pixel, 0, 1) the antialiased ink at any size.

The pen is thinner where it runs sideways, r(s) = r (1 - contrast |t_x|^1.5) for a segment of direction t: with
contrast 0 a sign painter's grotesque, with 0.7 the enamel plate's Didone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

UNIT = 32  # samples of the field per digit height
MARGIN = 12  # samples around the digit, so that shadows and outlines fit

# Strokes are separated by "|". M starts one, L is a line, C a cubic; H and V are quarter turns that leave their point
# horizontally (vertically) and arrive the other way. O is a dot. "-" before a stroke makes it a hairline, "+" keeps it
# bold. The letter after the digit names a form: s serif, b ball terminals, f flat top, o open, d diagonal, c curved.
_SKELETONS = {
    "0": "M .5 0 H 1 .5 V .5 1 H 0 .5 V .5 0",
    "1": "M 1 1 L 1 0 | - M 1 .03 L 0 .24",
    "1c": "M 1 1 L 1 0 | M 1 0 C .9 .14 .5 .2 0 .21",
    "1s": "M .55 1 L .55 0 | - M .5 .02 L 0 .2 | - M 0 1 L 1.1 1",
    "2": "M 0 .3 V .5 0 H 1 .28 C 1 .58 .18 .72 0 1 | M 0 1 L 1 1",
    "2b": "M 0 .27 V .48 0 H .96 .27 C .96 .58 .1 .72 0 1 | + M .1 .98 L .9 .98 | - M 1 .8 L .97 1 | O .1 .25",
    "3": "M 0 .24 V .47 0 H .95 .25 V .42 .47 | M .42 .47 H 1 .73 V .48 1 H 0 .75",
    "3b": "M 0 .2 V .46 0 H .93 .24 V .36 .46 | M .36 .46 H 1 .73 V .46 1 H 0 .8 | O .1 .22 | O .1 .77",
    "3f": "M 0 0 L .95 0 | M .95 0 L .42 .4 | M .42 .4 H 1 .7 V .48 1 H 0 .78",
    "4": "M .75 1 L .75 0 | - M .72 0 L 0 .69 | M 0 .7 L 1.05 .7",
    "4o": "M .45 0 L 0 .66 | M 0 .66 L 1 .66 | M .74 .36 L .74 1",
    "4s": "M .72 1 L .72 0 | - M .68 0 L 0 .7 | M 0 .72 L 1.05 .72 | - M .45 1 L 1 1",
    "5": "M .92 0 L .13 0 | M .13 0 L .05 .48 | M .05 .48 C .2 .38 .35 .36 .5 .36 H 1 .67 V .48 1 H 0 .77",
    "5b": "+ M .9 .03 L .13 .03 | - M .08 .02 L .08 .46 | M .08 .46 C .2 .38 .35 .36 .5 .36 H 1 .68 V .46 1 H 0 .8"
    " | O .1 .78",
    "6": "M .5 .38 H 1 .69 V .5 1 H 0 .69 V .5 .38 | M .95 .22 V .54 0 H 0 .5 L 0 .69",
    "6b": "M .52 .4 H 1 .7 V .5 1 H 0 .7 V .52 .4 | M .92 .2 V .56 0 H 0 .5 L 0 .7 | O .85 .2",
    "6d": "M .5 .36 H 1 .68 V .5 1 H 0 .68 V .5 .36 | M .74 0 C .4 .24 0 .46 0 .68",
    "7": "M 0 0 L 1 0 | M 1 0 L .3 1",
    "7c": "M 0 0 L 1 0 | M 1 0 C .62 .34 .38 .62 .35 1",
    "7s": "+ M .05 .04 L 1 .04 | M .97 0 C .5 .5 .4 .7 .4 1 | - M 0 .02 L 0 .25",
    "8": "M .5 0 H .93 .24 V .5 .47 H .07 .24 V .5 0 | M .5 .47 H 1 .735 V .5 1 H 0 .735 V .5 .47",
}
_TURNED = {"9": "6", "9b": "6b", "9d": "6d"}  # a nine is a six upside down
_NARROW = {"1": 0.52, "1c": 0.6, "1s": 0.72}  # width of a form over the face's width; 1 for all others
_STEPS = 7  # segments of a curve


@dataclass(frozen=True)
class Face:
    """How the skeletons are inked: widths and radii in digit heights.

    width: of a digit with its ink. radius: half of a stem's thickness. contrast: how much thinner horizontals are.
    turn: length of a quarter turn's handles (0.5523 a circle, towards 1 a corner). rounded: round stroke ends.
    forms: the skeletons taken instead of the plain ones.
    """

    width: float
    radius: float
    contrast: float = 0.0
    turn: float = 0.5523
    rounded: bool = False
    forms: str = ""

    def form(self, digit: int) -> str:
        """The skeleton's name for `digit`."""
        return next((name for name in self.forms.split() if name[0] == str(digit)), str(digit))


_DIDONE = "1s 2b 3b 4s 5b 6b 7s 9b"
FACES = (
    Face(0.56, 0.062, 0.15, 0.60, forms="1c"),  # grotesque: regular, bold, condensed, heavy
    Face(0.60, 0.092, 0.20, 0.62, forms="1c 7c"),
    Face(0.44, 0.080, 0.20, 0.72, forms="1c 7c"),
    Face(0.68, 0.115, 0.30, 0.62),
    Face(0.54, 0.058, 0.05, 0.70, forms="6d 9d"),  # road sign
    Face(0.62, 0.060, 0.00, 0.5523, forms="6d 9d 4o"),  # geometric
    Face(0.54, 0.036, 0.00, 0.58, forms="1c"),  # thin, and thin condensed
    Face(0.42, 0.045, 0.10, 0.70),
    Face(0.58, 0.098, 0.68, 0.56, forms=_DIDONE),  # Didone: wide, regular, condensed
    Face(0.50, 0.090, 0.70, 0.60, forms=_DIDONE),
    Face(0.41, 0.082, 0.68, 0.66, forms=_DIDONE),
    Face(0.52, 0.058, 0.55, 0.56, forms="1s 3b 2b 7s"),  # book serif
    Face(0.56, 0.075, 0.25, 0.60, forms="1s 4s 7s"),  # slab
    Face(0.54, 0.066, 0.00, 0.62, rounded=True, forms="3f"),  # rounded, and a squarish one
    Face(0.52, 0.060, 0.00, 0.88, forms="4o"),
)


@cache
def glyph(face: int, digit: int) -> np.ndarray:
    """The distance field of `digit` (0..9) in `FACES[face]`.

    Returns F: (UNIT + 2 MARGIN, columns) float64 in digit heights, UNIT samples to the height; sample [MARGIN, MARGIN]
    is half a sample inside the upper left corner of the digit's box. The array is kept for the next call: read-only.
    """
    style = FACES[face]
    form = style.form(digit)
    width = style.width * _NARROW.get(form, 1.0)
    starts, ends, radii, square = _segments(style, form, width)
    columns = round(width * UNIT) + 2 * MARGIN
    y, x = np.mgrid[: UNIT + 2 * MARGIN, :columns] + 0.5 - MARGIN
    points = np.stack([x, y], axis=-1).reshape(-1, 1, 2) / UNIT
    field = _distance(points, starts, ends, square) - radii
    field = field.min(axis=1).reshape(y.shape)
    box = np.maximum(abs(x / UNIT - width / 2) - width / 2, abs(y / UNIT - 0.5) - 0.5)
    field = np.maximum(field, box)  # square ends of slanting strokes are cut along the box
    field.flags.writeable = False
    return field


def rounded_box(across: np.ndarray, along: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a box with round corners, from the signed distances to its two pairs of sides."""
    x, y = across + radius, along + radius
    return np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0)) + np.minimum(np.maximum(x, y), 0.0) - radius


def _distance(points: np.ndarray, starts: np.ndarray, ends: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Distances (P, S) of points (P, 1, 2) to segments (S, 2); at the `square` ends (S, 2) the nib is a square."""
    run = ends - starts
    length = np.hypot(run[:, 0], run[:, 1])
    along_x, along_y = (run / np.maximum(length, 1e-9)[:, None]).T
    dx, dy = points[..., 0] - starts[:, 0], points[..., 1] - starts[:, 1]
    along, across = dx * along_x + dy * along_y, abs(dx * along_y - dy * along_x)
    before, after = np.maximum(-along, 0.0), np.maximum(along - length, 0.0)
    round_end, square_end = np.hypot(across, before + after), np.maximum(across, before + after)
    dot = length < 1e-9
    round_end[:, dot] = np.hypot(dx, dy)[:, dot]
    return np.where((square[:, 0] & (before > 0)) | (square[:, 1] & (after > 0)), square_end, round_end)


def _segments(style: Face, form: str, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The inked skeleton: starts and ends (S, 2) in digit heights, radii (S,), square ends (S, 2) bool."""
    thin = style.radius * (1.0 - style.contrast)
    corner, size = np.array([style.radius, thin]), np.array([width - 2 * style.radius, 1.0 - 2 * thin])
    starts, ends, radii, square = [], [], [], []
    for stroke in _SKELETONS[_TURNED.get(form, form)].split("|"):
        line = np.array(list(_trace(stroke.split(), style.turn)))
        line = corner + size * (1.0 - line if form in _TURNED else line)
        run = np.diff(line, axis=0)
        sideways = abs(run[:, 0]) / np.maximum(np.hypot(run[:, 0], run[:, 1]), 1e-9)
        weight = 1.0 - style.contrast * sideways**1.5
        for sign, fixed in (("-", 1.0 - style.contrast), ("+", 1.0), ("O", 1.25)):
            weight = np.full_like(weight, fixed) if sign in stroke else weight
        cap = np.zeros((len(run), 2), bool)
        cap[0, 0] = cap[-1, 1] = not style.rounded and "O" not in stroke
        starts.append(line[:-1])
        ends.append(line[1:])
        radii.append(style.radius * weight)
        square.append(cap)
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(radii), np.concatenate(square)


def _trace(words: list[str], turn: float) -> Iterator[np.ndarray]:
    """The points of one stroke, curves cut into `_STEPS` segments."""
    here, words = np.zeros(2), [word for word in words if word not in "+-"]
    while words:
        command, count = words[0], 6 if words[0] == "C" else 2
        numbers = np.array(words[1 : 1 + count], float).reshape(-1, 2)
        words = words[1 + count :]
        there = numbers[-1]
        if command in "MLO":
            yield there
            if command == "O":
                yield there
        else:
            handle = turn * (there - here) * (np.array([1, 0]) if command == "H" else np.array([0, 1]))
            first, second = (here + handle, there - turn * (there - here) + handle) if command != "C" else numbers[:2]
            t = np.linspace(0.0, 1.0, _STEPS + 1)[1:, None]
            yield from (1 - t) ** 3 * here + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * there
        here = there
