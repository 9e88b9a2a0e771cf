"""What every kernel is tested under: memory that begins as NaN, and work that is really split.

Shapes that a loop can check are far below the sizes at which the kernels share work out or cut it into blocks, so the
limits are lowered until they do.
"""

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pytest

from alikit.kernels import cpu
from alikit.kernels.cpu import dense, masks, parallel, passes, patches, products
from tests.kernels.conv_paths import Path

CPU_MODULES = [import_module(f"{cpu.__name__}.{module.name}") for module in pkgutil.iter_modules(cpu.__path__)]
for twin in ("plain", "fused") if find_spec("numba") else ("plain",):
    CPU_MODULES += [import_module(f"{passes.__name__}.{twin}{part}") for part in ("", "_norm")]


def poison(array: np.ndarray) -> np.ndarray:
    """Fills with what no result may hold: NaN, or 165, or True."""
    array[...] = np.nan if array.dtype.kind == "f" else True if array.dtype == bool else 165
    return array


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """np.empty, np.empty_like and scratch may hold anything: here they hold NaN, so that what is not written shows."""
    empty, empty_like, scratch = np.empty, np.empty_like, parallel.scratch
    monkeypatch.setattr(np, "empty", lambda *args, **options: poison(empty(*args, **options)))
    monkeypatch.setattr(np, "empty_like", lambda *args, **options: poison(empty_like(*args, **options)))
    for module in CPU_MODULES:
        if hasattr(module, "scratch"):
            monkeypatch.setattr(module, "scratch", lambda *args: poison(scratch(*args)))


class Splitting(NamedTuple):
    """threads that share the work, elements in a block of elementwise passes, bytes in a chunk of a convolution."""

    threads: int
    block: int
    chunk_bytes: int


SPLITTINGS = {
    "one-thread": Splitting(1, parallel.BLOCK, patches.CHUNK_BYTES),
    "two-threads": Splitting(2, parallel.BLOCK, patches.CHUNK_BYTES),
    "two-threads-in-pieces": Splitting(2, 50, 3000),
}


@pytest.fixture
def split_as(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """split_as("two-threads") lets every kernel share work out as SPLITTINGS says, however little there is."""
    before = parallel.threads()

    def apply(name: str) -> None:
        splitting = SPLITTINGS[name]
        parallel.resize_pool(splitting.threads)
        monkeypatch.setattr(parallel, "SMALL", 0)
        for module in CPU_MODULES:
            for limit, value in (("BLOCK", splitting.block), ("CHUNK_BYTES", splitting.chunk_bytes)):
                if hasattr(module, limit):
                    monkeypatch.setattr(module, limit, value)

    yield apply
    parallel.resize_pool(before)


@pytest.fixture(params=list(SPLITTINGS))
def splitting(request: pytest.FixtureRequest, split_as: Callable[[str], None]) -> str:
    """The test runs once for each way of sharing the work out."""
    split_as(request.param)
    return request.param


@pytest.fixture(autouse=True)
def no_masks_from_before() -> None:
    """A remembered mask would hide how the next one is drawn."""
    masks._masks.clear()


@pytest.fixture
def input_grad_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form of the input gradient that the test's parameter names, whichever would be the cheaper one."""
    monkeypatch.setattr(products, "gather_is_cheaper", lambda *_: request.param == "gather")
    return request.param


@pytest.fixture
def operands(stream: Callable[[str], np.random.Generator]) -> Callable[..., Any]:
    """operands(path, bias, y_shape): x, w, and a bias of the form asked for."""

    def draw(path: Path, bias: str | None, y_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, Any]:
        shape = {None: None, "tied": y_shape[-1:], "untied": y_shape[1:]}[bias]
        b = None if shape is None else stream("b").standard_normal(shape)
        return stream("x").standard_normal(path.x), stream("w").standard_normal(path.w), b

    return draw


@pytest.fixture
def slope_along() -> Callable[..., float]:
    """slope_along(fn, x, dx): the derivative of a number fn(x) along dx, by central differences."""

    def measure(fn: Callable[[Any], Any], x: np.ndarray, dx: np.ndarray, step: float = 1e-6) -> float:
        return float((fn(x + step * dx) - fn(x - step * dx)) / (2 * step))

    return measure


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The columns of each piece of a product that is taken on tiles of registers."""
    if passes.CHOSEN == "plain":
        pytest.skip("tiles are for compiled loops: Numba is not installed, or not in use")
    panels = import_module(f"{passes.__name__}.panels")
    found: list[int] = []
    of = panels.product

    def product(rows: int) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            found.append(args[4] - args[3])
            of(rows)(*args)

        return counted

    monkeypatch.setattr(panels, "product", product)
    dense._tile_rows.cache_clear()
    yield found
    dense._tile_rows.cache_clear()


@pytest.fixture
def tiles(pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Products of any size are taken on tiles, on any processor."""
    monkeypatch.setattr(dense, "AHEAD", 0)
    monkeypatch.setattr(dense, "WORTH", 0)
    return pieces
