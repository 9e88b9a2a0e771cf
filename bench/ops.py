"""Question: what does the engine cost where the arrays cost nothing? One op on four numbers, forward and backward.

The 2-D mixture runs on this figure. "mean of the ops" is the headline: every op once, in turn, divided by their number;
"chain" is a graph of 20 ops walked in one go, the time for each of them.

What the numbers do not show: anything about large arrays; the layers' fused ops (`svhn-step`, `mixture-step`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.case import Arrays, Case, Workload

SHAPE = (2, 2)
SLOPE = 0.1
LINKS = 10  # of the chain, two ops each
#: op -> number of inputs
OPS = {"add": 2, "mul": 2, "exp": 1, "leaky_relu": 1, "matmul": 2}
MEAN = "mean of the ops"


def probe() -> dict[str, Any]:
    """x, y and the upstream gradient."""
    import numpy as np

    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, SHAPE).astype(np.float32) for name in ("x", "y", "gy")}


def workload(side: Any) -> Workload:
    """Thunks and answers from one side's tensors, ops and gradient function: the same for both libraries."""
    thunks: dict[str, Callable[[], object]] = {}
    given = side.tensors(probe())
    calls = {name: _call(side, name, given) for name in OPS}

    def every() -> None:
        for call in calls.values():
            call()

    thunks[MEAN] = every
    thunks |= calls
    thunks["chain"] = lambda: _chain(side, given)
    return Workload(thunks, answer=lambda inputs: _answer(side, side.tensors(inputs)), probe=probe)


def _call(side: Any, name: str, given: dict[str, Any]) -> Callable[[], Any]:
    op, grad, inputs, gy = side.ops[name], side.grad, [given["x"], given["y"]][: OPS[name]], given["gy"]
    return lambda: grad(op(*inputs), inputs, gy)


def _chain(side: Any, given: dict[str, Any]) -> Any:
    add, mul = side.ops["add"], side.ops["mul"]
    h, y = given["x"], given["y"]
    for _ in range(LINKS):
        h = add(mul(h, y), y)
    return side.grad(h, [given["x"], y], given["gy"])


def _answer(side: Any, given: dict[str, Any]) -> dict[str, Any]:
    results = {name: _call(side, name, given)() for name in OPS} | {"chain": _chain(side, given)}
    arrays = {f"{name}/g{'xy'[i]}": side.array(g) for name, grads in results.items() for i, g in enumerate(grads)}
    inputs = [given["x"], given["y"]]
    return arrays | {f"{name}/out": side.array(side.ops[name](*inputs[: OPS[name]])) for name in OPS}


class Alikit:
    """alikit's tensors, ops and gradient."""

    def __init__(self) -> None:
        from alikit import Tensor, grad, ops

        self.ops: dict[str, Any] = {name: getattr(ops, name) for name in OPS}
        self.ops["leaky_relu"] = lambda x: ops.leaky_relu(x, SLOPE)
        self.grad = lambda y, inputs, gy: grad([y], [inputs], gys=[gy])[0]
        self.tensor = Tensor

    def tensors(self, arrays: Arrays) -> dict[str, Any]:
        return {name: a if name == "gy" else self.tensor(a, requires_grad=True) for name, a in arrays.items()}

    def array(self, x: Any) -> Any:
        return getattr(x, "data", x) if isinstance(x, self.tensor) else x


class Torch:
    """The same of PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.ops: dict[str, Any] = {name: getattr(torch, name) for name in OPS if name != "leaky_relu"}
        self.ops["leaky_relu"] = lambda x: torch.nn.functional.leaky_relu(x, SLOPE)
        self.grad = torch.autograd.grad

    def tensors(self, arrays: Arrays) -> dict[str, Any]:
        return {name: self.torch.from_numpy(a).requires_grad_(name != "gy") for name, a in arrays.items()}

    def array(self, x: Any) -> Any:
        return x.detach().numpy()


CASE = Case(
    name="ops",
    title="one autograd op on four numbers",
    alikit=lambda options: workload(Alikit()),
    torch=lambda options: workload(Torch()),
    several=True,
    seconds=0.2,
    unit="us",
    scale=1e6,
    targets={MEAN: (1.5, 1.0)},
    units={MEAN: len(OPS), "chain": 2 * LINKS},
)
