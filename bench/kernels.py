"""Question: how near does each CPU kernel come to what the machine can do, and to PyTorch's?

Every convolution of the SVHN networks, its two gradients, batch norm + leaky ReLU both ways, and the kernels around
them, at the step's shapes. The shapes are derived from `alikit.models`' tables: a changed network changes the bench.
The floor is counted beside each kernel: operations of the valid taps, or the bytes that must pass where nothing stays in
cache. Shares are of this machine's own ceilings, measured in the same run: sgemm, and copying.

What the numbers do not show: epilogues (bias, activation, moments, dropout ride on the convolutions of the step and are
timed apart here or not at all); a cache as cold, or as warm, as the step's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.case import Case, Options, Workload
from bench.step import layers

BATCH, QUICK_BATCH, QUICK_WIDTH = 100, 2, 1 / 16
SLOPE, EPS, RATE = 0.01, 1e-4, 0.2
SAMPLED = 20_000  # elements of each result that are compared


class Shape(NamedTuple):
    """A (transposed) convolution on N images of size x size pixels."""

    op: str
    n: int
    size: int
    channels: int
    kernel: int
    stride: int
    maps: int
    out: int

    @property
    def title(self) -> str:
        return f"{self.op} {self.kernel}x{self.kernel}/{self.stride} {self.channels}->{self.maps} of {self.n}x{self.size}^2"

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """(O, kH, kW, C) of the convolution, or of the one whose adjoint this is."""
        outer, inner = (self.channels, self.maps) if self.op == "tconv" else (self.maps, self.channels)
        return (outer, self.kernel, self.kernel, inner)

    @property
    def flops(self) -> float:
        """Of each of the three passes: a multiplication and an addition for every valid tap."""
        positions = min(self.size, self.out) ** 2
        return 2.0 * self.n * positions * self.kernel**2 * self.channels * self.maps


def shapes(options: Options) -> tuple[list[Shape], list[tuple[int, int, int]]]:
    """All different convolutions of a step, and (N, size, channels) of all different batch norms."""
    from alikit.models import SPECS

    spec, batch = SPECS["svhn"], QUICK_BATCH if options.quick else BATCH
    spec = spec.resized(QUICK_WIDTH, 8) if options.quick else spec
    convolutions, norms = [], []
    for network, rows in layers(spec).items():
        n = 2 * batch if network.startswith("discriminator") else batch
        for row, (size, _, channels) in rows:
            convolutions.append(Shape(row.op, n, size, channels, row.kernel, row.stride, row.maps, row.size))
            if row.norm:
                norms.append((n, row.size, row.maps))
    return list(dict.fromkeys(convolutions)), list(dict.fromkeys(norms))


def numbers(key: object, *shapes: tuple[int, ...]) -> list[Any]:
    """Standard normal arrays, the same on both sides for the same key."""
    import zlib

    import numpy as np

    rng = np.random.default_rng(zlib.crc32(str(key).encode()))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


class Kernel(NamedTuple):
    """One timed call. fn: returns an array (NHWC, OHWI), or several, for the comparison; cost as in Workload."""

    name: str
    fn: Callable[[], Any]
    cost: dict[str, float]


def workload(kernels: Iterator[Kernel], arrays: Callable[[Any], list[Any]], ceiling: dict[str, float]) -> Workload:
    found = list(kernels)

    def answer(_: object) -> dict[str, Any]:
        results = {f"{k.name}/{i}": a.reshape(-1) for k in found for i, a in enumerate(arrays(k.fn()))}
        return {name: a[:: max(1, a.size // SAMPLED)] for name, a in results.items()}

    return Workload(
        {k.name: k.fn for k in found}, answer, probe=dict, cost={k.name: k.cost for k in found}, ceiling=ceiling
    )


def alikit_kernels(options: Options) -> Iterator[Kernel]:
    from alikit.kernels.cpu import conv

    convolutions, norms = shapes(options)
    for s in convolutions:
        w_shape, sizes = s.weight, ((s.n, s.size, s.size, s.channels), (s.n, s.out, s.out, s.maps))
        x, w, gy = numbers(s, sizes[0], w_shape, sizes[1])
        k, size = (s.kernel, s.kernel), (s.out, s.out) if s.op == "tconv" else (s.size, s.size)
        down = lambda a, w=w, s=s: conv.conv2d(a, w, stride=s.stride)[0]  # noqa: E731
        up = lambda a, w=w, s=s, size=size: conv.conv2d_input_grad(a, w, size, stride=s.stride)[0]  # noqa: E731
        wide, narrow = (gy, x) if s.op == "tconv" else (x, gy)
        forward, backward = (up, down) if s.op == "tconv" else (down, up)
        yield Kernel(f"{s.title} forward", lambda f=forward, x=x: f(x), {"flops": s.flops})
        yield Kernel(f"{s.title} input grad", lambda f=backward, gy=gy: f(gy), {"flops": s.flops})
        yield Kernel(
            f"{s.title} weight grad",
            lambda a=wide, b=narrow, k=k, s=s: conv.conv2d_weight_grad(a, b, k, stride=s.stride),
            {"flops": s.flops},
        )
    for n, size, c in norms:
        yield from _alikit_norm(n, size, c)
    yield from _alikit_others(options)


def _alikit_norm(n: int, size: int, c: int) -> Iterator[Kernel]:
    from alikit.kernels.cpu.norm import batch_norm_leaky_relu, batch_norm_leaky_relu_grad

    title, elements = f"batch norm + leaky ReLU {n}x{size}^2x{c}", n * size * size * c
    x, gy, gamma, beta = numbers(title, (n, size, size, c), (n, size, size, c), (c,), (c,))
    _, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=SLOPE)
    forward = lambda: batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=SLOPE)[0]  # noqa: E731
    backward = lambda: batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=SLOPE)  # noqa: E731
    yield Kernel(f"{title} forward", forward, {"bytes": 12.0 * elements})  # x twice, y
    yield Kernel(f"{title} backward", backward, {"bytes": 20.0 * elements})  # gy and x twice, gx


def parameter_sizes(options: Options) -> list[int]:
    """Elements of each of the discriminator's parameters."""
    from alikit.models import build

    model = build("svhn", width=QUICK_WIDTH, nz=8) if options.quick else build("svhn")
    return [p.data.size for _, p in model.discriminator_parameters()]


def _titles(options: Options) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names and shapes of the kernels around the layers."""
    n = QUICK_BATCH if options.quick else BATCH
    return {
        "adam": ("Adam, the discriminator's parameters", (sum(parameter_sizes(options)),)),
        "sample": (f"Gaussian sample {n}x256", (n, 1, 1, 512)),
        "dropout": (f"dropout {2 * n}x28^2x32", (2 * n, 28, 28, 32)),
        "gather": (f"batch of {n} uint8 images", (1000, 32, 32, 3)),
    }


def _alikit_others(options: Options) -> Iterator[Kernel]:
    import numpy as np

    from alikit.kernels.arrays import Counters, Dropout
    from alikit.kernels.cpu import activation, adam, batch, sampling

    titles, sizes, counters = _titles(options), parameter_sizes(options), Counters(0, 0, 1)
    title, shape = titles["adam"]
    grads = numbers(title, *((size,) for size in sizes))
    p, m, v = (np.zeros(shape, np.float32) for _ in range(3))
    settings = {"step": 1, "lr": 1e-4, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}

    def step() -> Any:
        adam.adam_step(grads, out=p, out_m=m, out_v=v, **settings)
        return np.sign(p)

    yield Kernel(title, step, {"bytes": 28.0 * shape[0]})  # p, m, v read and written, g read
    title, shape = titles["sample"]
    (params,) = numbers(title, shape)
    z_bytes = 6.0 * params.size  # mu and log sigma read, z written
    yield Kernel(title, lambda: sampling.gaussian_sample(params, counters), {"bytes": z_bytes})
    title, shape = titles["dropout"]
    ones = np.ones(shape, np.float32)
    yield Kernel(title, lambda: activation.dropout(ones, Dropout(RATE, counters)), {"bytes": 8.0 * ones.size})
    title, shape = titles["gather"]
    images, rows = np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.arange(shape[0])[:: 1000 // BATCH]
    pixels = len(rows) * images[0].size
    yield Kernel(title, lambda: batch.gather_batch(images, rows), {"bytes": 5.0 * pixels})
