"""Question: how near does each CPU kernel come to what the machine can do, and to PyTorch's?

Every convolution of the SVHN networks, its two gradients, batch norm + leaky ReLU both ways, and the kernels around
them, at the step's shapes. The shapes are derived from `alikit.models`' tables: a changed network changes the bench.
The floor is counted beside each kernel: operations of the valid taps, or the bytes that must pass where nothing stays
in cache. Shares are of this machine's own ceilings, measured in the same process: a large sgemm, a large copy.

What the numbers do not show: epilogues (bias, activation, moments and dropout ride on the convolutions of the step);
caches as cold or as warm as the step's own; which gradients a step can do without (the first layers').
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.case import Case, Options, Workload
from bench.step import layers

BATCH, QUICK_BATCH, QUICK_WIDTH = 100, 4, 1 / 16
SAMPLED = 20_000  # elements of each result that are compared


class Shape(NamedTuple):
    """A (transposed) convolution of n images of size x size pixels into out x out."""

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
        return (
            f"{self.op} {self.kernel}x{self.kernel}/{self.stride} {self.channels}->{self.maps}, {self.n}x{self.size}^2"
        )

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """(O, kH, kW, C) of the convolution, or of the one whose adjoint this is."""
        outer, inner = (self.channels, self.maps) if self.op == "tconv" else (self.maps, self.channels)
        return (outer, self.kernel, self.kernel, inner)

    @property
    def flops(self) -> float:
        """Of each of the three passes: a multiplication and an addition for every valid tap."""
        return 2.0 * self.n * min(self.size, self.out) ** 2 * self.kernel**2 * self.channels * self.maps


def shapes(options: Options) -> tuple[list[Shape], list[tuple[int, int, int]]]:
    """All different convolutions of a step, and (n, size, channels) of all different batch norms."""
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


class Kernel(NamedTuple):
    """A timed call. fn returns an array, or several; cost as in Workload."""

    name: str
    fn: Callable[[], Any]
    cost: dict[str, float]


def kernels(side: Any, options: Options) -> Iterator[Kernel]:
    """All calls of one side, made from NumPy arrays by `side`: AlikitKernels or torch_kernels.TorchKernels."""
    convolutions, norms = shapes(options)
    for s in convolutions:
        arrays = _numbers(s.title, (s.n, s.size, s.size, s.channels), s.weight, (s.n, s.out, s.out, s.maps))
        for name, fn in zip(("forward", "input grad", "weight grad"), side.convolution(s, *arrays), strict=True):
            yield Kernel(f"{s.title}: {name}", fn, {"flops": s.flops})
    for n, size, c in norms:
        title = f"batch norm + leaky ReLU {n}x{size}^2x{c}"
        arrays = _numbers(title, (n, size, size, c), (n, size, size, c), (c,), (c,))
        forward, backward = side.norm(*arrays)
        yield Kernel(f"{title}: forward", forward, {"bytes": 12.0 * arrays[0].size})  # x twice, y
        yield Kernel(f"{title}: backward", backward, {"bytes": 20.0 * arrays[0].size})  # gy and x twice, gx
    yield from _others(side, options)


def _others(side: Any, options: Options) -> Iterator[Kernel]:
    import numpy as np

    from alikit.models import build

    n = QUICK_BATCH if options.quick else BATCH
    model = build("svhn", width=QUICK_WIDTH, nz=8) if options.quick else build("svhn")
    grads = _numbers("adam", *((p.data.size,) for _, p in model.discriminator_parameters()))
    size = sum(g.size for g in grads)
    yield Kernel(f"Adam, {size:,} parameters", side.adam(grads), {"bytes": 28.0 * size})  # p, m, v both ways, g
    (params,) = _numbers("sample", (n, 1, 1, 512))
    yield Kernel(f"Gaussian sample {n}x256", side.sample(params), {"bytes": 6.0 * params.size})  # mu, log sigma, z
    ones = np.ones((2 * n, 28, 28, 32), np.float32)
    yield Kernel(f"dropout {2 * n}x28^2x32", side.dropout(ones), {"bytes": 8.0 * ones.size})
    images, rows = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 3), np.uint8), np.arange(n) * 7
    yield Kernel(f"batch of {n} uint8 images", side.gather(images, rows), {"bytes": 5.0 * n * images[0].size})


def _numbers(key: str, *shapes: tuple[int, ...]) -> list[Any]:
    """Standard normal arrays, the same on both sides for the same key."""
    import numpy as np

    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


class AlikitKernels:
    """Calls of alikit's CPU kernels."""

    def convolution(self, s: Shape, x: Any, w: Any, gy: Any) -> tuple[Callable[[], Any], ...]:
        from alikit.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad

        def down(a: Any) -> Any:
            return conv2d(a, w, stride=s.stride)[0]

        def up(a: Any) -> Any:
            return conv2d_input_grad(a, w, (max(s.size, s.out),) * 2, stride=s.stride)[0]

        kernel = (s.kernel, s.kernel)
        if s.op == "tconv":
            return lambda: up(x), lambda: down(gy), lambda: conv2d_weight_grad(gy, x, kernel, stride=s.stride)
        return lambda: down(x), lambda: up(gy), lambda: conv2d_weight_grad(x, gy, kernel, stride=s.stride)

    def norm(self, x: Any, gy: Any, gamma: Any, beta: Any) -> tuple[Callable[[], Any], ...]:
        from alikit.kernels.cpu.norm import batch_norm_leaky_relu, batch_norm_leaky_relu_grad

        _, mean, inv_std = batch_norm_leaky_relu(x, gamma, beta, eps=1e-4, slope=0.01)
        return (
            lambda: batch_norm_leaky_relu(x, gamma, beta, eps=1e-4, slope=0.01)[0],
            lambda: batch_norm_leaky_relu_grad(gy, x, gamma, beta, mean, inv_std, slope=0.01),
        )

    def adam(self, grads: list[Any]) -> Callable[[], Any]:
        import numpy as np

        from alikit.kernels.cpu.adam import adam_step

        p, m, v = (np.zeros(sum(g.size for g in grads), np.float32) for _ in range(3))

        def step() -> Any:
            adam_step(grads, out=p, out_m=m, out_v=v, step=1, lr=1e-4, beta1=0.5, beta2=0.999, eps=1e-8)
            return p

        return step

    def sample(self, params: Any) -> Callable[[], Any]:
        from alikit.kernels.cpu.sampling import gaussian_sample

        return lambda: gaussian_sample(params, _counters())

    def dropout(self, x: Any) -> Callable[[], Any]:
        from alikit.kernels.arrays import Dropout
        from alikit.kernels.cpu.activation import dropout

        return lambda: dropout(x, Dropout(0.2, _counters()))

    def gather(self, images: Any, rows: Any) -> Callable[[], Any]:
        from alikit.kernels.cpu.batch import gather_batch

        return lambda: gather_batch(images, rows)

    def arrays(self, result: Any) -> list[Any]:
        return list(result) if isinstance(result, tuple) else [result]

    def ceiling(self) -> dict[str, float]:
        """Best of several runs, all threads at work: operations a second of an sgemm, bytes a second of a copy."""
        import numpy as np

        from alikit.kernels.cpu.parallel import split

        a, b, c = (np.ones((1536, 1536), np.float32) for _ in range(3))
        source, target = np.ones((2, 20_000_000), np.float32)
        product = lambda i, j, _: np.matmul(a[i:j], b, out=c[i:j])  # noqa: E731
        copy = lambda i, j, _: np.copyto(target[i:j], source[i:j])  # noqa: E731
        return {
            "flops": 2 * 1536**3 / min(_seconds(split, product, len(a)) for _ in range(10)),
            "bytes": 2 * source.nbytes / min(_seconds(split, copy, source.size) for _ in range(10)),
        }


def _seconds(fn: Callable[..., object], *args: Any) -> float:
    start = time.perf_counter()
    fn(*args)
    return time.perf_counter() - start


def _counters() -> Any:
    from alikit.kernels.arrays import Counters

    return Counters(0, 0, 1)


def _comparable(name: str, a: Any) -> Any:
    """What both sides share of a result: some elements; how many dropout kept, and their size; how many were drawn."""
    import numpy as np

    if name.startswith("dropout"):
        return np.array([np.mean(a > 0), np.max(a)])
    if name.startswith("Gaussian"):
        return np.array(a.size)
    return a.reshape(-1)[:: max(1, a.size // SAMPLED)]


def workload(side: Any, options: Options) -> Workload:
    """One side's thunks. The inputs are drawn alike on both sides, so that the probe is empty."""
    found = list(kernels(side, options))

    def answer(_: object) -> dict[str, Any]:
        results = {f"{k.name}/{i}": a for k in found for i, a in enumerate(side.arrays(k.fn()))}
        return {name: _comparable(name, a) for name, a in results.items()}

    return Workload(
        thunks={k.name: k.fn for k in found},
        answer=answer,
        probe=dict,
        cost={k.name: k.cost for k in found},
        ceiling=dict if options.quick else side.ceiling,
    )


def _torch(options: Options) -> Workload:
    from bench.torch_kernels import TorchKernels

    return workload(TorchKernels(), options)


CASE = Case(
    name="kernels",
    title="kernels of the SVHN step",
    alikit=lambda options: workload(AlikitKernels(), options),
    torch=_torch,
    several=True,
    seconds=0.05,
    tolerance={"": 1e-4, "batch norm": 1e-2, "dropout": 5e-2},
)
