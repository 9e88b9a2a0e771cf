"""What this machine reaches at best: the figures that all others are shares of.

copy        bytes read and written a second by a copy much larger than the L2 cache: our kernel's and the driver's own
L2          bytes a second read from 20 MB again and again, the L1 caches passed by
bf16        operations a second of a large square product: our convolution kernel on 1x1 images, and torch's matmul
graph node  seconds that an empty kernel takes within a graph of a hundred
launch      seconds of host time that one plain launch takes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.gpu.part import Item, Options, Row, grid

COPY = 1 << 30  # bytes
CACHED = 20 << 20
SIDE = 8192
NODES = 100


def items(options: Options) -> list[Item]:
    """Each ceiling."""
    if not options.timed:
        return [Item("probes", lambda: probes(1 << 20))]
    return [
        Item("copy", copy),
        Item("L2", l2),
        Item("graph node", graph_node),
        Item("launch", host),
        Item("bf16 product, ours", product, 90),
        Item("bf16 product, torch", product_torch, 90),
    ]


def table(rows: list[Row]) -> list[str]:
    """A line each."""
    return grid(("ceiling", "value", "unit"), [(row["item"], row["value"] * row["scale"], row["unit"]) for row in rows])


def _row(value: float, scale: float, unit: str, **more: Any) -> list[Row]:
    return [{"value": value, "scale": scale, "unit": unit, **more}]


def random(count: int) -> Any:
    """Random float32 on the device, made of a small piece: zeros would be copied faster than they should."""
    import numpy as np

    from alikit.kernels import device

    piece = np.random.default_rng(0).standard_normal(min(count, 1 << 22), np.float32)
    return device.from_host(np.resize(piece, count))


def probes(size: int) -> list[Row]:
    """The probes themselves do what they say: checked, on any device."""
    import numpy as np

    from alikit.kernels import device, probe

    x = random(size // 4)
    target, sums = device.empty(size // 4), device.empty(3)
    probe.copy(x, out=target)
    blocks = size // 4 // probe.BLOCK
    probe.read(x, out=sums, rounds=blocks)  # every program has read everything
    wanted = float(device.to_host(x).astype(np.float64).sum())
    if not np.array_equal(device.to_host(target), device.to_host(x)):
        raise AssertionError("the copy is none")
    if not np.allclose(device.to_host(sums), wanted, rtol=1e-3, atol=1e-1):
        raise AssertionError(f"the sums read are {device.to_host(sums)}, wanted {wanted}")
    probe.nothing(x)
    return _row(1.0, 1.0, "checked")


def copy_bandwidth(size: int = COPY, rounds: int = 10) -> tuple[float, dict[str, float]]:
    """The best copy's bytes a second, read and written counted, and each way's."""
    from alikit.kernels import device, probe
    from bench.gpu.clock import Ours, measure

    x, y = random(size // 4), device.empty(size // 4)
    ways: dict[str, Callable[[], object]] = {
        "kernel": lambda: probe.copy(x, out=y),
        "driver": lambda: y.data.copy_from_device_async(x.data, size),
    }
    clock = Ours()
    found = measure({name: (clock, fn) for name, fn in ways.items()}, rounds=rounds, captured=False)
    rates = {name: 2 * size / times["seconds"] for name, times in found.items()}
    return max(rates.values()), rates


def copy() -> list[Row]:
    """Checked, then timed."""
    probes(CACHED)
    best, rates = copy_bandwidth()
    return _row(best, 1e-9, "GB/s", ways=rates, bytes=COPY)


def l2() -> list[Row]:
    """With as many programs as fill the device."""
    from alikit.kernels import device, probe
    from bench.gpu.clock import Ours, measure

    x = random(CACHED // 4)
    rounds, best, seen = 400, 0.0, {}
    for each in (2, 4, 8):
        sums = device.empty(each * processors())
        moved = probe.read(x, out=sums, rounds=rounds)
        found = measure({"read": (Ours(), lambda sums=sums: probe.read(x, out=sums, rounds=rounds))}, rounds=7)
        seen[each] = moved / found["read"]["seconds"]
        best = max(best, seen[each])
    return _row(best, 1e-9, "GB/s", programs_each=seen, bytes=CACHED)


def processors() -> int:
    """Multiprocessors of the device."""
    from alikit.kernels import device

    return int(device.module().cuda.runtime.getDeviceProperties(0)["multiProcessorCount"])


def graph_node() -> list[Row]:
    """One of a hundred, the graph's own start divided among them; and a graph of one."""
    from alikit.kernels import probe
    from bench.gpu.clock import Ours, summary

    x, clock, found = random(4), Ours(), {}
    for nodes in (1, NODES, 4 * NODES):
        run = clock.graph(lambda: probe.nothing(x), nodes)
        found[nodes] = summary([clock.seconds(run) for _ in range(30)])["seconds"]
    more = (found[4 * NODES] - found[NODES]) / (3 * NODES)
    return _row(found[NODES] / NODES, 1e6, "us", graphs=found, one_more=more)


def host() -> list[Row]:
    """Host time, the device kept far behind."""
    from alikit.kernels import device, probe

    x, cuda = random(4), device.module().cuda
    times = []
    for _ in range(10):
        cuda.runtime.deviceSynchronize()
        start = time.perf_counter()
        for _ in range(500):
            probe.nothing(x)
        times.append((time.perf_counter() - start) / 500)
    return _row(min(times), 1e6, "us")


def operands(side: int) -> tuple[Any, Any]:
    """x: (side, 1, 1, side) and w: (side, 1, 1, side), bf16, random."""
    import numpy as np
    from ml_dtypes import bfloat16

    from alikit.kernels import device

    rng = np.random.default_rng(1)
    arrays = (rng.standard_normal((side, 1, 1, side), np.float32) for _ in range(2))
    x, w = (device.from_host(a.astype(bfloat16), bfloat16) for a in arrays)
    return x, w


def product(side: int = SIDE) -> list[Row]:
    """conv2d of 1x1 images, some rows checked."""
    import numpy as np

    from alikit.kernels import device
    from alikit.kernels.gpu.conv import conv2d
    from bench.gpu.clock import Ours, measure

    x, w = operands(side)
    fn = lambda: conv2d(x, w, precision="bf16")[0]  # noqa: E731
    found = device.to_host(fn()[:16]).reshape(16, side).astype(np.float64)
    plain = [device.to_host(a).reshape(len(a), side).astype(np.float64) for a in (x[:16], w)]
    wanted = plain[0] @ plain[1].T
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    if not error < 5e-3:
        raise AssertionError(f"not timed: the product is off by {error:.2g} of its norm")
    times = measure({"ours": (Ours(), fn)}, rounds=7, sample=5e-3)["ours"]
    return _row(2 * side**3 / times["seconds"], 1e-12, "TFLOP/s", error=error, side=side)


def product_torch(side: int = SIDE) -> list[Row]:
    """cuBLAS through torch, on random numbers too."""
    import torch

    from bench.gpu.clock import Torch, measure

    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = measure({"torch": (Torch(), lambda: a @ b.T)}, rounds=7, sample=5e-3)["torch"]
    return _row(2 * side**3 / times["seconds"], 1e-12, "TFLOP/s", side=side)
