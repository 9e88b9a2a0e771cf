"""Imports run downwards only: every file against the table in ARCHITECTURE.md, which is read from there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import alikit

ROOT = Path(__file__).parents[1]
FRONT_DOOR = "alikit/__init__.py"
DOORS = ("alikit/backend.py", "alikit/ops/_dispatch.py")  # to the kernels

#: library -> files that may import it; the last one is the word that stands in kernels/ alone
LIBRARIES = {
    "cupy": ("kernels/", "alikit/backend.py"),
    "torch": ("bench/", "tests/bench/"),
    "numba": ("kernels/",),
    "triton": ("kernels/", "tests/kernels/gpu/"),
}


def table() -> tuple[dict[str, set[str]], dict[str, str]]:
    """Room -> rooms it may import; module -> its room."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    (block,) = re.findall(r"<!-- imports -->\n(.*?)<!-- /imports -->", text, re.DOTALL)
    allowed, modules = {}, {}
    for line in block.splitlines()[2:]:
        cell, may = (part.strip() for part in line.strip("|").split("|"))
        room, _, members = cell.partition(" (")
        allowed[room] = set() if may == "nothing" else {name.strip() for name in may.split(",")}
        for member in members.rstrip(")").split(", ") if members else [room]:
            modules[member if room in ("bench", "tests") else f"alikit.{member}"] = room
    return allowed, modules


ALLOWED, MODULES = table()


def files() -> dict[str, str]:
    """Path -> source of every Python file of the project."""
    paths = [p for top in ("kernels", "alikit", "bench", "tests") for p in sorted((ROOT / top).rglob("*.py"))]
    return {p.relative_to(ROOT).as_posix(): p.read_text() for p in paths}


def module_of(path: str) -> str:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"alikit.{name}" if name.partition(".")[0] == "kernels" else name


def room_of(module: str) -> str | None:
    """The room of the longest known name that `module` begins with; None for libraries and for `alikit` itself."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((MODULES[name] for name in names if name in MODULES), None)


def public(module: str) -> str:
    """`alikit.load` is what `alikit.inference` defines: a name of the front door leads to its module."""
    return alikit._PUBLIC.get(module.removeprefix("alikit."), module)


def imports(path: str, source: str) -> Iterator[str]:
    """Every dotted name that a file imports, wherever the import stands; the front door may, when it is asked."""
    package = module_of(path).split(".")[: None if path.endswith("/__init__.py") else -1]
    tree = ast.parse(source)
    if path == FRONT_DOOR:
        tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, node.module] if node.module else base)
            yield from (public(f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "alikit":
            yield public(f"alikit.{node.attr}")
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            yield from (str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))


def wrong_arrows(sources: dict[str, str]) -> list[str]:
    """What a file imports and its room may not."""
    found = []
    for path, source in sources.items():
        room = room_of(module_of(path))
        for name in imports(path, source):
            other = room_of(name)
            if other is not None and other != room and (room is None or other not in ALLOWED[room]):
                found.append(f"{path} ({room}) imports {name} ({other})")
            elif other == "kernels" and path.startswith("alikit/") and path not in DOORS:
                found.append(f"{path} imports {name}: only {' and '.join(DOORS)} may")
            for library, homes in LIBRARIES.items():
                if name.split(".")[0] == library and not path.startswith(homes):
                    found.append(f"{path} imports {library}")
    return found


def words(source: str) -> Iterator[str]:
    """Names and strings of a file, without docstrings and comments."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        yield from (str(v) for k, v in ast.iter_fields(node) if k in ("id", "attr", "name", "arg", "module"))


def test_no_arrow_runs_up() -> None:
    assert wrong_arrows(files()) == []


def test_every_file_has_a_room() -> None:
    lost = [path for path in files() if room_of(module_of(path)) is None]
    assert lost == [FRONT_DOOR]


def test_the_table_lists_rooms_that_are_there_and_is_a_hierarchy() -> None:
    for module in MODULES:
        path = ROOT / module.removeprefix("alikit.").replace(".", "/")
        inside = ROOT / "alikit" / path.relative_to(ROOT)
        assert any(p.is_dir() or p.with_name(p.name + ".py").exists() for p in (path, inside)), module
    assert {name for rooms in ALLOWED.values() for name in rooms} <= ALLOWED.keys()
    below: set[str] = set()
    while len(below) < len(ALLOWED):  # peel off rooms whose imports are all below
        ready = {room for room, may in ALLOWED.items() if may <= below}
        assert ready > below, f"a cycle among {ALLOWED.keys() - below}"
        below = ready
    assert not any("bench" in may for room, may in ALLOWED.items() if room != "tests")
    assert not any("tests" in may for may in ALLOWED.values())
    assert ALLOWED["kernels"] == set()


def test_one_word_stands_in_the_kernels_alone() -> None:
    outside = {path: source for path, source in files().items() if path.startswith(("alikit/", "bench/"))}
    assert [path for path, source in outside.items() if any("triton" in word.lower() for word in words(source))] == []


PLANTED = {
    "a kernel that knows the engine": ("kernels/cpu/conv.py", "from alikit.autograd import Tensor"),
    "a kernel that knows errors": ("kernels/arrays.py", "from ..errors import AlikitError"),
    "the engine with mathematics": ("alikit/autograd/tensor.py", "def f():\n    from alikit import ops"),
    "an op that knows layers": ("alikit/ops/conv.py", "import alikit.nn.layers"),
    "a kernel beside the seam": ("alikit/ops/conv.py", "from alikit.kernels.cpu.conv import conv2d"),
    "a kernel beside the seam, by name": ("alikit/nn/init.py", "import_module('alikit.kernels.cpu.sampling')"),
    "a kernel beside the seam, relatively": ("alikit/ops/norm.py", "from ..kernels import KERNELS"),
    "data with Tensors": ("alikit/data/dataset.py", "from alikit.autograd import Tensor"),
    "data that open their own command": ("alikit/data/cache.py", "from alikit.data import __main__"),
    "metrics with a backend": ("alikit/metrics/latent.py", "from alikit import backend"),
    "a model that trains itself": ("alikit/models/ali.py", "from ..training.step import Trainer"),
    "training that calls a command": ("alikit/training/loop.py", "import alikit\nalikit.load('run')"),
    "training that calls a command's module": ("alikit/training/loop.py", "from alikit import load"),
    "a product that measures itself": ("alikit/train.py", "from bench import harness"),
    "a bench that imports tests": ("bench/cases.py", "from tests.kernels import conftest"),
    "a test helper in the product": ("alikit/nn/layers.py", "import tests.conftest"),
    "an array library outside": ("alikit/optim.py", "import cupy as cp"),
    "a framework": ("alikit/training/step.py", "def f():\n    from torch import nn"),
    "a compiler outside": ("bench/kernels.py", "import triton.language as tl"),
    "a front door that is open": (FRONT_DOOR, "from alikit.errors import AlikitError"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_arrows_are_found(name: str) -> None:
    path, line = PLANTED[name]
    assert wrong_arrows({path: '"""Words."""\n\n' + line}) != []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("alikit/training/state.py", "import alikit\nalikit.__version__"),
        ("alikit/training/loop.py", "from alikit.training import runs, state"),
        ("alikit/ops/conv.py", "from . import norm\nfrom .shape import reshape"),
        ("alikit/backend.py", "def f():\n    import cupy"),
        ("kernels/cpu/conv.py", "from ..arrays import Dropout"),
        ("tests/test_x.py", "from alikit import load\nimport bench.harness"),
        ("alikit/data/__main__.py", "from alikit.console import run"),
        (FRONT_DOOR, "def __getattr__(name):\n    import_module('alikit.ops')"),
    ],
)
def test_arrows_that_run_down_are_not(path: str, line: str) -> None:
    assert wrong_arrows({path: line}) == []


def test_words_of_code_are_told_from_prose() -> None:
    assert "triton" not in set(words('"""triton"""\n# triton\ndef f():\n    """triton"""'))
    for line in ("triton = 1", "x.triton", "import triton", "f('triton')", "def triton(): pass", "f(triton=1)"):
        assert "triton" in set(words(line)), line
