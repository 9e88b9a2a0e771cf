"""Winners as rows of the literal table in `kernels/tiles.py`, each under the name of the GPU that measured it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

HEAD = "TABLE: dict[tuple, Tile] = {"
DEFAULTS = {"warps": 4, "stages": 3, "chunk": 32, "unroll": 1, "pieces": 1}


class Entry(NamedTuple):
    """A row: its key, the tile's text, the GPU, and a remark."""

    key: tuple
    tile: str
    gpu: str
    remark: str = ""

    @property
    def line(self) -> str:
        """As it stands in the table."""
        return f"    {self.key!r}: {self.tile},".replace("'", '"') + (f"  # {self.remark}" if self.remark else "")


def tile_text(tile: Any) -> str:
    """`Tile(128, 64, 64, warps=8, unroll=4)`: what differs from the defaults by name."""
    more = [f"{name}={getattr(tile, name)}" for name, usual in DEFAULTS.items() if getattr(tile, name) != usual]
    return f"Tile({', '.join([str(tile.BM), str(tile.BN), str(tile.BK), *more])})"


def entries(source: str) -> list[Entry]:
    """The table's rows. ValueError where it is not written as this module writes it."""
    found, gpu = [], "unknown"
    for line in _block(source).splitlines():
        text = line.strip()
        if text.startswith("# "):
            gpu = text[2:]
            continue
        match = re.fullmatch(r"(\(.*?\)): (Tile\(.*?\)),(?:  # (.*))?", text)
        if text and match is None:
            raise ValueError(f"a row of the table that nobody knows: {line!r}")
        if match:
            found.append(Entry(ast.literal_eval(match[1]), match[2], gpu, match[3] or ""))
    return found


def merged(source: str, new: list[Entry]) -> str:
    """The source with new rows in its table, in place of older ones with the same key."""
    kept = {entry.key: entry for entry in [*entries(source), *new]}
    lines = []
    for gpu in sorted({entry.gpu for entry in kept.values()}):
        lines.append(f"    # {gpu}")
        lines += sorted(entry.line for entry in kept.values() if entry.gpu == gpu)
    body = "\n" + "\n".join(lines) + "\n" if lines else ""
    return source.replace(HEAD + _block(source) + "}", HEAD + body + "}")


def _block(source: str) -> str:
    """What stands between the table's braces."""
    if source.count(HEAD) != 1:
        raise ValueError(f"no table that begins with {HEAD!r}")
    rest = source.split(HEAD)[1]
    return rest[: 0 if rest.startswith("}") else rest.index("\n}") + 1]


def write(path: Path, new: list[Entry]) -> None:
    """Rewrites the file's table."""
    path.write_text(merged(path.read_text(encoding="utf-8"), new), encoding="utf-8")
