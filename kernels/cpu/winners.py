"""The gradient behind maxout of a dense layer, kept as what its winners get: of `pieces` numbers one is not zero.

    gx[n, c] = sum_j g[n, j] w[o(n, j), c]         o(n, j) = j * pieces + winner[n, j]
    gw[o, c] = sum g[n, j] x[n, c]                 over all n, j with o(n, j) = o
    gb[o]    = sum g[n, j]                         over the same

Written out it would be `pieces` times as large, and so would be the work of both products. Compiled loops over the
winners alone do fewer numbers at a time than a matrix product, but from a few pieces on they are done first. They add
in an order that the shapes decide, whatever the threads. A weight that is not finite reaches gx where its piece won,
whereas written out it would meet all the zeros.
"""

from __future__ import annotations

import numpy as np

from . import passes
from .epilogue import Epilogue
from .parallel import LARGE, later, split


class Winners:
    """Stands for an array of `shape`, (N, 1, 1, J * pieces), with `g` at the winners and zeros elsewhere.

    g        (N, 1, 1, J), contiguous
    winner   (N, 1, 1, J) uint8; for K cotangents, of which every one has the same, (N / K, 1, 1, J)
    weights  (N,), with which the rows are still to be multiplied, by whoever reads them; or None

    The loops check no bounds: whoever calls for a product sees that the shapes fit.
    """

    array_module = np

    def __init__(self, g: np.ndarray, winner: np.ndarray, pieces: int, weights: np.ndarray | None = None):
        self.g, self.pieces, self.weights = g, pieces, weights
        self.winner = winner if len(winner) == len(g) else np.concatenate([winner] * (len(g) // len(winner)))
        self.shape = (*g.shape[:3], g.shape[3] * pieces)
        self.dtype = g.dtype
        self._table = g.reshape(len(g), -1), self.winner.reshape(len(g), -1)

    def __len__(self) -> int:
        return len(self.g)

    def __getitem__(self, rows: slice) -> Winners:
        weights = None if self.weights is None else self.weights[rows]
        return Winners(self.g[rows], self.winner[rows], self.pieces, weights)

    def scaled(self, weights: np.ndarray) -> Winners:
        """Times weights: (N,)."""
        return Winners(self.g, self.winner, self.pieces, weights if self.weights is None else self.weights * weights)

    def _weighed(self, rows: slice, groups: slice) -> np.ndarray:
        """Some of g, (n, j), times its weights."""
        g = self._table[0][rows, groups]
        return g if self.weights is None else g * self.weights[rows, None]

    def _work(self, channels: int) -> float:
        """Of a product with so many: a loop takes its time to begin, at each winner."""
        return self.g.size * (channels / 5 + 25)

    def sums(self) -> np.ndarray:
        """Over all rows, (J * pieces,): the gradient of a bias."""
        total = np.zeros(self.shape[3])
        passes.winner_sums(*self._table, self.weights, self.pieces, total)
        return total.astype(self.dtype)

    def input_grad(self, epilogue: Epilogue, w_rows: np.ndarray) -> None:
        """w_rows: (J * pieces, C); the product, (N, C), with its epilogue."""
        winner, channels = self._table[1], w_rows.shape[1]

        def share(start: int, stop: int, part: int) -> None:
            rows = slice(start, stop)
            out = epilogue.target(rows, channels)
            g = self._weighed(rows, slice(None))
            passes.winner_input_grad(g, winner[rows], w_rows, self.pieces, out.reshape(-1, channels))
            epilogue.finish(out, rows, part)

        split(share, len(winner), work=self._work(channels))

    def weight_grad(self, x: np.ndarray, *, wait: bool) -> np.ndarray:
        """x: (N, ...), C numbers a row -> gw: (J * pieces, C).

        wait   for it; else it may be left to another thread until `settle`
        """
        winner, x_rows = self._table[1], x.reshape(len(x), -1)
        gw = np.empty((self.shape[3], x_rows.shape[1]), self.dtype)

        def share(start: int, stop: int, _part: int) -> None:
            mine, groups = gw[start * self.pieces : stop * self.pieces], slice(start, stop)
            g = self._weighed(slice(None), groups)
            passes.winner_weight_grad(g, winner[:, groups], x_rows, self.pieces, mine)

        work = self._work(x_rows.shape[1])
        if wait or work >= LARGE:
            split(share, winner.shape[1], work=work)
        else:
            later(lambda: share(0, winner.shape[1], 0), work=work)
        return gw
