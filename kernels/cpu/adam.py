"""Adam and the moving average of weights, over flat buffers.

    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
    theta <- theta - a_t m / (sqrt(v) + eps),   a_t = a sqrt(1 - b2^t) / (1 - b1^t)

eps stands beside the *uncorrected* sqrt(v) (method 3.1), unlike in most libraries. All passes run on blocks that
stay in cache, gradient by gradient, each read where it lies.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from . import passes
from .parallel import BLOCK, scratch, settle, split, threads


class _Step:
    """One player's step: its arrays, checked, and its share of the work; arguments as `adam_step` has them.

    bounds  where in the flat buffers each gradient begins, and the end
    norms   (threads, gradients) float64: squared norms, by the part of the work that found them
    """

    def __init__(
        self,
        grads: Sequence[np.ndarray],
        out: np.ndarray,
        out_m: np.ndarray,
        out_v: np.ndarray,
        step: int | np.ndarray,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
    ):
        sizes = [g.size // len(g) if g.ndim == 5 else g.size for g in grads]
        self.bounds = list(accumulate(sizes, initial=0))
        if not (self.bounds[-1],) == out.shape == out_m.shape == out_v.shape:
            found = f"{out.shape}, {out_m.shape} and {out_v.shape}"
            raise ValueError(f"adam_step: {self.bounds[-1]} gradients for buffers of {found}")
        t = int(step[2]) + 1 if isinstance(step, np.ndarray) else step
        if t < 1:
            raise ValueError(f"adam_step: step must be at least 1, found {t}")
        rate = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        self.grads, self.buffers, self.scalars = grads, (out, out_m, out_v), (rate, beta1, beta2, eps)
        self.norms = np.zeros((threads(), len(grads)))

    def share(self, start: int, stop: int, part: int) -> None:
        """Elements [start, stop) of the buffers, block by block, each with the gradients that lie in it."""
        for a in range(start, stop, BLOCK):
            b = min(a + BLOCK, stop)
            first, last = bisect_right(self.bounds, a) - 1, bisect_left(self.bounds, b)
            stretches = [
                _stretch(self.grads[i], max(a - self.bounds[i], 0), min(b, self.bounds[i + 1]) - self.bounds[i])
                for i in range(first, last)
            ]
            p, m, v = (flat[a:b] for flat in self.buffers)
            passes.adam(stretches, p, m, v, *self.scalars, self.norms[part, first:last])


def adam_step(
    grads: Sequence[np.ndarray],
    *,
    out: np.ndarray,
    out_m: np.ndarray,
    out_v: np.ndarray,
    step: int | np.ndarray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    out_low: Sequence[np.ndarray | None] | None = None,
) -> np.ndarray:
    """One step of Adam for all parameters.

    grads         arrays of the buffers' dtype whose elements, end to end, fill them; one of five dimensions, (S, O, kH,
                  kW, C), holds partial sums of a weight's gradient, waited for and added here in their order
    out           (P,) parameters, changed; out_m, out_v: (P,) first and second moments, changed
    step          t, from 1; or the clock [seed, step, updates], (3,) int64, before it ticks: t = updates + 1
    out_low       for each gradient an array of the parameter's shape that receives the new values, rounded to its
                  dtype, or None

    Returns (len(grads),) float64: the squared norm of each gradient; not finite where the gradient is not.
    """
    steps: Any = step if isinstance(step, np.ndarray) else [step]
    players: dict[str, Any] = {"out": [out], "out_m": [out_m], "out_v": [out_v], "step": steps, "out_low": [out_low]}
    return adam_steps([grads], **players, lr=[lr], beta1=[beta1], beta2=[beta2], eps=[eps])[0]


def adam_steps(
    grads: Sequence[Sequence[np.ndarray]],
    *,
    out: Sequence[np.ndarray],
    out_m: Sequence[np.ndarray],
    out_v: Sequence[np.ndarray],
    step: Sequence[int] | np.ndarray,
    lr: Sequence[float],
    beta1: Sequence[float],
    beta2: Sequence[float],
    eps: Sequence[float],
    out_low: Sequence[Sequence[np.ndarray | None] | None],
) -> list[np.ndarray]:
    """`adam_step` for several players: each argument holds one for each player; a clock is everyone's.

    Returns for each player what `adam_step` returns.
    """
    times = [step] * len(grads) if isinstance(step, np.ndarray) else step
    given = zip(grads, out, out_m, out_v, times, lr, beta1, beta2, eps, strict=True)
    steps = [_Step(*arguments) for arguments in given]
    offsets = list(accumulate((flat.size for flat in out), initial=0))
    settle()

    def share(start: int, stop: int, part: int) -> None:
        for one, begin, end in zip(steps, offsets[:-1], offsets[1:], strict=True):
            if start < end and begin < stop:
                one.share(max(start, begin) - begin, min(stop, end) - begin, part)

    split(share, offsets[-1], work=10 * offsets[-1], align=16)
    for one, low in zip(steps, out_low, strict=True):
        _copy_low(one, low)
    return [one.norms.sum(axis=0) for one in steps]


def _copy_low(step: _Step, copies: Sequence[np.ndarray | None] | None) -> None:
    if copies is None:
        return
    for low, a, b in zip(copies, step.bounds[:-1], step.bounds[1:], strict=True):
        if low is not None:
            low[...] = step.buffers[0][a:b].reshape(low.shape)


def _stretch(g: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Elements of a gradient in C order, its partial sums added."""
    if g.ndim != 5:
        return g.reshape(-1)[start:stop]
    parts = g.reshape(len(g), -1)[:, start:stop]
    return sum(parts[1:], parts[0])


def moving_average(x: np.ndarray, *, out: np.ndarray, rate: float) -> None:
    """Exponential moving average: out <- out + rate * (x - out).

    x, out   (P,) of one dtype; out is changed
    rate     weight of the new value, in (0, 1]
    """
    if x.shape != out.shape:
        raise ValueError(f"moving_average: x has shape {x.shape}, wanted {out.shape}")

    def share(start: int, stop: int, _part: int) -> None:
        for a in range(start, stop, BLOCK):
            here = slice(a, min(a + BLOCK, stop))
            t = np.subtract(x[here], out[here], out=scratch("average", out[here].shape, out.dtype))
            t *= rate
            out[here] += t

    split(share, out.size, work=3 * out.size)
