"""The peer: one exact ALI step (spec 1.6) in PyTorch, eager, written as a good user of PyTorch would.

It doubles as an independent reference of alikit's step, so nothing of alikit is imported here, and its layer tables
(`peer_tables.py`) are its own. Same work as alikit's step and no more: one forward pass, D once on the stacked pairs,
`torch.autograd.grad` of L_D for D's parameters alone and of L_G for the generators' alone (`backward()` would compute
a quarter more and throw it away), both Adams, the running statistics.

Measured and chosen: channels_last; a convolution that sees its whole image at once written as a matrix product, since
oneDNN's route for a 4x4 image is several times slower; PyTorch's fused Adam. That Adam adds eps to the corrected root,
spec 3.1 to the uncorrected one: the same work with another constant, so checks compare gradients. Around it: threads
that do not spin (`harness.py`), and freed memory kept (`worker.py`). That was on the CPU; the same choices stand on a
GPU, with bf16 by autocast where asked for and an Adam whose state lies on the device; `gpu/torch_steps.py` captures and
compiles it.

torch is imported with this module: only a worker process or a test imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.peer_tables import LEAK, PIECES, TABLES, Row

EPS = 1e-4  # batch norm, spec 3.3
MOMENTUM = 0.05


class Layer:
    """One row with its parameters: (dropout) -> convolution or its adjoint -> (batch norm) -> nonlinearity."""

    def __init__(self, row: Row, size: int, channels: int, dtype: torch.dtype = torch.float32, device: str = "cpu"):
        self.row = row
        grows = row.op == "tconv"
        self.size = (size - 1) * row.stride + row.kernel if grows else (size - row.kernel) // row.stride + 1
        #: the whole image in one product: one window, or one pixel spread over an image
        self.whole = row.op != "dense" and (size if not grows else self.size) == row.kernel
        window = () if row.op == "dense" else (row.kernel, row.kernel)
        shape = (channels, row.maps, *window) if grows else (row.maps, channels, *window)
        bias = (row.maps, self.size, self.size) if row.bias == "untied" else (row.maps,)
        weight = torch.randn(shape, dtype=dtype, device=device) * 0.01
        self.parameters = {"weight": weight.to(memory_format=torch.channels_last) if row.op != "dense" else weight}
        if row.bias != "none":
            self.parameters["bias"] = torch.zeros(bias, dtype=dtype, device=device)
        if row.norm:
            zeros, ones = (torch.full((row.maps,), value, dtype=dtype, device=device) for value in (0.0, 1.0))
            self.parameters |= {"gamma": ones.clone(), "beta": zeros.clone()}
            self.running = (zeros, ones)  # mean and, as PyTorch keeps it, unbiased variance
        for p in self.parameters.values():
            p.requires_grad_()

    def product(self, x: Tensor) -> Tensor:
        row, w, n = self.row, self.parameters["weight"], len(x)
        bias = self.parameters.get("bias") if row.bias == "tied" else None
        if row.op == "dense":
            return F.linear(x, w, bias)
        if self.whole and row.op == "conv":
            rows = F.linear(x.permute(0, 2, 3, 1).reshape(n, -1), w.permute(0, 2, 3, 1).flatten(1), bias)
            return rows.view(n, row.maps, 1, 1)
        if self.whole:
            rows = x.view(n, -1) @ w.permute(0, 2, 3, 1).flatten(1)
            return rows.view(n, self.size, self.size, row.maps).permute(0, 3, 1, 2)
        return (F.conv_transpose2d if row.op == "tconv" else F.conv2d)(x, w, bias, row.stride)

    def __call__(self, x: Tensor, mask: Tensor | None = None, pure: bool = False) -> Tensor:
        """mask: the factors of the input dropout, where they are not to be drawn;  pure: nothing in place."""
        row, p = self.row, self.parameters
        if row.dropout and mask is None and pure:
            x = x * (torch.rand(x.shape, device=x.device) >= row.dropout) * (1 / (1 - row.dropout))
        elif row.dropout:
            x = F.dropout(x, row.dropout) if mask is None else x * mask
        a = self.product(x)
        if row.bias == "untied":
            a = a + p["bias"]
        if row.norm:
            a = F.batch_norm(a, *self.running, p["gamma"], p["beta"], True, MOMENTUM, EPS)
        if row.act == "maxout":
            return a.view(len(a), -1, PIECES).max(-1).values
        if row.act == "sigmoid":
            return torch.sigmoid(a)
        if row.act == "linear":
            return a
        slope = LEAK if row.act == "leaky" else 0.0
        return F.leaky_relu(a, slope) if pure else F.leaky_relu_(a, slope)


class Peer:
    """Networks, both optimisers, and the step. `load` and given noise make it comparable number by number.

    autocast   type of the products on a GPU, None for that of the parameters
    traceable  the step changes nothing in place but the running statistics: for a compiler
    """

    traceable = False

    def __init__(
        self,
        model: str,
        *,
        seed: int = 0,
        lr: float = 1e-4,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        autocast: torch.dtype | None = None,
    ):
        torch.manual_seed(seed)
        self.tables, self.dtype, self.device, self.autocast = TABLES[model], dtype, device, autocast
        tables, nz = self.tables.networks, self.tables.nz
        size, channels = (self.tables.x[0], self.tables.x[2]) if self.images else (1, self.tables.x[0])
        inputs = {
            "encoder": (size, channels if self.tables.gaussian else channels + nz),
            "decoder": (1, nz),
            "image_tower": (size, channels),
            "code_tower": (1, nz),
            "head": (1, _width(tables["image_tower"], channels) + _width(tables["code_tower"], nz)),
        }
        self.networks = {name: _build(tables[name], *inputs[name], dtype, device) for name in inputs}
        #: D's and the generators' parameters by name, "network.layer.kind"
        self.players = [self._parameters("image_tower", "code_tower", "head"), self._parameters("encoder", "decoder")]
        betas = (self.tables.beta1, 0.999)
        self.optimisers = [
            torch.optim.Adam(list(p.values()), lr, betas, 1e-8, fused=True, capturable=device != "cpu")
            for p in self.players
        ]

    @property
    def images(self) -> bool:
        """Whether x is an image, not a point."""
        return len(self.tables.x) == 3

    def _parameters(self, *networks: str) -> dict[str, Tensor]:
        return {
            f"{name}.{i}.{kind}": p
            for name in networks
            for i, layer in enumerate(self.networks[name])
            for kind, p in layer.parameters.items()
        }

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Copies parameters by name from alikit's layouts: weights (O, kH, kW, C), untied bias (H, W, C)."""
        for name, p in (self.players[0] | self.players[1]).items():
            with torch.no_grad():
                p.copy_(channels_first(values[name]).view(p.shape) if p.ndim < 3 else channels_first(values[name]))

    def batch(self, images: Tensor, rows: Tensor) -> Tensor:
        """Rows of images: (N, H, W, C) uint8 -> (n, C, H, W) in [0, 1], channels_last; points as they are."""
        x = images[rows]
        return x if x.dtype != torch.uint8 else x.permute(0, 3, 1, 2).to(self.dtype).mul_(1 / 255)

    def noise(self, n: int) -> Tensor:
        """N(0, I) codes: (n, nz, 1, 1), or (n, nz) of points."""
        return torch.randn((n, self.tables.nz, 1, 1) if self.images else (n, self.tables.nz), device=self.device)

    def precision(self) -> AbstractContextManager[object]:
        """What the forward pass runs under."""
        return torch.autocast(self.device, self.autocast) if self.autocast else nullcontext()

    def layers(self) -> dict[str, Layer]:
        """All layers as "network.number"."""
        return {f"{name}.{i}": layer for name, layers in self.networks.items() for i, layer in enumerate(layers)}

    def run(self, network: str, x: Tensor, masks: Mapping[str, Tensor] | None) -> Tensor:
        for i, layer in enumerate(self.networks[network]):
            x = layer(x, None if masks is None else masks.get(f"{network}.{i}"), self.traceable)
        return x

    def losses(
        self, x: Tensor, z: Tensor, eps: Tensor, masks: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """L_D and L_G (spec 1.2) of one forward pass. x: (N, C, H, W), z and eps: (N, nz, 1, 1); or (N, features)."""
        if self.tables.gaussian:
            mu, log_sigma = self.run("encoder", x, masks).chunk(2, 1)
            codes = mu + torch.exp(log_sigma) * eps
        else:
            codes = self.run("encoder", torch.cat([x, eps], 1), masks)
        images = torch.cat([x, self.run("decoder", z, masks)])
        pairs = [self.run("image_tower", images, masks), self.run("code_tower", torch.cat([codes, z]), masks)]
        q, p = self.run("head", torch.cat(pairs, 1), masks).to(self.dtype).view(2, len(x))
        return (F.softplus(-q) + F.softplus(p)).mean(), (F.softplus(q) + F.softplus(-p)).mean()

    def gradients(self, losses: tuple[Tensor, Tensor]) -> list[tuple[Tensor, ...]]:
        """Of L_D for D's parameters, of L_G for the generators', both at the parameters of the forward pass."""
        d, g = (list(p.values()) for p in self.players)
        return [torch.autograd.grad(losses[0], d, retain_graph=True), torch.autograd.grad(losses[1], g)]

    def update(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """One training step on images[rows]; gives (L_D, L_G) without waiting for them."""
        with self.precision():
            losses = self.losses(self.batch(images, rows), self.noise(len(rows)), self.noise(len(rows)))
        self.move(self.gradients(losses))
        return losses[0].detach(), losses[1].detach()

    def move(self, gradients: list[tuple[Tensor, ...]]) -> None:
        """Both Adams."""
        for parameters, grads in zip(self.players, gradients, strict=True):
            for p, g in zip(parameters.values(), grads, strict=True):
                p.grad = g
        for optimiser in self.optimisers:
            optimiser.step()

    def step(self, images: Tensor, rows: Tensor) -> tuple[float, float]:
        """One training step on images[rows]; returns (L_D, L_G)."""
        loss_d, loss_g = self.update(images, rows)
        return loss_d.item(), loss_g.item()


def _build(rows: tuple[Row, ...], size: int, channels: int, dtype: torch.dtype, device: str) -> list[Layer]:
    layers = []
    for row in rows:
        layers.append(Layer(row, size, channels, dtype, device))
        size, channels = layers[-1].size, row.maps // (PIECES if row.act == "maxout" else 1)
    return layers


def _width(rows: tuple[Row, ...], channels: int) -> int:
    return rows[-1].maps if rows else channels


def channels_first(x: Tensor) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), (H, W, C) -> (C, H, W), others as they are."""
    return x.permute(*range(x.ndim - 3), -1, -3, -2) if x.ndim > 2 else x


def channels_last(x: Tensor) -> Tensor:
    """The inverse of `channels_first`."""
    return x.permute(*range(x.ndim - 3), -2, -1, -3) if x.ndim > 2 else x
