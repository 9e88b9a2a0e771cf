"""What `aot` found in the machine code of each kernel, kept in a file: compiling all of them takes longer than tests
may. A finding is named by the launch's key, a hash over the kernel's source, all that it calls, its constants, its tile
and the architecture (`source.launch_key`): where any of these changes, the finding is missing, not wrong.

The file holds a line for each piece of code, in the order of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import sass
from .record import Launch
from .source import launch_key

FILE = Path(__file__).parent / "findings.json"
WRITE = "python -m alikit.kernels.aot --write"  # brings the file up to date

#: key of a piece of code -> what was found in it
Findings = dict[str, sass.Facts]


def key(record: Launch, arch: int) -> str:
    """What a finding is found by."""
    return launch_key(record, arch)[:32]


def dumps(findings: Mapping[str, sass.Facts], triton: str) -> str:
    """The file's text; triton: the version that compiled."""
    lines = [f'"{name}": {json.dumps(findings[name])}' for name in sorted(findings)]
    return f'{{"triton": {json.dumps(triton)}, "code": {{\n' + ",\n".join(lines) + "\n}}\n"


def loads(text: str) -> tuple[Findings, str]:
    """What `dumps` was given."""
    found = json.loads(text)
    return {name: facts(values) for name, values in found["code"].items()}, found["triton"]


def facts(values: Sequence[Any]) -> sass.Facts:
    """Facts as JSON has them, where a table's numbers are words."""
    found = sass.Facts(*values)
    widths = [{int(width): n for width, n in table.items()} for table in values[5:9]]
    return found._replace(copies=widths[0], loads=widths[1], stores=widths[2], fed=widths[3])


def renewed(found: Mapping[str, sass.Facts], triton: str, planned: set[str], path: Path = FILE) -> str:
    """The file's text with what was found now; of what it held before, what is still planned and was made by the same
    compiler."""
    before, by = loads(path.read_text()) if path.exists() else ({}, triton)
    kept = {name: facts for name, facts in before.items() if name in planned and by == triton}
    return dumps(kept | dict(found), triton)
