"""The passes of batch norm as compiled loops, as `fused` has the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..parallel import BLOCK
from . import loops, loops_norm
from .fused import columns, drop
from .plain import blocks


def moments(x: np.ndarray) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    width = x.shape[1]
    found, of_blocks = np.zeros((2, width)), np.empty((3, width))
    part, centre = np.empty((2, width), x.dtype), np.empty(width, x.dtype)
    mean, m2 = found
    loops_norm.moments(x, max(1, BLOCK // width), part, centre, of_blocks, mean, m2, *columns(0, width))
    return [(len(x), mean, m2)]


def norm_vectors(
    gamma: np.ndarray, beta: np.ndarray, var: np.ndarray, eps: float, grown: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    number, out = var.dtype.type, np.empty((3, len(var)), var.dtype)
    loops_norm.norm_vectors(gamma, beta, var, number(eps), number(1), number(grown), out, *columns(0, len(var)))
    return out[0], out[1], out[2]


def norm_factors(
    sums: np.ndarray, gamma: np.ndarray, inv_std: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    factors, gammas = np.empty((len(sums), 3, len(gamma)), gamma.dtype), np.empty((2, len(gamma)), gamma.dtype)
    loops_norm.norm_factors(sums, gamma, inv_std, rows, factors, gammas, *columns(0, len(gamma)))
    return factors, gammas[0], gammas[1]


def running(
    mean: np.ndarray, inv_std: np.ndarray, running_mean: np.ndarray, running_std: np.ndarray, momentum: float
) -> None:
    number = running_mean.dtype.type
    loops_norm.running(mean, inv_std, running_mean, running_std, number(momentum), number(1))


def normalise(
    x: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: float,
    keep: np.ndarray | None,
    out: np.ndarray,
) -> None:
    loops_norm.normalise(x, centre, scale, shift, x.dtype.type(slope), out, *columns(0, x.shape[1]))
    if keep is not None:
        out *= keep


def through(
    gy: np.ndarray,
    x: np.ndarray,
    y: np.ndarray | None,
    mean: np.ndarray,
    scale: np.ndarray | None,
    beta: np.ndarray | None,
    slope: float,
    keep: np.ndarray | None,
    rate: float,
    out: np.ndarray,
    sums: np.ndarray,
) -> None:
    number, part = x.dtype.type, np.empty((2, x.shape[1]), x.dtype)
    for here in blocks(*x.shape):
        block = out[here]
        if y is not None and keep is None:
            if gy is not out:
                np.copyto(block, gy[here])
            scalars = number(slope), number(1)
            loops_norm.through_kept(block, x[here], y[here], mean, *scalars, part, sums, *columns(0, x.shape[1]))
            continue
        if y is None:
            loops_norm.through(gy[here], x[here], mean, scale, beta, number(slope), block)
        else:
            loops.leaky_relu_grad(gy[here].reshape(-1), y[here].reshape(-1), number(slope), block.reshape(-1))
        if keep is not None:
            drop(block.reshape(-1), keep[here].reshape(-1), rate)
        loops_norm.gradient_sums(block, x[here], mean, part, sums)


def norm_grad(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, k0: np.ndarray, k1: np.ndarray, k2: np.ndarray, out: np.ndarray
) -> None:
    loops_norm.norm_grad(g, x, mean, k0, k1, k2, out, *columns(0, x.shape[1]))


def norm_channels(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
    grown: float,
    slope: float,
    start: int,
    stop: int,
    mean: np.ndarray,
    inv_std: np.ndarray,
    out: np.ndarray,
) -> None:
    number, width = x.dtype.type, x.shape[1]
    part, vectors, sums = np.empty((3, width), x.dtype), np.empty((3, width), x.dtype), np.zeros((5, width))
    scalars = [number(scalar) for scalar in (eps, 1, grown, slope)]
    rows = max(1, BLOCK // width)
    loops_norm.norm_channels(x, gamma, beta, *scalars, rows, part, sums, vectors, mean, out, *columns(start, stop))
    inv_std[start:stop] = vectors[0, start:stop]


def norm_channels_grad(
    g: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    slope: float,
    start: int,
    stop: int,
    gammas: np.ndarray,
) -> None:
    number, width = x.dtype.type, x.shape[1]
    part, sums, factors = np.empty((2, width), x.dtype), np.zeros((1, 2, width)), np.empty((1, 3, width), x.dtype)
    scalars, mine = (number(slope), number(1)), columns(start, stop)
    loops_norm.norm_channels_grad(g, x, y, gamma, mean, inv_std, *scalars, part, sums, factors, gammas, *mine)
