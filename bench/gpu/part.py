"""The words that all parts share: a part is a list of items, an item gives rows, of which the part's table is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, NamedTuple

Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the command line asked for, as every worker is told.

    device   "cuda", or "interpreted": tiny shapes, nothing is timed
    out      folder of rows, logs and runs
    data     folder of the real SVHN, or None for drawn house numbers
    seconds  of real training
    scale    factor on the parts' budgets
    only     of each part the items with this in their name
    """

    device: str = "cuda"
    out: str = "."
    data: str | None = None
    seconds: float = 60.0
    scale: float = 1.0
    only: str = ""

    @property
    def timed(self) -> bool:
        """Whether times mean anything."""
        return self.device == "cuda"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `Options(**...)` is the inverse."""
        return asdict(self)


class Item(NamedTuple):
    """One thing to check or to measure.

    run      gives its rows; an exception is the item's failure and nobody else's
    seconds  after which it counts as hanging
    """

    name: str
    run: Callable[[], list[Row]]
    seconds: float = 60.0


class Part(NamedTuple):
    """A part of the command.

    module   in bench.gpu, with `items(options) -> list[Item]` and `table(rows) -> list[str]`
    budget   seconds; items that do not fit are named and left out
    timed    whether nothing else may run meanwhile
    """

    name: str
    title: str
    module: str
    budget: float
    timed: bool = False

    def items(self, options: Options) -> list[Item]:
        """What it does, in order; imports what it needs, so that only a worker asks."""
        items: list[Item] = import_module(f"bench.gpu.{self.module}").items(options)
        return [item for item in items if options.only in item.name]

    def table(self, rows: list[Row]) -> list[str]:
        """The short table of whatever rows there are."""
        return import_module(f"bench.gpu.{self.module}").table(rows)


def grid(heads: tuple[str, ...], lines: list[tuple[Any, ...]]) -> list[str]:
    """A table in plain text: the first column to the left, the others to the right."""
    texts = [tuple(map(text, line)) for line in (heads, *lines)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in texts
    ]


def text(value: Any) -> str:
    """A cell: three digits of a float, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
