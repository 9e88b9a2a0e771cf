"""Layers in float64 and loops, with gradients written out: nothing of the engine or the kernels."""

from dataclasses import dataclass, field

import numpy as np

from alikit.models import ModelSpec, Row


@dataclass
class Var:
    """An array, and for each array it was made from the way back: gradient here -> gradient there."""

    value: np.ndarray
    ways: list = field(default_factory=list)

    def grads(self, upstream: np.ndarray | float = 1.0) -> dict[int, np.ndarray]:
        """Gradients of self by id, summed over all paths: every path is walked on its own."""
        total = {id(self): np.asarray(upstream)}
        for parent, back in self.ways:
            for key, g in parent.grads(back(upstream)).items():
                total[key] = total.get(key, 0) + g
        return total


def windows(size: int, stride: int) -> list[tuple[int, int, int, int]]:
    return [(i, j, i * stride, j * stride) for i in range(size) for j in range(size)]


def conv(x: Var, w: Var, row: Row) -> Var:
    k, y = row.kernel, np.zeros((len(x.value), row.size, row.size, len(w.value)))
    for i, j, a, b in windows(row.size, row.stride):
        y[:, i, j] = np.einsum("nhwc,ohwc->no", x.value[:, a : a + k, b : b + k], w.value)

    def to_x(g):
        gx = np.zeros_like(x.value)
        for i, j, a, b in windows(row.size, row.stride):
            gx[:, a : a + k, b : b + k] += np.einsum("no,ohwc->nhwc", g[:, i, j], w.value)
        return gx

    def to_w(g):
        places = windows(row.size, row.stride)
        return sum(np.einsum("no,nhwc->ohwc", g[:, i, j], x.value[:, a : a + k, b : b + k]) for i, j, a, b in places)

    return Var(y, [(x, to_x), (w, to_w)])


def transposed_conv(x: Var, w: Var, row: Row) -> Var:
    k, y = row.kernel, np.zeros((len(x.value), row.size, row.size, w.value.shape[3]))
    places = windows(x.value.shape[1], row.stride)
    for i, j, a, b in places:
        y[:, a : a + k, b : b + k] += np.einsum("no,ohwc->nhwc", x.value[:, i, j], w.value)

    def to_x(g):
        gx = np.zeros_like(x.value)
        for i, j, a, b in places:
            gx[:, i, j] = np.einsum("nhwc,ohwc->no", g[:, a : a + k, b : b + k], w.value)
        return gx

    def to_w(g):
        return sum(np.einsum("no,nhwc->ohwc", x.value[:, i, j], g[:, a : a + k, b : b + k]) for i, j, a, b in places)

    return Var(y, [(x, to_x), (w, to_w)])


def batch_norm(x: Var, gamma: Var, beta: Var) -> tuple[Var, np.ndarray, np.ndarray]:
    axes = (0, 1, 2)
    mean, std = x.value.mean(axes), np.sqrt(x.value.var(axes) + 1e-4)
    xhat = (x.value - mean) / std

    def to_x(g):
        return gamma.value / std * (g - g.mean(axes) - xhat * (g * xhat).mean(axes))

    ways = [(x, to_x), (gamma, lambda g: (g * xhat).sum(axes)), (beta, lambda g: g.sum(axes))]
    return Var(gamma.value * xhat + beta.value, ways), mean, std


def nonlinear(x: Var, kind: str, spec: ModelSpec) -> Var:
    if kind == "leaky":
        slope = np.where(x.value > 0, 1, spec.slope)
        return Var(x.value * slope, [(x, lambda g: g * slope)])
    if kind == "sigmoid":
        y = 1 / (1 + np.exp(-x.value))
        return Var(y, [(x, lambda g: g * y * (1 - y))])
    if kind == "maxout":
        pairs = x.value.reshape(*x.value.shape[:-1], -1, 2)
        first = pairs[..., :1] >= pairs[..., 1:]
        won = np.concatenate([first, ~first], axis=-1)
        return Var(pairs.max(axis=-1), [(x, lambda g: (g[..., None] * won).reshape(x.value.shape))])
    return x


def scaled(x: Var, factor: np.ndarray) -> Var:
    return Var(x.value * factor, [(x, lambda g: g * factor)])


def joined(parts: list[Var], axis: int) -> Var:
    ends = np.cumsum([0, *(p.value.shape[axis] for p in parts)])

    def way(i):
        return parts[i], lambda g: np.take(g, np.arange(ends[i], ends[i + 1]), axis)

    return Var(np.concatenate([p.value for p in parts], axis), [way(i) for i in range(len(parts))])
