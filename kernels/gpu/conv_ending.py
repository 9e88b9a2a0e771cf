"""The host's side of what follows a convolution's product: checks, constants, the arrays that the kernels write."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import device
from ..arrays import LINEAR, Activation, Array, Dropout, NormState
from ..checks import check_contiguous, check_epilogue
from .conv_shapes import Epilogue, Windows
from .philox import dropout_arguments
from .table import ceil_div


class Ending:
    """What is asked for, checked.

    shape   (N, H, W, C) of the product, before maxout
    the rest as in `conv.conv2d`
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        bias: Array | None = None,
        activation: Activation = LINEAR,
        dropout: Dropout | None = None,
        moments: bool = False,
        through: NormState | None = None,
    ) -> None:
        check_epilogue(name, shape, bias=bias, activation=activation, dropout=dropout, moments=moments, through=through)
        if bias is not None:
            check_contiguous(name, bias=bias)
        self.shape = (*shape[:3], shape[3] // activation.pieces)
        self.bias, self.activation, self.moments, self.through = bias, activation, moments, through
        self.sets = 1
        if through is not None:
            self.sets = shape[0] // len(through.x)
            dropout = through.dropout
        self.dropout, self.dropout_constants = dropout_arguments(dropout)
        self.extra: Any = None

    @property
    def images(self) -> int:
        """Of a set: a cotangent, or all."""
        return self.shape[0] // self.sets

    def epilogue(self) -> Epilogue:
        """The kernels' constants."""
        slope = self.activation.value if self.activation.name == "leaky_relu" else 1.0
        return Epilogue(
            bias=0 if self.bias is None else 1 if self.bias.ndim == 1 else 2,
            slope=float(slope if self.through is None else self.through.slope),
            sigmoid=self.activation.name == "sigmoid",
            keep_from=self.dropout_constants["KEEP_FROM"],
            keep_scale=self.dropout_constants["KEEP_SCALE"],
            moments=self.moments,
            through=self.through is not None,
            x_pitch=0 if self.through is None else device.pitch(self.through.x),
        )

    def arguments(self, product: Windows) -> dict[str, Any]:
        """The kernels' arguments but for the product's own; `extra` is set to what the caller gets beside y."""
        norm = self.through
        winner = sums = parts = counters = None
        if self.activation.name == "maxout":
            # a single piece wins everywhere, and the kernel does not take part
            winner = (device.zeros if product.pieces == 1 else device.empty)(self.shape, np.uint8)
            self.extra = winner
        if self.moments or norm is not None:
            tiles = ceil_div(self.images * product.positions, product.BM)
            groups = ceil_div(tiles, product.group)
            sums = device.empty((self.sets, 2, product.channels))
            parts = device.empty(self.sets * (tiles * product.phases + groups) * 3 * product.columns)
            counters = device.counters(self.sets * (groups + 1) * product.blocks)
            self.extra = (sums[0, 0], sums[0, 1]) if norm is None else sums if norm.gamma is not None else sums[:, :1]
        gamma, beta, mean, inv_std = (None,) * 4 if norm is None else _vectors(norm, product.channels)
        return {
            "bias_ptr": self.bias,
            "winner_ptr": winner if product.pieces > 1 else None,
            "x_ptr": None if norm is None else norm.x,
            "gamma_ptr": gamma,
            "beta_ptr": beta,
            "mean_ptr": mean,
            "inv_std_ptr": inv_std,
            **self.dropout,
            "parts_ptr": parts,
            "sums_ptr": sums,
            "counters_ptr": counters,
            "images": self.images,
            "sets": self.sets,
        }

    def read(self) -> int:
        """Bytes that the epilogue has to read."""
        vectors = 0 if self.bias is None else self.bias.nbytes
        return vectors + (0 if self.through is None else self.through.x.nbytes + 16 * self.shape[3])

    def written(self) -> int:
        """Bytes that it has to write beside y."""
        winners = math.prod(self.shape) if self.activation.name == "maxout" else 0
        return winners + (8 * self.sets * self.shape[3] if self.moments or self.through is not None else 0)


def _vectors(norm: NormState, channels: int) -> tuple[Array, ...]:
    """gamma, beta, mean and inv_std; without a norm those that make a the activation's output itself."""
    if norm.gamma is not None:
        return norm[1:5]
    ones, zeros = device.constant(1.0, channels), device.constant(0.0, channels)
    return ones, zeros, zeros, ones
