"""Every convolution of the SVHN and CelebA steps, forward and both gradients, against cuDNN through PyTorch.

Same numbers, same precision, batch 100 (200 where the discriminator sees both halves), cuDNN in channels_last and
benchmark mode. Both answers are compared with PyTorch's own in float32 before anything is timed. The ratio is cuDNN /
alikit: above 1 alikit is faster. Beside the single gradients stands what a step launches: both in one launch, against
both of cuDNN's.

What the numbers do not show: what rides on alikit's convolutions in the step (bias, activation, dropout, moments),
which costs PyTorch launches of its own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from bench.gpu.layers import convolutions
from bench.gpu.part import Item, Options, Row, grid
from bench.kernels import Shape

BATCH = 100
#: what is timed, in order: the step's own precision first
SUITES = (("svhn", "bf16"), ("celeba", "bf16"), ("svhn", "tf32"))
ROUNDS, SAMPLE = 7, 1e-3
#: distance from the float32 answer that is allowed
ALLOWED = {"bf16": 6e-3, "tf32": 2e-3}
#: geometric mean over a suite: must, aim
TARGETS = (0.9, 1.2)
PASSES = ("forward", "input grad", "weight grad", "both grads")


def items(options: Options) -> list[Item]:
    """A layer each."""
    if not options.timed:
        return []
    return [
        Item(f"{model} {precision} {shape.title}", lambda s=shape, m=model, p=precision: layer(s, m, p), 40)
        for model, precision in SUITES
        for shape in shapes(model)
    ]


def shapes(model: str) -> list[Shape]:
    """All different ones; those with a single product of a few numbers (the last logit) are not worth a figure."""
    return list(dict.fromkeys(found.shape for found in convolutions(model, BATCH) if found.shape.maps > 1))


def planned_calls() -> Iterator[Callable[[], object]]:
    """alikit's calls on arrays without content, for the planned device."""
    from alikit.kernels import device
    from bench.gpu.compare import storage

    for model, precision in SUITES:
        kind = storage(precision)
        for s in shapes(model):
            x = device.empty_activation((s.n, s.size, s.size, s.channels), kind)
            gy = device.empty_activation((s.n, s.out, s.out, s.maps), kind)
            make = device.empty_activation if precision == "bf16" else device.empty
            yield from ours(s, x, make(s.weight, kind), gy, precision).values()


def ours(s: Shape, x: Any, w: Any, gy: Any, precision: str) -> dict[str, Callable[[], Any]]:
    """alikit's call for each pass."""
    from alikit.kernels.gpu.conv import conv2d, conv2d_backward, conv2d_input_grad, conv2d_weight_grad

    def down(a: Any) -> Any:
        return conv2d(a, w, stride=s.stride, precision=precision)[0]

    def up(a: Any, size: int) -> Any:
        return conv2d_input_grad(a, w, (size, size), stride=s.stride, precision=precision)[0]

    grows = s.op == "tconv"
    pair = (gy, x) if grows else (x, gy)
    kernel = (s.kernel, s.kernel)
    backward = {"stride": s.stride, "transposed": grows, "precision": precision, "partials": True}
    return {
        "forward": (lambda: up(x, s.out)) if grows else lambda: down(x),
        "input grad": (lambda: down(gy)) if grows else lambda: up(gy, s.size),
        "weight grad": lambda: conv2d_weight_grad(*pair, kernel, stride=s.stride, precision=precision),
        "both grads": lambda: conv2d_backward(x, gy, w, **backward)[::2],
    }


def theirs(s: Shape, x: Any, w: Any, gy: Any) -> dict[str, Callable[[], Any]]:
    """PyTorch's call for each pass, on (N, C, H, W) tensors."""
    import torch

    grows = s.op == "tconv"
    steps, none, ones = [s.stride] * 2, [0, 0], [1, 1]

    def forward() -> Any:
        return torch.ops.aten.convolution(x, w, None, steps, none, ones, grows, none, 1)

    def backward(wanted: list[bool]) -> Any:
        return torch.ops.aten.convolution_backward(gy, x, w, None, steps, none, ones, grows, none, 1, wanted)

    return {
        "forward": forward,
        "input grad": lambda: backward([True, False, False])[0],
        "weight grad": lambda: backward([False, True, False])[1],
        "both grads": lambda: backward([True, True, False])[:2],
    }


def tensors(s: Shape, precision: str) -> tuple[Any, Any, Any]:
    """Random x, w, gy in channels_last memory."""
    import torch

    from bench.torch_peer import channels_first

    generator = torch.Generator("cuda").manual_seed(1)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    fan = s.channels * s.kernel**2 / (s.stride**2 if s.op == "tconv" else 1)
    sizes = (s.n, s.size, s.size, s.channels), s.weight, (s.n, s.out, s.out, s.maps)
    x, w, gy = (torch.randn(size, device="cuda", generator=generator) for size in sizes)
    x, w, gy = (channels_first(a.to(kind)) for a in (x, w / math.sqrt(fan), gy))
    return x, w, gy


def layer(s: Shape, model: str, precision: str) -> list[Row]:
    """Checks and times every pass of a layer."""
    from bench.gpu.bridge import to_alikit
    from bench.gpu.clock import Ours, Torch, measure, ratio
    from bench.gpu.torch_steps import allow_tf32

    x, w, gy = tensors(s, precision)
    mine = ours(s, to_alikit(x), to_alikit(w, activation=precision == "bf16"), to_alikit(gy), precision)
    allow_tf32(False)
    exact = theirs(s, *(a.float() for a in (x, w, gy)))
    wanted = {name: exact[name]() for name in PASSES[:3]}
    allow_tf32(True)
    peer, rows = theirs(s, x, w, gy), []
    for name in PASSES:
        errors = check(mine[name](), peer[name](), wanted, name, precision)
        found = measure({"alikit": (Ours(), mine[name]), "cudnn": (Torch(), peer[name])}, rounds=ROUNDS, sample=SAMPLE)
        flops = s.flops * (2 if name == "both grads" else 1)
        about = {"model": model, "precision": precision, "layer": s.title, "pass": name, "flops": flops}
        rows.append(about | errors | found | {"ratio": ratio(found, "cudnn", "alikit")})
    return rows


def check(mine: Any, peer: Any, wanted: dict[str, Any], name: str, precision: str) -> dict[str, float]:
    """Distances of both answers from the float32 one; AssertionError where alikit's is too far."""
    from bench.gpu.bridge import to_torch

    whole = mine if isinstance(mine, tuple) else (mine,)
    theirs = peer if isinstance(peer, tuple) else (peer,)
    targets = [wanted[n] for n in (("input grad", "weight grad") if name == "both grads" else (name,))]
    summed = [a.get().sum(axis=0) if a.ndim == 5 else a for a in whole]  # partial sums: small, added on the host
    errors = [float((to_torch(a) - b).norm() / b.norm()) for a, b in zip(summed, targets, strict=True)]
    others = [float((a.float() - b).norm() / b.norm()) for a, b in zip(theirs, targets, strict=True)]
    if not max(errors) <= ALLOWED[precision]:
        raise AssertionError(f"not timed: {name} is off by {max(errors):.2g} of its norm (cuDNN: {max(others):.2g})")
    return {"error": max(errors), "error_cudnn": max(others)}


def table(rows: list[Row]) -> list[str]:
    """Geometric means for each suite and pass, then every figure that cuDNN wins."""
    must, aim = TARGETS
    lines: list[tuple[Any, ...]] = []
    for model, precision in SUITES:
        those = [row for row in rows if (row["model"], row["precision"]) == (model, precision)]
        for name in (*PASSES, "all three"):
            some = [row for row in those if row["pass"] == name or (name == "all three" and row["pass"] in PASSES[:3])]
            if some:
                mean = statistics.geometric_mean(row["ratio"]["ratio"] for row in some)
                sums = [1e6 * sum(row[side]["seconds"] for row in some) for side in ("alikit", "cudnn")]
                rate = sum(row["flops"] for row in some) / sums[0] * 1e-6
                verdict = "" if name != "all three" else "aim" if mean >= aim else "must" if mean >= must else "MISSED"
                lines.append((f"{model} {precision} {name}", len(some), mean, *sums, sums[1] / sums[0], rate, verdict))
    heads = ("cuDNN / alikit", "figures", "geometric mean", "alikit us", "cuDNN us", "of sums", "TFLOP/s", "")
    slow = sorted((row for row in rows if row["ratio"]["ratio"] < 1), key=lambda row: row["ratio"]["ratio"])
    return [*grid(heads, lines), *(_slow(row) for row in slow[:12])]


def _slow(row: Row) -> str:
    times = f"{1e6 * row['alikit']['seconds']:.1f} us against {1e6 * row['cudnn']['seconds']:.1f}"
    return f"slower than cuDNN: {row['precision']} {row['layer']} {row['pass']}: {times}"
