"""Layer tables as data, and their translation into layers.

A table is a tuple of Rows, one for each line of the paper's tables, in the same order and with the same columns. Sizes
are written down and checked, layer by layer, against what the arithmetic of the convolutions gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from alikit.nn import BatchNormLeakyReLU, Convolution, Layer, Sequential
from alikit.ops import Activation
from alikit.ops._dispatch import conv_input_size, conv_output_size


class Row(NamedTuple):
    """One layer.

    op            "conv" or "tconv" (transposed)
    kernel, stride, maps    as in the paper; maps before maxout
    size          height and width of the output
    norm          batch norm instead of a bias
    dropout       rate on the layer's input
    bias          None, "tied" (a number a map) or "untied" (a number a map and position)
    nonlinearity  "leaky", "maxout", "sigmoid" or "linear"
    """

    op: str
    kernel: int
    stride: int
    maps: int
    size: int
    norm: bool
    dropout: float
    bias: str | None
    nonlinearity: str


Table = tuple[Row, ...]


@dataclass(frozen=True)
class ModelSpec:
    """The networks of one data set.

    image     (H, W, C) of x;  nz: size of z
    slope     of the leaky ReLU;  pieces: of maxout;  std: of the initial weights
    noise     size of the noise concatenated to x at the encoder's input instead of a Gaussian output (the mixture)
    conditions, embedding   sizes of a condition y and of its embedding, which all three players read (`conditional.py`)
    """

    name: str
    image: tuple[int, int, int]
    nz: int
    slope: float
    encoder: Table
    decoder: Table
    disc_x: Table
    disc_z: Table
    disc_xz: Table
    pieces: int = 2
    std: float = 0.01
    noise: int = 0
    conditions: int = 0
    embedding: int = 0

    def resized(self, width: float = 1.0, nz: int | None = None) -> ModelSpec:
        """The same networks with `width` times the maps in every hidden layer, and another code size."""
        nz = nz or self.nz
        code = nz if self.noise else 2 * nz
        return replace(
            self,
            nz=nz,
            encoder=(*self._narrow(self.encoder[:-1], width), self.encoder[-1]._replace(maps=code)),
            decoder=(*self._narrow(self.decoder[:-1], width), self.decoder[-1]),
            disc_x=self._narrow(self.disc_x, width),
            disc_z=self._narrow(self.disc_z, width),
            disc_xz=(*self._narrow(self.disc_xz[:-1], width), self.disc_xz[-1]),
        )

    def conditioned(self, conditions: int, embedding: int) -> ModelSpec:
        """The same networks given conditions of that size, embedded in so many numbers."""
        return replace(self, conditions=conditions, embedding=embedding)

    def telling(self, classes: int) -> ModelSpec:
        """The same networks with a logit of D for each of some classes instead of one (method 1.7)."""
        return replace(self, disc_xz=(*self.disc_xz[:-1], self.disc_xz[-1]._replace(maps=classes)))

    def _narrow(self, table: Table, width: float) -> Table:
        def maps(row: Row) -> int:
            unit = self.pieces if row.nonlinearity == "maxout" else 1
            return max(1, round(row.maps * width / unit)) * unit

        return tuple(row._replace(maps=maps(row)) for row in table)

    def activation(self, row: Row) -> Activation:
        """The row's nonlinearity with this model's constants."""
        value = {"leaky": self.slope, "maxout": float(self.pieces)}.get(row.nonlinearity, 0.0)
        return Activation({"leaky": "leaky_relu"}.get(row.nonlinearity, row.nonlinearity), value)


def build_network(
    name: str,
    spec: ModelSpec,
    table: Table,
    image: tuple[int, int, int],
    seed: int,
    dtype: type = np.float32,
    joined: int = 0,
) -> tuple[Sequential, int]:
    """Layers of a table for inputs of (H, W, C); returns them and the channels of their output.

    joined   channels that the last layer reads beside those of the layer before

    ValueError naming the layer where a written size is not what the convolution gives, or pixels are skipped.
    """
    layers = []
    for number, row in enumerate(table, 1):
        full = f"{name}.{number}"
        if number == len(table):
            image = (*image[:2], image[2] + joined)
        if row.op == "conv" and (image[0] - row.kernel) % row.stride:
            raise ValueError(f"{spec.name}: layer {full} with stride {row.stride} skips pixels of its {image[0]}")
        arithmetic = conv_output_size if row.op == "conv" else conv_input_size
        if arithmetic(image[0], row.kernel, row.stride) != row.size:
            raise ValueError(
                f"{spec.name}: layer {full} ({row.op} {row.kernel}x{row.kernel}, stride {row.stride}) makes "
                f"{arithmetic(image[0], row.kernel, row.stride)} of {image[0]} pixels, the table says {row.size}"
            )
        out = (row.size, row.size, row.maps)
        layers.append(_layer(full, spec, row, (image, out), seed, dtype))
        image = (row.size, row.size, row.maps // spec.activation(row).pieces)
    return Sequential(layers), image[2]


def _layer(name: str, spec: ModelSpec, row: Row, sizes: tuple, seed: int, dtype: type) -> Layer:
    activation = spec.activation(row)
    conv = Convolution(
        name,
        sizes,
        (row.kernel, row.kernel),
        row.stride,
        transposed=row.op == "tconv",
        bias=row.bias,
        activation=Activation("linear") if row.norm else activation,
        dropout=row.dropout,
        moments=row.norm,
        exact=row.nonlinearity == "linear" and not row.norm,
        std=spec.std,
        seed=seed,
        dtype=dtype,
    )
    return Layer(conv, BatchNormLeakyReLU(row.maps, activation.value, dtype) if row.norm else None)
