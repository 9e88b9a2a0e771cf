"""The passes of batch norm on NumPy, as `plain` has the others."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..parallel import scratch
from .plain import blocks, column_sums, leaky_relu, slopes


def moments(x: np.ndarray) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """Of stretches of x: (rows, width) their rows, mean and centred square, (width,) float64, to be merged by Chan's
    formula."""
    for here in blocks(*x.shape):
        block = x[here]
        mean = (column_sums(block) / len(block)).astype(x.dtype)
        centred = np.subtract(block, mean, out=scratch("act", block.shape, x.dtype))
        shift = column_sums(centred) / len(block)  # what rounding the mean left behind
        centred *= centred
        yield len(block), mean + shift, column_sums(centred) - len(block) * shift**2


def norm_vectors(
    gamma: np.ndarray, beta: np.ndarray, var: np.ndarray, eps: float, grown: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a batch norm 1 / sqrt(var + eps), and the scale and shift of x - mean, both times `grown`: (C,) each."""
    inv_std = 1 / np.sqrt(var + var.dtype.type(eps))
    return inv_std, gamma * inv_std * grown, beta * grown


def norm_factors(
    sums: np.ndarray, gamma: np.ndarray, inv_std: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors of g, of x - mean and of 1 in a batch norm's input gradient, (K, 3, C), and the gradients of gamma and
    beta, (C,); sums: (K, 2, C) float64, of g and of g * (x - mean) over so many rows."""
    factors, scale = np.empty((len(sums), 3, len(gamma)), gamma.dtype), gamma * inv_std
    factors[:, 0] = scale
    factors[:, 1] = sums[:, 1] * (scale * inv_std**2 / -rows)
    factors[:, 2] = sums[:, 0] * (scale / -rows)
    return factors, (sums[0, 1] * inv_std).astype(gamma.dtype), sums[0, 0].astype(gamma.dtype)


def running(
    mean: np.ndarray, inv_std: np.ndarray, running_mean: np.ndarray, running_std: np.ndarray, momentum: float
) -> None:
    """running_mean, running_std: (C,) <- a step of `momentum` towards mean and 1 / inv_std."""
    running_mean += momentum * (mean - running_mean)
    running_std += momentum * (1 / inv_std - running_std)


def normalise(
    x: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: float,
    keep: np.ndarray | None,
    out: np.ndarray,
) -> None:
    """out <- leaky_relu((x - centre) * scale + shift) * keep, matrices and vectors."""
    for here in blocks(*x.shape):
        block = np.subtract(x[here], centre, out=out[here])
        block *= scale
        block += shift
        leaky_relu(block, slope)
        if keep is not None:
            block *= keep[here]


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
    """out <- gy passed back through y = dropout(leaky_relu(a)), a = (x - mean) * scale + beta; matrices and vectors.

    y     where it is at hand: its sign spares computing a again, and scale and beta are not asked for
    sums  (2, width) float64, to which the sums of out and of out * (x - mean) are added
    """
    for here in blocks(*x.shape):
        centred = np.subtract(x[here], mean, out=scratch("centred", x[here].shape, x.dtype))
        if y is not None:
            a = y[here]
        else:
            assert scale is not None, "asked for without y"
            assert beta is not None, "asked for without y"
            a = np.multiply(centred, scale, out=scratch("pre", centred.shape, centred.dtype))
            a += beta
        block = np.multiply(gy[here], slopes(a, slope), out=out[here])
        if keep is not None:
            block *= keep[here]
            block *= 1 / (1 - rate)
        sums[0] += column_sums(block)
        centred *= block
        sums[1] += column_sums(centred)


def norm_grad(
    g: np.ndarray, x: np.ndarray, mean: np.ndarray, k0: np.ndarray, k1: np.ndarray, k2: np.ndarray, out: np.ndarray
) -> None:
    """out <- k0 g + k1 (x - mean) + k2, matrices and vectors."""
    for here in blocks(*x.shape):
        t = np.subtract(x[here], mean, out=scratch("centred", x[here].shape, x.dtype))
        t *= k1
        t += k2
        block = np.multiply(g[here], k0, out=out[here])
        block += t


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
    """A batch norm on the channels [start, stop) of x: (rows, width), a few hundred rows: mean, inv_std and out there,
    from `moments`, `norm_vectors` and `normalise`."""
    here = slice(start, stop)
    centre = (column_sums(x[:, here]) / len(x)).astype(x.dtype)
    centred = x[:, here] - centre
    shift = column_sums(centred) / len(x)  # what rounding the mean left behind
    var = column_sums(centred * centred) / len(x) - shift**2
    mean[here] = centre + shift
    inv_std[here], scale, moved = norm_vectors(gamma[here], beta[here], var.astype(x.dtype), eps, grown)
    mine = np.empty_like(centred)
    normalise(x[:, here], mean[here], scale, moved, slope, None, mine)
    out[:, here] = mine


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
    """The way back through a batch norm and its leaky ReLU on the channels [start, stop), from `through`,
    `norm_factors` and `norm_grad`: g, of y, becomes that of x. gammas: (2, width), the gradients of gamma and beta."""
    here, sums = slice(start, stop), np.zeros((1, 2, stop - start))
    mine, centre = np.ascontiguousarray(g[:, here]), mean[here]
    through(mine, x[:, here], y[:, here], centre, None, None, slope, None, 0.0, mine, sums[0])
    factors, gammas[0, here], gammas[1, here] = norm_factors(sums, gamma[here], inv_std[here], len(x))
    k0, k1, k2 = factors[0]
    norm_grad(mine, x[:, here], centre, k0, k1, k2, mine)
    g[:, here] = mine
