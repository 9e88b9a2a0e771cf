"""Conditions by name, for commands: `--class 3`, `--attributes Smiling,Young`, and the sheets that vary them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alikit.errors import UsageError

if TYPE_CHECKING:  # NumPy must not be imported before BLAS is set up
    import numpy as np

    from alikit.inference import Model

SHEET = "sheet"
NONE = "none"

#: rows I to IV and columns (a) to (l) of the paper's sheet (section 4.4); what nobody names is off
ROWS = (("Male", "Attractive", "Young"), ("Male", "Attractive"), ("Attractive", "Young"), ("Attractive",))
COLUMNS: tuple[tuple[str, ...], ...] = (
    (),
    ("Black_Hair",),
    ("Brown_Hair",),
    ("Blond_Hair",),
    ("Black_Hair", "Wavy_Hair"),
    ("Blond_Hair", "Bangs"),
    ("Blond_Hair", "Receding_Hairline"),
    ("Blond_Hair", "Bald"),
    ("Black_Hair", "Smiling"),
    ("Black_Hair", "Smiling", "Mouth_Slightly_Open"),
    ("Black_Hair", "Smiling", "Mouth_Slightly_Open", "Eyeglasses"),
    ("Black_Hair", "Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat"),
)
#: on throughout the sheet, though the paper does not say so: a face without it is one with a beard
ALWAYS = ("No_Beard",)


def add_options(cli: argparse.ArgumentParser, sheets: bool) -> None:
    """--class and --attributes; sheets: whether they take `sheet` as well."""
    more = "; sheet: ten columns, one a class, each row one code" if sheets else ""
    cli.add_argument(
        "--class", dest="klass", metavar="NAME", help=f"conditional run of svhn or cifar10: the class, 3 or cat{more}"
    )
    more = "; sheet: the paper's 4 x 12 sheet, one code throughout" if sheets else ""
    cli.add_argument(
        "--attributes",
        metavar="A,B",
        help=f"conditional run of celeba: the attributes that are on, as Smiling,Young, or none{more}",
    )


def wants_sheet(options: argparse.Namespace) -> bool:
    """Whether a sheet was asked for."""
    return SHEET in (options.klass, options.attributes)


def chosen(options: argparse.Namespace, model: Model) -> np.ndarray | None:
    """The one condition that the options name, (A,) float32; None where they name none.

    UsageError for a run without conditions, or with others, and for a name that there is not.
    """
    if options.klass is None and options.attributes is None:
        return None
    if _kind(options, model) == "class":
        return vector(model.labels, [options.klass], "--class")
    names = [] if options.attributes == NONE else options.attributes.split(",")
    return vector(model.labels, names, "--attributes")


def of_samples(options: argparse.Namespace, model: Model, count: int) -> np.ndarray | None:
    """The conditions of `count` samples: that which the options name, else the classes in turn, or the paper's sheet of
    attributes over and over; None for a run without conditions. UsageError as for `chosen`."""
    import numpy as np

    from alikit.data import CLASSED

    named = chosen(options, model)
    if named is not None or not model.labels:
        return named
    kinds = np.eye(len(model.labels)) if model.config.dataset in CLASSED else attribute_sheet(model.labels)
    return np.resize(kinds, (count, len(model.labels)))


def vector(labels: Sequence[str], names: Sequence[str], option: str = "--attributes") -> np.ndarray:
    """(A,) float32: 1 at the labels named, whatever their case. UsageError for another name."""
    import numpy as np

    places = {label.lower(): place for place, label in enumerate(labels)}
    found = np.zeros(len(labels), np.float32)
    for name in names:
        if name.strip().lower() not in places:
            raise UsageError(f"{option}: there is no {name.strip()!r}: choose from {', '.join(labels)}")
        found[places[name.strip().lower()]] = 1
    return found


def attribute_sheet(labels: Sequence[str]) -> np.ndarray:
    """The conditions of the paper's sheet, row by row: (48, 40) float32."""
    import numpy as np

    return np.stack([vector(labels, [*row, *column, *ALWAYS]) for row in ROWS for column in COLUMNS])


def sheet(options: argparse.Namespace, model: Model, rows: int | None) -> tuple[np.ndarray, int, str]:
    """The images of the sheet asked for, (N, H, W, C), its columns, and what it is.

    rows   codes of a sheet of classes, 8 by default

    UsageError as for `chosen`.
    """
    import numpy as np

    if _kind(options, model) == "attributes":
        if rows:
            raise UsageError("--count: the sheet of attributes has 4 x 12 images of one code")
        y = attribute_sheet(model.labels)
        z = np.repeat(model.prior(1, options.seed), len(y), axis=0)
        return model.decode(z, y), len(COLUMNS), f"{len(ROWS)} x {len(COLUMNS)} attributes of one code"
    rows, classes = rows or 8, len(model.labels)
    z = np.repeat(model.prior(rows, options.seed), classes, axis=0)
    return model.decode(z, np.tile(np.arange(classes), rows)), classes, f"{rows} codes in {classes} classes"


def _kind(options: argparse.Namespace, model: Model) -> str:
    """Which of both options was given: "class" or "attributes". UsageError where the run has none, or the other."""
    from alikit.data import CLASSED

    kind = "attributes" if options.klass is None else "class"
    if not model.labels:
        raise UsageError(f"--{kind}: {options.run} is no conditional run (train one by --conditional)")
    wanted = "class" if model.config.dataset in CLASSED else "attributes"
    if kind != wanted or (options.klass and options.attributes):
        raise UsageError(f"--{'attributes' if wanted == 'class' else 'class'}: this run is given its --{wanted}")
    return kind
