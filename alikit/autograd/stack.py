"""One walk for two losses whose rows depend on each other.

Batch norm ties the rows of a batch together, so that no weighing of rows (`rows.py`) turns one loss's gradients into
the other's. But both losses are functions of the same output, and backward is linear in the upstream gradient: with
both stacked along the batch, K * N rows for the forward pass's N, every node is walked once, its weights are read once,
and what it saved is used for both. A Function that says `stacks` heeds that; it gives its parameters the gradient of
the first cotangent alone, since one player's parameters are not moved by the other's loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alikit.autograd.backward import Graph, Walk
from alikit.autograd.tensor import Tensor


def stack_grad(
    y: Tensor, gys: Any, parameters: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Any], list[Any]]:
    """Gradients of parameters under the first upstream gradient of y and of inputs under the last, in one walk.

    y           (N, ...), its rows those of the batch
    gys         (K, *y's shape): upstream gradients
    parameters  leaves
    inputs      Tensors that y is computed from, whole or as parts of a stack along the batch (`ops.join`)

    Returns both lists of gradients; None where y does not depend on one. What lies behind the inputs is kept for a walk
    on from there, the rest of the graph is released. Gradients of weights that were left to other threads (`partials`)
    are there after a `grad` from there on, or `backend.settle`.
    ValueError where a Function on the way takes one cotangent only.
    """
    if tuple(gys.shape[1:]) != tuple(y.shape):
        raise ValueError(f"stack_grad: gys has shape {tuple(gys.shape)}, wanted (K, {', '.join(map(str, y.shape))})")

    def prepare(node: Any) -> None:
        if not node.stacks:
            raise ValueError(f"stack_grad: {type(node).__name__} does not take several cotangents at once")

    walk = Walk(Graph([y]), y, [*parameters, *inputs])
    walk.cotangents = len(gys)
    found = walk.run(gys.reshape(-1, *y.shape[1:]), release=False, prepare=prepare)
    last = [g if g is None else g[len(g) - len(x) :] for g, x in zip(found[len(parameters) :], inputs, strict=True)]
    return found[: len(parameters)], last
