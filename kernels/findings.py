"""What `aot` found in the machine code of each kernel, kept in a file: compiling all of them takes longer than tests
may. A finding is named by the launch's key, a hash over the kernel's source, all that it calls, its constants, its tile
and the architecture (`source.launch_key`): where any of these changes, the finding is missing, not wrong.

The file holds a line for each piece of code, in the order of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import plan, sass
from .record import Launch
from .source import launch_key

FILE = Path(__file__).parent / "findings.json"
WRITE = "python -m alikit.kernels.aot --write"  # brings the file up to date

Code = dict[str, sass.Facts]  # key of a piece of code -> what was found in it
Planned = Mapping[str, set[str]]  # preset and precision, "svhn bf16" -> keys of its code, on all architectures


class Findings(NamedTuple):
    """The file: the compiler's version, presets and precisions of which all code was compiled, what was found. (In the
    file also `sass.READER`: what was read otherwise is not known.)"""

    triton: str
    complete: list[str]
    code: Code


def key(record: Launch, arch: int) -> str:
    """What a finding is found by."""
    return launch_key(record, arch)[:32]


def planned(steps: Mapping[plan.Step, Iterable[Launch]]) -> Planned:
    """The keys of a plan's code."""
    found: dict[str, set[str]] = {}
    for step, launches in steps.items():
        found.setdefault(f"{step.preset} {step.precision}", set()).update(key(one, step.arch) for one in launches)
    return found


def dumps(findings: Findings) -> str:
    """The file's text."""
    head = json.dumps({"triton": findings.triton, "reader": sass.READER, "complete": findings.complete})
    lines = [f'"{name}": {json.dumps(findings.code[name])}' for name in sorted(findings.code)]
    return head[:-1] + ', "code": {\n' + ",\n".join(lines) + "\n}}\n"


def loads(text: str) -> Findings:
    """What `dumps` was given; no code where it was read otherwise than now."""
    found = json.loads(text)
    if found.get("reader") != sass.READER:
        return Findings(found["triton"], [], {})
    return Findings(found["triton"], found["complete"], {name: facts(row) for name, row in found["code"].items()})


def facts(row: Sequence[Any]) -> sass.Facts:
    """Facts as JSON has them, where a table's numbers are words."""
    copies, loads, stores = (_widths(table) for table in row[5:8])
    fed = {name: _widths(table) for name, table in row[8].items()}
    return sass.Facts(*row)._replace(copies=copies, loads=loads, stores=stores, fed=fed)


def _widths(table: Mapping[str, int]) -> dict[int, int]:
    return {int(width): n for width, n in table.items()}


def renewed(before: Findings, code: Code, triton: str, wanted: Planned) -> Findings:
    """What was known and what was found now; of what was known only what is still planned, if the same compiler made
    it."""
    every = set().union(*wanted.values())
    known = {name: found for name, found in before.code.items() if name in every and before.triton == triton}
    known |= code
    return Findings(triton, sorted(step for step, keys in wanted.items() if keys <= known.keys()), known)
