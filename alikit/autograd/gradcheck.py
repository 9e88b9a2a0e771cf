"""Gradient check by directional derivatives in float64, with an error at a kink.

For f: x -> y and independent random directions dx and upstream gradients gy, backward must give

    sum_i <gx_i, dx_i>  =  <gy, (f(x + h dx) - f(x - h dx)) / 2h>  +  O(h^2)

One direction tests every component at once. At a point that is not differentiable the one-sided differences disagree
by more than curvature explains, and the check says so rather than pass or fail by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alikit.autograd.backward import grad
from alikit.autograd.tensor import Tensor


class KinkError(AssertionError):
    """The function is not differentiable at the point of the check."""


def gradcheck(
    fn: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[np.ndarray],
    *,
    seed: int = 0,
    directions: int = 2,
    step: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> None:
    """Checks every gradient of `fn` at `inputs` against central differences.

    fn          takes one Tensor for each input, returns a Tensor or several, of any shapes
    inputs      float64 arrays
    directions  independent pairs (dx, gy) to try, on each input alone and on all together
    step        h, the length of the difference step
    rtol, atol  allowed error, relative to the sum of absolute products, and absolute

    AssertionError naming the input where a gradient is wrong; KinkError at a kink; ValueError for other dtypes.
    """
    for i, x in enumerate(inputs):
        if x.dtype != np.float64:
            raise ValueError(f"gradcheck: input {i} is {x.dtype}, wanted float64")
    rng = np.random.default_rng(seed)
    for _ in range(directions):
        tensors = [Tensor(x.copy(), requires_grad=True) for x in inputs]
        outputs = _outputs(fn, tensors)
        gys = [_direction(rng, y.shape) for y in outputs]
        dxs = [_direction(rng, x.shape) for x in inputs]
        gxs = _input_grads(outputs, gys, tensors)
        subsets = [[i] for i in range(len(inputs))] + ([list(range(len(inputs)))] if len(inputs) > 1 else [])
        for subset in subsets:
            _compare(fn, inputs, dxs, gys, gxs, subset, step, rtol, atol)


def _outputs(fn: Callable[..., Any], tensors: Sequence[Tensor]) -> list[Tensor]:
    ys = fn(*tensors)
    return [ys] if isinstance(ys, Tensor) else list(ys)


def _direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Components of random sign whose sizes stay away from zero, so that none goes untested."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def _input_grads(outputs: list[Tensor], gys: list[np.ndarray], tensors: list[Tensor]) -> list[np.ndarray]:
    pairs = [(y, gy) for y, gy in zip(outputs, gys, strict=True) if y.requires_grad]
    rows = grad([y for y, _ in pairs], [tensors] * len(pairs), gys=[gy for _, gy in pairs])
    gxs = []
    for i, t in enumerate(tensors):
        parts = [row[i] for row in rows if row[i] is not None]
        for part in parts:
            if part.shape != t.shape or part.dtype != t.dtype:
                raise AssertionError(f"gradient {i} is {part.shape} {part.dtype}, its input {t.shape} {t.dtype}")
        gxs.append(sum(parts, np.zeros(t.shape)))
    return gxs


def _compare(
    fn: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    dxs: list[np.ndarray],
    gys: list[np.ndarray],
    gxs: list[np.ndarray],
    subset: list[int],
    step: float,
    rtol: float,
    atol: float,
) -> None:
    def value(h: float) -> tuple[float, float]:
        """<gy, f(x + h dx)>, and the sum of its absolute terms."""
        moved = [
            Tensor(x + h * dx if i in subset else x.copy()) for i, (x, dx) in enumerate(zip(inputs, dxs, strict=True))
        ]
        terms = [gy * y.data for gy, y in zip(gys, _outputs(fn, moved), strict=True)]
        return float(sum(np.sum(t) for t in terms)), float(sum(np.sum(np.abs(t)) for t in terms))

    (plus, _), (here, size), (minus, _) = value(step), value(0.0), value(-step)
    numeric = (plus - minus) / (2 * step)
    given = sum(float(np.sum(gxs[i] * dxs[i])) for i in subset)
    scale = sum(float(np.sum(np.abs(gxs[i] * dxs[i]))) for i in subset)
    allowed = atol + rtol * max(scale, abs(numeric)) + 1e-14 * size / step
    jump = abs((plus - here) - (here - minus)) / step
    # a smooth function's one-sided slopes differ by step * curvature; halving the step halves that, not a kink's jump
    if jump > 10 * allowed:
        (half_plus, _), (half_minus, _) = value(step / 8), value(-step / 8)
        if abs((half_plus - here) - (here - half_minus)) / (step / 8) > 0.5 * jump:
            raise KinkError(f"not differentiable here along inputs {subset}: one-sided slopes differ by {jump:.3g}")
    if not abs(numeric - given) <= allowed:
        raise AssertionError(
            f"gradient of inputs {subset}: backward gives {given:.9g}, differences {numeric:.9g} "
            f"(allowed {allowed:.2g})"
        )
