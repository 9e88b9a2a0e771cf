"""PyTorch's side of `kernels.py`: the same calls from the same NumPy arrays. Imports torch with the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.kernels import Shape
from bench.peer_tables import Row
from bench.torch_peer import Layer, channels_first, channels_last


def _tensor(array: np.ndarray) -> torch.Tensor:
    """NHWC or OHWI as PyTorch sees it, (N, C, H, W) in channels_last memory; vectors as they are."""
    return channels_first(torch.from_numpy(array))


class TorchKernels:
    """Calls of PyTorch's operators, the layers written as the peer's step writes them."""

    def convolution(self, s: Shape, x: Any, w: Any, gy: Any) -> tuple[Callable[[], Any], ...]:
        layer = Layer(Row(s.op, s.kernel, s.stride, s.maps), s.size, s.channels)
        weight = layer.parameters["weight"]
        with torch.no_grad():
            weight.copy_(_tensor(w))
        image, up = _tensor(x).requires_grad_(), _tensor(gy)
        y = layer.product(image)
        return (
            lambda: layer.product(image),
            lambda: torch.autograd.grad(y, image, up, retain_graph=True),
            lambda: torch.autograd.grad(y, weight, up, retain_graph=True),
        )

    def norm(self, x: Any, gy: Any, gamma: Any, beta: Any) -> tuple[Callable[[], Any], ...]:
        leaves = [_tensor(array).requires_grad_() for array in (x, gamma, beta)]
        up = _tensor(gy)

        def forward() -> torch.Tensor:
            a = F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, 1e-4)
            return F.leaky_relu_(a, 0.01)

        y = forward()
        return forward, lambda: torch.autograd.grad(y, leaves, up, retain_graph=True)

    def adam(self, grads: list[Any]) -> Callable[[], Any]:
        flat = torch.zeros(sum(g.size for g in grads))
        parameters = [p.requires_grad_() for p in flat.split([g.size for g in grads])]
        for p, g in zip(parameters, grads, strict=True):
            p.grad = torch.from_numpy(g)
        optimiser = torch.optim.Adam(parameters, 1e-4, (0.5, 0.999), 1e-8, fused=True)

        def step() -> torch.Tensor:
            optimiser.step()
            return flat

        return step

    def sample(self, params: Any) -> Callable[[], Any]:
        mu, log_sigma = torch.from_numpy(params).chunk(2, -1)
        return lambda: mu + torch.exp(log_sigma) * torch.randn(mu.shape)

    def dropout(self, x: Any) -> Callable[[], Any]:
        image = _tensor(x)
        return lambda: F.dropout(image, 0.2)

    def gather(self, images: Any, rows: Any) -> Callable[[], Any]:
        data, index = torch.from_numpy(images), torch.from_numpy(rows)
        return lambda: data[index].permute(0, 3, 1, 2).to(torch.float32).mul_(1 / 255)

    def arrays(self, result: Any) -> list[Any]:
        found = result if isinstance(result, tuple) else (result,)
        return [channels_last(t.detach()).numpy() for t in found]

    def ceiling(self) -> dict[str, float]:
        """Not asked for: the shares are taken of the ceilings of alikit's side."""
        return {}
