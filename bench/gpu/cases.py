"""Calls of every kernel but the convolutions to check, at a training step's shapes and at odd ones.

tiny: a shape or two of each, small enough for the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.gpu.case import Call, numbers, positive
from bench.gpu.cases_conv import dropout
from bench.gpu.compare import Act, Step

Shapes = tuple[tuple[int, ...], ...]


def calls(precision: str, tiny: bool) -> Iterator[Call]:
    """All of them."""
    for make in (norms, activations, joins, samples, optimisers, batches, ends):
        yield from make(precision, tiny)


def _title(shape: tuple[int, ...], *more: object) -> str:
    return "x".join(map(str, shape)) + "".join(f" {word}" for word in more if word)


def norms(precision: str, tiny: bool) -> Iterator[Call]:
    """Batch norm with moments taken and given, one and two cotangents, with sums and without; running statistics."""
    shapes: Shapes = ((2, 3, 3, 5),) if tiny else ((20, 28, 28, 32), (20, 1, 1, 512), (7, 13, 13, 37), (3, 5, 5, 3))
    for shape in shapes:
        c = shape[-1]
        x, gamma, beta = numbers(f"{shape} norm", shape, (c,), (c,))
        mean = numbers(f"{shape} mean", (c,))[0] / 10
        variance, inv_std = (np.abs(positive(f"{shape} {key}", c)) for key in ("variance", "inv_std"))
        common = {"gamma": gamma, "beta": beta, "slope": 0.02}
        for given, rate in ((None, 0.2), ((mean, variance), 0.0)):
            more = {"moments": given, "eps": 1e-4, "dropout": dropout(rate, 1, rate > 0)}
            title = _title(shape, given and "moments given", rate and f"dropout {rate}")
            yield Call("batch_norm_leaky_relu", title, {"x": Act(x + 3), **common, **more}, precision)
        for k, rate, with_sums in ((1, 0.0, False), (2, 0.2, False), (2, 0.2, True)):
            (gy,) = numbers(f"{shape} {k} gy", (k * shape[0], *shape[1:]))
            # what the gradient's own statistics subtract must not vanish: gy is off centre
            arguments = {"gy": Act(gy + 0.5), "x": Act(x), **common, "mean": mean, "inv_std": inv_std}
            arguments |= {"dropout": None if with_sums else dropout(rate, 1, True)}
            if with_sums:
                arguments["sums"] = numbers(f"{shape} sums", (k, 2, c))[0] * np.float32(x.size / c) ** 0.5
            title = _title(shape, f"K={k}", rate and f"dropout {rate}", with_sums and "sums given")
            yield Call("batch_norm_leaky_relu_grad", title, arguments, precision)
    sizes = (5, 3) if tiny else (32, 512, 37, 3)
    batch = [(numbers(f"{c} m", (c,))[0], np.abs(positive(f"{c} s", c))) for c in sizes]
    running = [(numbers(f"{c} rm", (c,))[0], np.abs(positive(f"{c} rs", c))) for c in sizes]
    arguments = {"batch": batch, "out_running": running, "momentum": 0.05}
    yield Call("update_statistics", f"of {len(sizes)} layers", arguments, precision)


def activations(precision: str, tiny: bool) -> Iterator[Call]:
    """Each nonlinearity with its gradient, tied and untied bias, dropout alone, rows weighed."""
    from alikit.kernels.arrays import Activation

    shapes: Shapes = ((2, 3, 3, 6),) if tiny else ((20, 32, 32, 6), (40, 1, 1, 1030))
    kinds = (Activation("leaky_relu", 0.1), Activation("maxout", 2.0), Activation("sigmoid"), Activation("linear"))
    for shape in shapes:
        (x,) = numbers(f"{shape} act", shape)
        for kind in kinds:
            bias = numbers(f"{shape} bias", shape[1:] if kind.name == "sigmoid" else shape[-1:])[0]
            rate = 0.2 if kind.name in ("leaky_relu", "maxout") else 0.0
            more = {"activation": kind, "dropout": dropout(rate, 2, True)}
            title = _title(shape, kind.name, rate and f"dropout {rate}")
            yield Call("apply_activation", title, {"x": Act(x), "bias": bias, **more}, precision)
            yield Call("bias_activation_grad", title, _activation_grad(shape, kind, bias.shape, rate), precision)
        yield Call("dropout", _title(shape), {"x": Act(x), "dropout": dropout(0.2, 3, True), "first": 48}, precision)
        weights = numbers(f"{shape} weights", (shape[0], *(1,) * (len(shape) - 1)))[0]
        yield Call("scale_rows", _title(shape), {"x": Act(x), "weights": weights}, precision)


def _activation_grad(shape: tuple[int, ...], kind: Any, bias: tuple[int, ...], rate: float) -> dict[str, Any]:
    """Two stacked cotangents."""
    n, *middle, c = shape
    out = (*middle, c // kind.pieces)
    gy, y = numbers(f"{shape} {kind.name} grad", (2 * n, *out), (n, *out))
    found = {"gy": Act(gy), "y": Act(1 / (1 + np.exp(-y)) if kind.name == "sigmoid" else y), "activation": kind}
    if kind.name == "maxout":
        found["winner"] = np.random.default_rng(3).integers(0, kind.pieces, (n, *out), np.uint8)
    return found | {"bias_shape": bias, "dropout": dropout(rate, 2, False)}


def joins(precision: str, tiny: bool) -> Iterator[Call]:
    """Along the batch and along the channels, and back with two cotangents."""
    parts = ((2, 3, 3, 3), (1, 3, 3, 3)) if tiny else ((20, 32, 32, 3), (20, 32, 32, 3))
    x = [Act(a) for a in numbers("join 0", *parts)]
    rows = len(x[0].array) + len(x[1].array)
    yield Call("join", _title(parts[0], "axis 0"), {"parts": x, "axis": 0, "dropout": dropout(0.2, 4, True)}, precision)
    widths = (5, 3) if tiny else (512, 512)
    side = [Act(a) for a in numbers("join 1", *((rows, 1, 1, width) for width in widths))]
    drop = dropout(0.2, 4, False)
    yield Call("join", _title(widths, "channels"), {"parts": side, "axis": -1, "dropout": drop}, precision)
    (gy,) = numbers("join gy", (2 * rows, 1, 1, sum(widths)))
    arguments = {"gy": Act(gy), "sizes": widths, "axis": -1, "needs": (True, True), "rows": rows, "dropout": drop}
    yield Call("join_grad", _title(widths, "channels K=2"), arguments, precision)


def samples(precision: str, tiny: bool) -> Iterator[Call]:
    """Codes from the reparameterised Gaussian, their gradient, and noise alone. The noise is the CPU's to rounding."""
    from alikit.kernels.arrays import Counters

    shape = (3, 1, 1, 10) if tiny else (100, 1, 1, 512)
    params, gz = numbers("sample", shape, (*shape[:-1], shape[-1] // 2))
    counters: Any = Counters(7, Step(7, 3), 11)
    full = Act(params, stored="fp32")
    yield Call("gaussian_sample", _title(shape), {"params": full, "counters": counters}, precision)
    arguments = {"gz": Act(gz), "params": full, "counters": counters}
    yield Call("gaussian_sample_grad", _title(shape), arguments, precision)
    yield Call("normal", _title(shape), {"shape": shape, "counters": counters}, "fp32")


def optimisers(precision: str, tiny: bool) -> Iterator[Call]:
    """Adam with partial sums, rounded copies and the step from a number or a clock; the moving average."""
    shapes: Shapes = (
        ((3, 2, 2, 3), (5,)) if tiny else ((64, 4, 4, 32), (512, 4, 4, 256), (3,), (1024, 1, 1, 1024), (37,))
    )
    grads = numbers("adam g", *((3, *shape) if len(shape) == 4 else shape for shape in shapes))
    size = sum(int(np.prod(shape)) for shape in shapes)
    p, m, v = numbers("adam", (size,), (size,), (size,))
    lows = [Act(np.zeros(shape, np.float32), stored="bf16") if len(shape) == 4 else None for shape in shapes]
    for step in (4, np.array([7, 9, 3], np.int64)):
        arguments = {
            "grads": grads,
            "out": p,
            "out_m": m / 10,
            "out_v": np.square(v) / 10,
            "step": step,
            "out_low": lows,
        }
        more = {"lr": 1e-3, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}
        title = f"{size:,} parameters, {'number' if isinstance(step, int) else 'clock'}"
        yield Call("adam_step", title, arguments | more, precision)
    one = {**arguments, **more, "grads": grads[:1], "out_low": None}
    one |= {name: arguments[name][: grads[0][0].size] * 2 for name in ("out", "out_m", "out_v")} | {"lr": 1e-2}
    both: dict[str, Any] = {name: [value, one[name]] for name, value in (arguments | more).items()}
    yield Call("adam_steps", f"{size:,} parameters of two players", both | {"step": arguments["step"]}, precision)
    yield Call("moving_average", f"{size:,}", {"x": p, "out": m, "rate": 0.01}, precision)


def batches(precision: str, tiny: bool) -> Iterator[Call]:
    """Rows by number and by the clock, the last and smaller batch of an epoch among them."""
    count = 20 if tiny else 1000
    rng = np.random.default_rng(0)
    images, order = (
        rng.integers(0, 256, (count, 8, 8, 3) if tiny else (count, 32, 32, 3), np.uint8),
        rng.permutation(count),
    )
    from bench.gpu.compare import storage

    more = {"images": images, "dtype": storage(precision)}
    yield Call("gather_batch", "by rows", {**more, "indices": order[:7].astype(np.int64)}, precision)
    b = 6 if tiny else 300  # does not divide the epoch
    for step in (1, 3):
        clock = np.array([7, step, step], np.int64)
        arguments = {**more, "indices": order.astype(np.int64), "count": b, "clock": clock}
        arguments["rows"] = b if step == 1 else count - 3 * b
        yield Call("gather_batch", f"by the clock, batch {step}", arguments, precision)


def ends(precision: str, tiny: bool) -> Iterator[Call]:
    """Losses with their gradients, extreme logits among them; the step's figures and the clock."""
    pairs = 3 if tiny else 100
    (logits,) = numbers("logits", (2 * pairs, 1, 1, 1))
    logits[:2] = [[[[80.0]]], [[[-80.0]]]]
    yield Call("adversarial_losses", f"{pairs} pairs", {"logits": Act(logits, stored="fp32")}, "fp32")
    figures, first, second = numbers("figures", (4,), (9,), (70,))
    arguments = {"figures": figures, "squares": [np.square(first), np.square(second)]}
    arguments |= {"out_clock": np.array([7, 3, 3], np.int64), "out_ring": numbers("ring", (8, 6))[0]}
    yield Call("record_step", "two players", {**arguments, "out_bad": np.array([-1, -1], np.int64)}, "fp32")
