"""The peer: one exact ALI step (spec 1.6) in eager PyTorch on the CPU, written as a good user of PyTorch would.

It doubles as an independent reference of alikit's step, so its layer tables are typed from the paper and not taken
from `alikit.models`, and nothing of alikit is imported here. Same work as alikit's step, no more: one forward pass, D
once on the stacked pairs, `torch.autograd.grad` of L_D for D's parameters alone and of L_G for the generators' alone
(`loss.backward()` would compute and throw away a quarter more), both fused Adams, the running statistics.

What was measured and chosen (two cores, AVX-512): channels_last; a convolution that sees its whole image at once as
`F.linear`, because oneDNN's own route for a 4x4 image is several times slower (`dense=False` keeps the convolution);
the fused Adam. Adam's eps stands beside the corrected square root, not the uncorrected one as in spec 3.1: the same
work, another constant.

torch is imported when this module is: only a worker, a check or a test does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

EPS = 1e-4  # of batch norm, spec 3.3
MOMENTUM = 0.05


class Row(NamedTuple):
    """A line of the paper's tables. op: conv, tconv or dense; bias: none, tied or untied; act: lrelu, sigmoid, ..."""

    op: str
    kernel: int
    stride: int
    maps: int
    norm: bool = True
    dropout: float = 0.0
    bias: str = "none"
    act: str = "lrelu"


@dataclass(frozen=True)
class Tables:
    """All that makes one ALI model: input size (H, W, C) of x, code size, leak, tables."""

    image: tuple[int, int, int]
    nz: int
    leak: float
    encoder: tuple[Row, ...]
    decoder: tuple[Row, ...]
    image_tower: tuple[Row, ...]
    code_tower: tuple[Row, ...]
    head: tuple[Row, ...]
    gaussian: bool = True  # else the encoder sees [x, eps] and is not reparameterised


SVHN = Tables(
    image=(32, 32, 3),
    nz=256,
    leak=0.01,
    encoder=(
        Row("conv", 5, 1, 32),
        Row("conv", 4, 2, 64),
        Row("conv", 4, 1, 128),
        Row("conv", 4, 2, 256),
        Row("conv", 4, 1, 512),
        Row("conv", 1, 1, 512),
        Row("conv", 1, 1, 512, norm=False, bias="tied", act="linear"),
    ),
    decoder=(
        Row("tconv", 4, 1, 256),
        Row("tconv", 4, 2, 128),
        Row("tconv", 4, 1, 64),
        Row("tconv", 4, 2, 32),
        Row("tconv", 5, 1, 32),
        Row("tconv", 1, 1, 32),
        Row("conv", 1, 1, 3, norm=False, bias="untied", act="sigmoid"),
    ),
    image_tower=(
        Row("conv", 5, 1, 32, norm=False, dropout=0.2, bias="tied"),
        Row("conv", 4, 2, 64, dropout=0.2),
        Row("conv", 4, 1, 128, dropout=0.2),
        Row("conv", 4, 2, 256, dropout=0.2),
        Row("conv", 4, 1, 512, dropout=0.2),
    ),
    code_tower=(
        Row("conv", 1, 1, 512, norm=False, dropout=0.2),
        Row("conv", 1, 1, 512, norm=False, dropout=0.2),
    ),
    head=(
        Row("conv", 1, 1, 1024, norm=False, dropout=0.2, bias="tied"),
        Row("conv", 1, 1, 1024, norm=False, dropout=0.2, bias="tied"),
        Row("conv", 1, 1, 1, norm=False, dropout=0.2, bias="tied", act="linear"),
    ),
)


class Layer:
    """One row with its parameters: (dropout) -> convolution or its adjoint -> (batch norm) -> nonlinearity."""

    def __init__(self, row: Row, size: int, channels: int, leak: float, dense: bool):
        self.row, self.leak = row, leak
        self.out = (size - row.kernel) // row.stride + 1 if row.op != "tconv" else (size - 1) * row.stride + row.kernel
        shape = (row.maps, channels) if row.op != "tconv" else (channels, row.maps)
        weight = torch.randn(*shape, row.kernel, row.kernel) * 0.01
        self.mode = row.op
        if dense and row.kernel == size and row.op == "conv":
            self.mode = "gather"  # the whole image at once
        elif dense and size == 1 and row.op == "tconv":
            self.mode = "spread"  # one pixel to a whole image
        self.weight = weight.to(memory_format=torch.channels_last).requires_grad_()
        bias_shape = (1, row.maps, self.out, self.out) if row.bias == "untied" else (row.maps,)
        self.bias = None if row.bias == "none" else torch.zeros(bias_shape, requires_grad=True)
        self.gamma = torch.ones(row.maps, requires_grad=True) if row.norm else None
        self.beta = torch.zeros(row.maps, requires_grad=True) if row.norm else None

    def parameters(self):
        return [p for p in (self.weight, self.bias, self.gamma, self.beta) if p is not None]

    def product(self, x):
        row, w = self.row, self.weight
        tied = self.bias if row.bias == "tied" else None
        if self.mode == "gather":
            y = F.linear(x.permute(0, 2, 3, 1).reshape(len(x), -1), w.permute(0, 2, 3, 1).reshape(row.maps, -1), tied)
            return y.view(len(x), row.maps, 1, 1)
        if self.mode == "spread":
            y = x.view(len(x), -1) @ w.permute(0, 2, 3, 1).reshape(w.shape[0], -1)
            return y.view(len(x), self.out, self.out, row.maps).permute(0, 3, 1, 2)
        if row.op == "tconv":
            return F.conv_transpose2d(x, w, tied, row.stride)
        return F.conv2d(x, w, tied, row.stride)

    def __call__(self, x, dropout, stats):
        row = self.row
        if row.dropout and dropout:
            x = F.dropout(x, row.dropout)
        a = self.product(x)
        if row.bias == "untied":
            a = a + self.bias
        if row.norm:
            a = F.batch_norm(a, None, None, self.gamma, self.beta, True, 0.0, EPS)
        if row.act == "lrelu":
            return F.leaky_relu_(a, self.leak)
        return torch.sigmoid(a) if row.act == "sigmoid" else a
