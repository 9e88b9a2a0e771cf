"""What can be seen in the kernels' sources without running them."""

import ast
from pathlib import Path

import pytest

from alikit.kernels import gpu

FILES = {path.name: path.read_text() for path in sorted(Path(gpu.__file__).parent.glob("*.py"))}


def loads_that_leave_lanes_open(source: str) -> list[int]:
    """Lines with a masked `load` (or a masked call that hands its mask on to one) without `other`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load":
            given = {keyword.arg for keyword in node.keywords}
            masked = "mask" in given or len(node.args) > 1
            if masked and "other" not in given and len(node.args) < 3:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_masked_load_says_what_the_other_lanes_are(name: str) -> None:
    assert loads_that_leave_lanes_open(FILES[name]) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tl.load(p, mask=m)", [1]),
        ("tl.load(p, m)", [1]),
        ("tl.load(p)", []),
        ("tl.load(p, mask=m, other=0.0)", []),
        ("tl.load(p, m, 0.0)", []),
    ],
)
def test_a_planted_load_is_found(line: str, found: list[int]) -> None:
    assert loads_that_leave_lanes_open(line) == found
