"""The traffic model: what a product in given tiles should take, by its operations and by its bytes read out of L2.

    steps = programs * blocks of K;  bytes = steps * (BM + BN) BK size;  operations = steps * 2 BM BN BK
    seconds = waves / whole waves * max(bytes / L2, operations / rate) + partial sums there and back

Latency, epilogues and the overlap of programs are left out: what a measurement adds to the prediction is what they
cost.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Machine(NamedTuple):
    """What `python -m bench.gpu --parts ceilings` measures. Defaults: an H200, from public figures.

    sms, l2 (bytes/s), memory (bytes/s), rates (operations/s by precision)
    """

    sms: int = 132
    l2: float = 5.5e12
    memory: float = 4.3e12
    rates: dict[str, float] = {"bf16": 790e12, "tf32": 400e12, "fp32": 50e12}  # noqa: RUF012


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def work(product: Any, images: int) -> tuple[int, int]:
    """(programs, steps of each) of a product that is cut."""
    if hasattr(product, "positions"):
        return ceil_div(images * product.positions, product.BM) * product.tiles_n, product.steps
    steps = ceil_div(images * product.pixels, product.BK)
    return product.tiles * product.tile.pieces, ceil_div(steps, product.tile.pieces)


def predict(product: Any, images: int, machine: Machine) -> float:
    """Seconds."""
    programs, steps = work(product, images)
    size = 2 if product.dot == "bf16" else 4
    bytes_ = steps * (product.BM + product.BN) * product.BK * size
    flops = 2.0 * steps * product.BM * product.BN * product.BK
    waves = programs / machine.sms
    whole = max(1.0, ceil_div(programs, machine.sms)) if waves < 4 else waves  # later waves fill each other's gaps
    each = max(bytes_ / (machine.l2 / machine.sms), flops / (machine.rates[product.dot[:4]] / machine.sms))
    partial = 0.0 if hasattr(product, "positions") else 8.0 * product.tile.pieces * product.M * product.O
    return whole * each + partial / machine.memory
