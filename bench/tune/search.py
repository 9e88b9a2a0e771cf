"""What is tried: for every convolution of a preset's step, forward and backward as the step launches them, the tiles of
each product in it, the others left as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from bench.gpu.case import Call, twin
from bench.gpu.cases_conv import backward, forward
from bench.gpu.compare import for_device
from bench.gpu.layers import convolutions
from bench.tune.model import Machine, ceil_div, predict

BM, BN, BK, WARPS, STAGES = (64, 128, 256), (16, 32, 64, 128), (32, 64), (4, 8), (2, 3, 4)
PIECES = (1, 2, 4, 8, 16, 32, 64, 128)
REGISTERS = 160  # accumulators of a thread, beyond which nothing is left to compute with
CANDIDATES = 36


class Asked(NamedTuple):
    """A choice of tiles that a call made: which kind, the key of its row, the products it chose from, the choice."""

    kind: str
    key: tuple
    products: tuple[Any, ...]
    images: int
    chosen: Any


class Search(NamedTuple):
    """A product to find tiles for, and the call that it is timed in."""

    call: Call
    asked: Asked

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.asked.kind} in {self.call.name}"


def run(call: Call, arguments: dict[str, Any]) -> Any:
    """The device's kernel."""
    return twin(call.kernel, "gpu")(**arguments)


def prepared(call: Call) -> dict[str, Any]:
    """The call's arguments on the device."""
    return {name: for_device(value, call.precision) for name, value in call.arguments.items()}


@contextmanager
def listening() -> Iterator[list[Asked]]:
    """Within the block every choice of tiles is noted."""
    from alikit.kernels import tiles

    seen: list[Asked] = []
    window, weight = tiles.window, tiles.weight

    def of_window(products: Any, images: int, arch: int, *more: Any) -> Any:
        found = window(products, images, arch, *more)
        seen.append(Asked("window", tiles.key(products[0], images, arch), tuple(products), images, found))
        return found

    def of_weight(product: Any, images: int, arch: int, *more: Any) -> Any:
        found = weight(product, images, arch, *more)
        seen.append(Asked("weight", tiles.key(product, images, arch), (product,), images, found))
        return found

    tiles.window, tiles.weight = of_window, of_weight  # type: ignore[assignment]
    try:
        yield seen
    finally:
        tiles.window, tiles.weight = window, weight


def searches(model: str, precision: str, batch: int, arch: int, machine: Machine) -> list[Search]:
    """Every product of the step's convolutions once, the most expensive first."""
    from alikit.kernels.launch import use

    found: dict[tuple, Search] = {}
    with use("plan", arch):
        for layer in convolutions(model, batch):
            for call in (forward(layer, precision), backward(layer, precision)):
                with listening() as seen:
                    run(call, prepared(call))
                for asked in seen:
                    found.setdefault(asked.key, Search(call, asked))
    cost = {key: predict(search.asked.chosen, search.asked.images, machine) for key, search in found.items()}
    return sorted(found.values(), key=lambda search: -cost[search.asked.key])


def candidates(asked: Asked, arch: int, machine: Machine, most: int = CANDIDATES) -> list[Any]:
    """Products in other tiles, those predicted to be fast first."""
    from alikit.kernels.sass import SHARED

    size = 2 if asked.chosen.dot == "bf16" else 4
    found = []
    for bm, bn, bk, warps, stages in itertools.product(BM, BN, BK, WARPS, STAGES):
        if bm * bn > REGISTERS * 32 * warps or (bm + bn) * bk * size * stages > SHARED[arch]:
            continue
        found += [cut for p in asked.products for cut in _cuts(p, asked, bm, bn, bk, warps, stages)]
    found = [product for product in dict.fromkeys(found) if product != asked.chosen]
    return sorted(found, key=lambda product: predict(product, asked.images, machine) * 1.03 ** unusual(product.tile))[
        :most
    ]


def unusual(tile: Any) -> int:
    """How much of what the model knows nothing of differs from the usual: so that other sizes are tried as well."""
    return (tile.warps != (8 if tile.BM * tile.BN > 128 * 64 else 4)) + abs(tile.stages - 3)


def _cuts(product: Any, asked: Asked, bm: int, bn: int, bk: int, warps: int, stages: int) -> Iterator[Any]:
    """A product in a tile; a weight gradient's in some numbers of pieces. Tiles much larger than it are none."""
    from alikit.kernels.gpu.conv_shapes import Tile

    window = asked.kind == "window"
    columns = product.N if window else product.O
    if bn > 16 and bn // 2 >= columns:
        return
    pieces = (1,) if window else PIECES
    steps = 1 if window else ceil_div(asked.images * product.pixels, bk)
    for count in pieces:
        if count <= steps:
            yield product.cut(Tile(bm, bn, bk, warps, stages, unroll=product.unroll if window else 1, pieces=count))
