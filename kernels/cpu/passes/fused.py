"""The passes as compiled loops: for each the signature of `plain`, scalars brought to the array's dtype."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...arrays import Activation
from ..parallel import constant, scratch
from . import loops, plain
from . import rows as row_sums

#: Elements that a row of a matrix should have: a compiled loop is as fast on short ones.
ROW = 1

#: Pieces of a dense maxout layer from which its gradient is left to the winners: with 2 a matrix product is done first.
WINNERS: float = 4

#: Vectors of a row's sums that are kept in registers. Measured for 5 pieces and 200 channels: more leave less room for
#: rows in the first level of cache, fewer look up more often which rows there are.
VECTORS = 7

#: Bytes of rows that are added up at a time: what the first level of cache holds beside the rest.
ROWS_BYTES = 20_000

#: Bytes of a weight's gradient that they are added to: some of the second level of cache.
OUT_BYTES = 200_000

#: Gradients that Adam's loop takes in one call: most are of some hundred numbers, worked on in the time of a call.
TOGETHER = 8


@lru_cache(1024)
def columns(start: int, stop: int) -> tuple[np.unsignedinteger, np.unsignedinteger]:
    """For a loop, unsigned: a column that might be negative would be looked for from the end, one by one."""
    return np.uintp(start), np.uintp(stop)


def activate(y: np.ndarray, bias: np.ndarray | None, activation: Activation) -> None:
    if activation.name == "leaky_relu":
        loops.bias_leaky_relu(y, _or_zeros(bias, y), y.dtype.type(activation.value))
    elif activation.name == "sigmoid":  # NumPy's tanh knows vector instructions, the compiler's does not
        plain.activate(y, bias, activation)
    elif bias is not None:
        loops.add_bias(y, bias)


def _or_zeros(bias: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    return constant(0, x.shape[1:], x.dtype) if bias is None else bias


def activation_grad(
    gy: np.ndarray, y: np.ndarray, activation: Activation, keep: np.ndarray | None, rate: float, out: np.ndarray
) -> None:
    number = gy.dtype.type
    if activation.name == "leaky_relu":
        loops.leaky_relu_grad(gy, y, number(activation.value), out)
    elif activation.name == "sigmoid":
        loops.sigmoid_grad(gy, y, number(1 - rate), number(1), out)
    else:
        np.copyto(out, gy)
    if keep is not None:
        drop(out, keep, rate)


def maxout(
    x: np.ndarray, bias: np.ndarray | None, pieces: int, out: np.ndarray, winner: np.ndarray, to: int = 0
) -> None:
    loops.maxout(pieces)(x, _or_zeros(bias, x), out, winner, to)


def maxout_grad(
    gy: np.ndarray, winner: np.ndarray, pieces: int, keep: np.ndarray | None, rate: float, out: np.ndarray
) -> None:
    if keep is not None:
        gy = gy.copy()
        drop(gy, keep, rate)
    loops.maxout_grad(gy, winner, out)


def winner_sums(g: np.ndarray, winner: np.ndarray, weights: np.ndarray | None, pieces: int, total: np.ndarray) -> None:
    weights = constant(1, (len(g),), g.dtype) if weights is None else np.ascontiguousarray(weights, g.dtype)
    loops.winner_sums(g, winner, weights, pieces, total)


def winner_input_grad(g: np.ndarray, winner: np.ndarray, w: np.ndarray, pieces: int, out: np.ndarray) -> None:
    stretch, last = row_sums.stretches(out.shape[1], out.itemsize, VECTORS)
    if last == 0:
        whole = np.empty((len(out), row_sums.BYTES // out.itemsize), out.dtype)
        winner_input_grad(g, winner, _filled_up(w, whole), pieces, whole)
        out[...] = whole[:, : out.shape[1]]
        return
    g, w = (np.ascontiguousarray(a, out.dtype) for a in (g, w))
    block = max(1, min(_rows_together(pieces * max(stretch, last) * out.itemsize), g.shape[1]))
    panel, index = _panel(block * pieces, max(stretch, last), out.dtype), np.empty(g.size, np.int32)
    row_sums.winner_input_grad(stretch, last)(g, winner, w, pieces, block, index, panel, out)


def winner_weight_grad(g: np.ndarray, winner: np.ndarray, x: np.ndarray, pieces: int, out: np.ndarray) -> None:
    stretch, last = row_sums.stretches(out.shape[1], out.itemsize, VECTORS)
    if last == 0:
        whole = np.empty((len(out), row_sums.BYTES // out.itemsize), out.dtype)
        winner_weight_grad(g, winner, _filled_up(x, whole), pieces, whole)
        out[...] = whole[:, : out.shape[1]]
        return
    block = max(1, min(_rows_together(max(stretch, last) * out.itemsize), len(x)))
    groups = max(1, min(OUT_BYTES // (pieces * out.shape[1] * out.itemsize), g.shape[1]))
    index, places = (np.empty(size, np.int32) for size in (block * groups, groups * pieces))
    x, factors = np.ascontiguousarray(x, out.dtype), np.empty(block * groups, out.dtype)
    panel = _panel(block, max(stretch, last), out.dtype)
    row_sums.winner_weight_grad(stretch, last)(g, winner, x, pieces, block, groups, index, factors, places, panel, out)


def _filled_up(rows: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Rows that fill no vector with zeros behind them, as long as those of `whole`."""
    filled = np.zeros((len(rows), whole.shape[1]), whole.dtype)
    filled[:, : rows.shape[1]] = rows
    return filled


def _panel(rows: int, channels: int, dtype: np.dtype) -> np.ndarray:
    """For so many rows of whole vectors."""
    width = row_sums.BYTES // dtype.itemsize
    return scratch("winners", (rows * -(-channels // width) * width,), dtype)


def _rows_together(row_bytes: int) -> int:
    return max(1, ROWS_BYTES // row_bytes)


def drop(y: np.ndarray, keep: np.ndarray, rate: float) -> None:
    loops.drop(y, keep, y.dtype.type(1 / (1 - rate)))


def column_sums(x: np.ndarray) -> np.ndarray:
    total = np.zeros(x.shape[1])
    loops.column_sums(x, np.empty(x.shape[1], x.dtype), total, *columns(0, x.shape[1]))
    return total


def adam(
    grads: Sequence[np.ndarray],
    p: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    norms: np.ndarray,
) -> None:
    number, none, start = p.dtype.type, p[:0], 0
    scalars = [number(s) for s in (rate, beta1, 1 - beta1, beta2, 1 - beta2, eps)]
    for first in range(0, len(grads), TOGETHER):
        # a compiled loop takes tuples of one length, of arrays of one kind
        some = [g if g.flags.carray and g.dtype == p.dtype else _copy(g, p.dtype) for g in grads[first:][:TOGETHER]]
        several = tuple(some + [none] * (TOGETHER - len(some)))
        start = loops.adam(several, p, m, v, start, *scalars, norms[first:][:TOGETHER])


def _copy(g: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.array(g, dtype)


def adversarial(logits: np.ndarray, losses: np.ndarray, glogits: np.ndarray) -> None:
    number, exact = logits.dtype.type, np.zeros(4)
    loops.adversarial(logits, number(0), number(1), exact, glogits)
    losses[:] = exact


def box_muller(words: np.ndarray, out: np.ndarray) -> None:
    loops.box_muller(words, out)
