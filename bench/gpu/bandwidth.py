"""Kernels that are bound by memory, at sizes past the L2 cache: what share of the copy bandwidth do they reach?

The bytes are those that must pass: a kernel that reads a tensor twice because it must know its sums first is charged
for both readings. Each is compared with its CPU twin before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bench.gpu.case import Call, numbers, twin
from bench.gpu.compare import Act, arrays, for_device, for_host, used
from bench.gpu.part import Item, Options, Row, grid

#: share of the copy: must, aim
TARGETS = (0.8, 0.92)
LARGE, SMALL = (1200, 32, 32, 32), (2, 4, 4, 32)
CODES = (60_000, 1, 1, 512)
WEIGHTS = (48, 1024, 1, 1, 1024)


class Stream(NamedTuple):
    """A call and the bytes that it must move."""

    call: Call
    bytes: float
    judged: bool = True


def items(options: Options) -> list[Item]:
    """A call each, and the copy they are measured by."""
    if not options.timed:
        return []
    names = [stream.call.name for stream in streams(False)]
    return [Item(name, lambda i=i: measure(i), 60) for i, name in enumerate(names)]


def planned_calls() -> Iterator[Callable[[], object]]:
    """The calls on small arrays: their code is that of the large ones, or nearly so."""
    for stream in streams(True):
        yield lambda c=stream.call: twin(c.kernel, "gpu")(
            **{k: for_device(v, c.precision) for k, v in c.arguments.items()}
        )


def streams(small: bool) -> Iterator[Stream]:
    """Batch norm + leaky ReLU both ways, sampling both ways, Adam; bf16 storage and float32."""
    for precision, size in (("bf16", 2), ("fp32", 4)):
        shape = SMALL if small else LARGE
        yield from norms(shape, precision, size * float(np.prod(shape)))
    from alikit.kernels.arrays import Counters

    shape = (4, *CODES[1:]) if small else CODES
    half = float(np.prod(shape)) / 2
    params, gz = tiled(shape), tiled((*shape[:-1], shape[-1] // 2))
    given: dict[str, Any] = {"params": Act(params, "fp32"), "counters": Counters(7, 3, 11)}
    yield Stream(Call("gaussian_sample", "", {**given, "dtype": _bf16()}, "bf16"), (8 + 2) * half)
    yield Stream(Call("gaussian_sample_grad", "", {**given, "gz": Act(gz)}, "bf16"), (2 + 8 + 8) * half, judged=False)
    yield adam((2, *WEIGHTS[1:]) if small else WEIGHTS)


def norms(shape: tuple[int, ...], precision: str, size: float) -> Iterator[Stream]:
    """With moments and sums at hand, as in the step, and without."""
    c = shape[-1]
    x, gy = Act(tiled(shape) + 1), Act(tiled(shape, 7) + 0.5)
    gamma, beta, mean = numbers("bandwidth", (c,), (c,), (c,))
    moments = mean / 10, np.ones(c, np.float32)
    sums = numbers("bandwidth sums", (1, 2, c))[0] * 100
    common = {"gamma": gamma, "beta": beta, "slope": 0.01}
    for title, given, passes in (("moments given", moments, 2), ("moments taken", None, 3)):
        arguments = {"x": x, **common, "moments": given, "eps": 1e-4}
        yield Stream(Call("batch_norm_leaky_relu", title, arguments, precision), passes * size)
    for title, known, passes in (("sums given", sums, 3), ("sums taken", None, 5)):
        arguments = {"gy": gy, "x": x, **common, "mean": mean / 10, "inv_std": moments[1], "sums": known}
        yield Stream(Call("batch_norm_leaky_relu_grad", title, arguments, precision), passes * size)


def adam(shape: tuple[int, ...]) -> Stream:
    """Many large weights with their bf16 copies: parameters and moments both ways, gradients, copies."""
    grads = [tiled(shape[1:], i) for i in range(shape[0])]
    size = sum(g.size for g in grads)
    flat = {"out": tiled((size,)), "out_m": tiled((size,), 3) / 10, "out_v": np.abs(tiled((size,), 5)) / 10}
    lows = [Act(np.zeros(shape[1:], np.float32), "bf16") for _ in grads]
    more = {"step": 3, "lr": 1e-4, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}
    call = Call("adam_step", f"{size:,} parameters", {"grads": grads, **flat, "out_low": lows, **more}, "fp32")
    return Stream(call, (4 + 24 + 2) * float(size))


def tiled(shape: tuple[int, ...], shift: int = 0) -> np.ndarray:
    """Random numbers, made of a piece whose length divides nothing here."""
    (piece,) = numbers("bandwidth piece", (1_000_003,))
    return np.resize(np.roll(piece, shift), shape)


def _bf16() -> Any:
    from bench.gpu.compare import storage

    return storage("bf16")


def measure(number: int) -> list[Row]:
    """Checks and times one of them, and the copy right before."""
    from bench.gpu.ceilings import copy_bandwidth
    from bench.gpu.clock import Ours
    from bench.gpu.clock import measure as timing

    stream = list(streams(False))[number]
    call, kernel = stream.call, twin(stream.call.kernel, "gpu")
    error = check(call)
    arguments = {name: for_device(value, call.precision) for name, value in call.arguments.items()}
    copy, _ = copy_bandwidth(rounds=5)
    found = timing({"alikit": (Ours(), lambda: kernel(**arguments))}, rounds=9, sample=3e-3)["alikit"]
    rate = stream.bytes / found["seconds"]
    about = {"bytes": stream.bytes, "rate": rate, "copy": copy, "share": rate / copy, "judged": stream.judged}
    return [{"kernel": call.kernel, "title": call.title, "precision": call.precision, "error": error} | about | found]


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
        name = f"{row['kernel']} {row['title']} {row['precision']}"
        megabytes = row["bytes"] / 1e6
        lines.append(
            (name, megabytes, 1e6 * row["seconds"], row["rate"] / 1e9, row["copy"] / 1e9, f"{share:.0%}", verdict)
        )
    return grid(("kernel", "MB", "us", "GB/s", "copy GB/s", "share", ""), lines)
