"""PyTorch's ways to run the peer's step on a GPU, from the plain one to the fastest that is known here.

    eager         `torch_peer.Peer` in channels_last, fp32 or tf32
    amp           the same under autocast to bf16
    graph         the whole step of `amp`, both Adams too, captured as one CUDA graph
    compile       both gradients as one compiled function, and the whole step captured as one CUDA graph
    max-autotune  the same, kernels chosen by measuring

`compile` is what mode="reduce-overhead" means to do, at its best: forward pass and both backward passes are traced into
one graph of operators, so that the compiler fuses across them and drops what neither gradient asks for (compiling the
forward pass alone would run the whole backward pass twice), and no copy into static inputs is left. Dropout and leaky
ReLU are written without in-place operators there, which a compiler fuses just as well.

torch is imported with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bench.torch_peer import Peer

BF16 = torch.bfloat16
#: variant -> (products' type, tf32 allowed, compiled in which mode, captured)
VARIANTS: dict[str, tuple[torch.dtype | None, bool, str | None, bool]] = {
    "eager fp32": (None, False, None, False),
    "eager tf32": (None, True, None, False),
    "eager amp bf16": (BF16, True, None, False),
    "graph amp bf16": (BF16, True, None, True),
    "compile tf32": (None, True, "default", True),
    "compile bf16": (BF16, True, "default", True),
    "max-autotune bf16": (BF16, True, "max-autotune-no-cudagraphs", True),
}
Step = Callable[[], tuple[Tensor, Tensor]]
WARM_UP = 3


def allow_tf32(allowed: bool) -> None:
    """For products and convolutions."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = True


class Static:
    """Where a captured step finds its images: the rows are copied there before each replay."""

    def __init__(self, images: Tensor, batch: int):
        self.images, self.batch = images, batch
        self.order = torch.randperm(len(images), device=images.device)
        self.rows = self.order[:batch].clone()
        self.at = 0

    def advance(self) -> None:
        """The next batch of the epoch's order."""
        self.at = (self.at + self.batch) % (len(self.order) - self.batch + 1)
        self.rows.copy_(self.order[self.at : self.at + self.batch])


def build(variant: str, model: str, images: Tensor, batch: int) -> tuple[Peer, Step]:
    """A peer and its step: each call trains on another batch, and gives both losses without waiting for them."""
    dtype, tf32, mode, captured = VARIANTS[variant]
    allow_tf32(tf32)
    peer = Peer(model, device=str(images.device.type), autocast=dtype)
    static = Static(images, batch)
    update = (lambda: peer.update(images, static.rows)) if mode is None else compiled(peer, static, mode)
    if captured:
        update = capture(update)

    def step() -> tuple[Tensor, Tensor]:
        static.advance()
        return update()

    return peer, step


def capture(update: Step) -> Step:
    """The whole update as one CUDA graph, warmed up on the stream that captures it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            update()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = update()

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return losses

    return replay


def compiled(peer: Peer, static: Static, mode: str) -> Step:
    """The update with both gradients compiled as one function; the optimisers are PyTorch's fused ones."""
    peer.traceable = True
    named = peer.players[0] | peer.players[1]
    running = {name: layer.running for name, layer in peer.layers().items() if layer.row.norm}

    def inputs() -> tuple[Tensor, Tensor, Tensor]:
        x = peer.batch(static.images, static.rows)
        return x, peer.noise(static.batch), peer.noise(static.batch)

    # tracing runs the step: on other running statistics, or they would begin with a batch more
    spare = {name: tuple(value.clone() for value in values) for name, values in running.items()}
    traced = make_fx(gradients(peer))(named, spare, *inputs())
    put_back(peer, named, running)
    fast = torch.compile(traced, dynamic=False, mode=mode)

    def update() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            losses, *grads = fast(named, running, *inputs())
        peer.move(grads)
        return losses

    return update


def gradients(peer: Peer) -> Callable[..., Any]:
    """(parameters, running statistics, x, z, eps) -> losses, gradients of L_D, of L_G: a function of its arguments."""

    def run(named: dict[str, Tensor], running: dict[str, Any], x: Tensor, z: Tensor, eps: Tensor) -> Any:
        put_back(peer, named, running)
        with peer.precision():
            losses = peer.losses(x, z, eps)
        of_d, of_g = peer.gradients(losses)
        return (losses[0].detach(), losses[1].detach()), of_d, of_g

    return run


def put_back(peer: Peer, named: dict[str, Tensor], running: dict[str, Any]) -> None:
    """Makes the layers use these tensors."""
    for name, layer in peer.layers().items():
        layer.parameters = {kind: named[f"{name}.{kind}"] for kind in layer.parameters}
        if layer.row.norm:
            layer.running = running[name]
    for player in peer.players:
        player.update({name: named[name] for name in player})
