"""Kernels that are bound by memory, at sizes past the L2 cache: what share of the copy bandwidth do they reach?

The bytes are those that must pass: a kernel that reads a tensor twice because it must know its sums first is charged
for both readings. Each is compared with its CPU twin before it is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bench.gpu.case import Call, numbers, twin
from bench.gpu.compare import Act, arrays, for_device, for_host, storage, used
from bench.gpu.part import Item, Options, Row, grid

#: share of the copy: must, aim
TARGETS = (0.8, 0.92)
LARGE, SMALL = (1200, 32, 32, 32), (2, 4, 4, 32)
CODES = (60_000, 1, 1, 512)
WEIGHTS = (48, 1024, 1, 1, 1024)


class Stream(NamedTuple):
    """A call, made only when it is its turn, since its arrays are large; and the bytes that it must move."""

    title: str
    make: Callable[[], Call]
    bytes: float
    judged: bool = True


def items(options: Options) -> list[Item]:
    """A call each, and the copy they are measured by."""
    if not options.timed:
        return []
    return [Item(stream.title, lambda s=stream: measure(s), 60) for stream in streams(False)]


def planned_calls() -> Iterator[Callable[[], object]]:
    """The calls on small arrays: their code is that of the large ones, or nearly so."""

    def run(call: Call) -> None:
        twin(call.kernel, "gpu")(**{name: for_device(value, call.precision) for name, value in call.arguments.items()})

    for stream in streams(True):
        yield lambda s=stream: run(s.make())


def streams(small: bool) -> Iterator[Stream]:
    """Batch norm + leaky ReLU both ways, sampling both ways, Adam; bf16 storage and float32."""
    for precision, size in (("bf16", 2), ("fp32", 4)):
        yield from norms(SMALL if small else LARGE, precision, size)
    yield from samples((4, *CODES[1:]) if small else CODES)
    shape = (2, *WEIGHTS[1:]) if small else WEIGHTS
    # gradients; parameters and both moments there and back; rounded copies
    yield Stream(f"Adam, {math.prod(shape):,} parameters", lambda: adam(shape), (4 + 24 + 2) * math.prod(shape))


def norms(shape: tuple[int, ...], precision: str, size: int) -> Iterator[Stream]:
    """With moments and sums at hand, as in the step, and without."""
    c, total = shape[-1], size * math.prod(shape)
    gamma, beta, mean = numbers("bandwidth", (c,), (c,), (c,))
    moments = mean / 10, np.ones(c, np.float32)
    sums = numbers("bandwidth sums", (1, 2, c))[0] * 100
    common = {"gamma": gamma, "beta": beta, "slope": 0.01}

    def forward(given: Any) -> Call:
        arguments = {"x": Act(tiled(shape) + 1), **common, "moments": given, "eps": 1e-4}
        return Call("batch_norm_leaky_relu", "", arguments, precision)

    def backward(known: Any) -> Call:
        arguments = {"gy": Act(tiled(shape, 7) + 0.5), "x": Act(tiled(shape) + 1), **common, "sums": known}
        arguments |= {"mean": mean / 10, "inv_std": moments[1]}
        return Call("batch_norm_leaky_relu_grad", "", arguments, precision)

    name = f"norm + leaky ReLU {precision}"
    yield Stream(f"{name} forward, moments given", lambda: forward(moments), 2 * total)
    yield Stream(f"{name} forward, moments taken", lambda: forward(None), 3 * total)
    yield Stream(f"{name} backward, sums given", lambda: backward(sums), 3 * total)
    yield Stream(f"{name} backward, sums taken", lambda: backward(None), 5 * total)


def samples(shape: tuple[int, ...]) -> Iterator[Stream]:
    """Parameters in float32, codes in bf16."""
    from alikit.kernels.arrays import Counters

    half = math.prod(shape) // 2

    def given() -> dict[str, Any]:
        return {"params": Act(tiled(shape), "fp32"), "counters": Counters(7, 3, 11)}

    def grad() -> Call:
        gz = Act(tiled((*shape[:-1], shape[-1] // 2)))
        return Call("gaussian_sample_grad", "", {**given(), "gz": gz}, "bf16")

    forward = lambda: Call("gaussian_sample", "", {**given(), "dtype": storage("bf16")}, "bf16")  # noqa: E731
    yield Stream("Gaussian sample", forward, (8 + 2) * half)
    yield Stream("Gaussian sample, gradient", grad, (4 + 2 + 8) * half, judged=False)


def adam(shape: tuple[int, ...]) -> Call:
    """Many large weights with their bf16 copies."""
    grads = [tiled(shape[1:], i) for i in range(shape[0])]
    size = math.prod(shape)
    flat = {"out": tiled((size,)), "out_m": tiled((size,), 3) / 10, "out_v": np.abs(tiled((size,), 5)) / 10}
    lows = [Act(np.zeros(shape[1:], np.float32), "bf16") for _ in grads]
    more = {"step": 3, "lr": 1e-4, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}
    return Call("adam_step", "", {"grads": grads, **flat, "out_low": lows, **more}, "fp32")


def tiled(shape: tuple[int, ...], shift: int = 0) -> np.ndarray:
    """Random numbers, made of a piece whose length divides nothing here."""
    (piece,) = numbers("bandwidth piece", (1_000_003,))
    return np.resize(np.roll(piece, shift), shape)


def measure(stream: Stream) -> list[Row]:
    """Checks and times one of them, and the copy right before."""
    from bench.gpu.ceilings import copy_bandwidth
    from bench.gpu.clock import Ours
    from bench.gpu.clock import measure as timing

    call = stream.make()
    kernel = twin(call.kernel, "gpu")
    error = check(call)
    arguments = {name: for_device(value, call.precision) for name, value in call.arguments.items()}
    copy, _ = copy_bandwidth(rounds=5)
    found = timing({"alikit": (Ours(), lambda: kernel(**arguments))}, rounds=9, sample=3e-3)["alikit"]
    rate = stream.bytes / found["seconds"]
    about = {"bytes": stream.bytes, "rate": rate, "copy": copy, "share": rate / copy, "judged": stream.judged}
    return [{"kernel": call.kernel, "precision": call.precision, "error": error} | about | found]


def check(call: Call) -> float:
    """The share of what is allowed; AssertionError beyond it."""

    def outcome(side: str, prepare: Any) -> dict[str, np.ndarray]:
        arguments = {name: prepare(value, call.precision) for name, value in call.arguments.items()}
        result = twin(call.kernel, side)(**arguments)
        return arrays({"": result, **{n: v for n, v in arguments.items() if n.startswith("out")}})

    wanted, found = outcome("cpu", lambda v, p: for_host(v, p, np.float32)), outcome("gpu", for_device)
    shares = {name: used(found[name], wanted[name], call.precision) for name in wanted}
    if not max(shares.values()) <= 1:
        raise AssertionError(f"not timed: {call.name} is off: {shares}")
    return max(shares.values())


def table(rows: list[Row]) -> list[str]:
    """A line each."""
    must, aim = TARGETS
    lines = []
    for row in rows:
        share = row["share"]
        verdict = "" if not row["judged"] else "aim" if share >= aim else "must" if share >= must else "MISSED"
        rates = row["rate"] / 1e9, row["copy"] / 1e9
        lines.append((row["item"], row["bytes"] / 1e6, 1e6 * row["seconds"], *rates, f"{share:.0%}", verdict))
    return grid(("kernel", "MB", "us", "GB/s", "copy GB/s", "share", ""), lines)
