"""The reverse walk: iterative, pruned, freeing as it goes.

Several losses may be walked over one graph, each towards its own Tensors. For each loss only the nodes that lie on a
path to those Tensors are visited, and a node computes only the input gradients that lie on such a path, and of a stack
along the batch only the rows that do: the generators' loss passes through the discriminator without touching its
weights or the images it was given. The graph is released by the last walk, so that what the forward pass saved is freed
while the gradients grow; `retain` keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alikit.autograd.function import _RELEASED
from alikit.autograd.tensor import Leaf, Tensor
from alikit.backend import array_module


def grad(
    losses: Sequence[Tensor],
    wrt: Sequence[Sequence[Tensor]],
    *,
    gys: Sequence[Any] | None = None,
    retain: bool = False,
) -> list[list[Any]]:
    """Gradients of several losses on one graph, each with respect to its own Tensors.

    losses   Tensors of any shape
    wrt      for each loss, the Tensors (leaves or not) whose gradients are wanted
    gys      for each loss, its upstream gradient, an array of its shape; ones by default
    retain   keep the graph for another walk

    Returns for each loss a list of arrays, each of its Tensor's shape; None where the loss does not depend on it.

        (g_d,), (g_enc, g_dec) = grad([loss_d, loss_g], [[theta_d], [theta_enc, theta_dec]])

    ValueError where a loss was computed without gradients, or its graph was released by an earlier walk.
    """
    if len(losses) != len(wrt):
        raise ValueError(f"grad: {len(losses)} losses but {len(wrt)} lists of tensors")
    if gys is not None and len(gys) != len(losses):
        raise ValueError(f"grad: {len(losses)} losses but {len(gys)} upstream gradients")
    order = _topological(losses)
    results = []
    for i, (loss, tensors) in enumerate(zip(losses, wrt, strict=True)):
        last = not retain and i == len(losses) - 1
        results.append(_walk(order, loss, tensors, None if gys is None else gys[i], release=last))
    return results


def backward(loss: Tensor, gy: Any = None) -> None:
    """Adds the gradient of `loss` to `.grad` of every leaf Tensor it depends on, and releases the graph.

    gy   upstream gradient, an array of the loss's shape; ones by default
    """
    alive = [node.tensor() for node in _topological([loss]) if isinstance(node, Leaf)]
    leaves = [leaf for leaf in alive if leaf is not None]
    for leaf, g in zip(leaves, grad([loss], [leaves], gys=[gy])[0], strict=True):
        leaf.grad = g if leaf.grad is None else leaf.grad + g


def _topological(losses: Sequence[Tensor]) -> list[Any]:
    """All nodes behind the losses, creators before those that use them."""
    order: list[Any] = []
    seen: set[Any] = set()
    for loss in losses:
        if loss.creator is None:
            raise ValueError("grad: the loss does not depend on any tensor that requires gradients")
        stack = [(loss.creator, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                if node.edges is _RELEASED:
                    raise ValueError("grad: the graph was released by an earlier walk; pass retain=True to that one")
                stack.append((node, True))
                stack.extend([(edge[0], False) for edge in node.edges if edge is not None])
    return order


def _walk(
    order: list[Any], loss: Tensor, wrt: Sequence[Tensor], gy: Any, release: bool, row_weights: Any = None
) -> list[Any]:
    """One walk from `loss`, releasing all nodes behind it if `release`.

    With `row_weights`, gradients of parameters weigh the rows, and the nodes passed are released (`rows.py`).
    """
    wanted = {(t.creator, t.index) for t in wrt}
    targets = {node for node, _ in wanted}
    # node -> whether a path leads from it to a wanted Tensor through its inputs
    reaches: dict[Any, bool] = {}
    for node in order:
        reaches[node] = any(e is not None and (e in wanted or reaches[e[0]]) for e in node.edges)
    slots: dict[Any, list[Any]] = {loss.creator: _slot(loss.creator, loss.index, _seed(loss, gy))}
    found: dict[tuple[Any, int], Any] = {}
    for node in reversed(order):
        gys = slots.pop(node, None)
        if gys is not None:
            if node in targets:
                for index, g in enumerate(gys):
                    if (node, index) in wanted:
                        found[node, index] = g
            if reaches[node]:
                if row_weights is not None:
                    _weigh(node, *row_weights)
                _step(node, gys, wanted, reaches, slots)
        walked = row_weights is not None and gys is not None and reaches[node]
        if (release or walked) and not isinstance(node, Leaf):
            node.release()
    return [found.get((t.creator, t.index)) for t in wrt]


def _step(node: Any, gys: list[Any], wanted: set, reaches: dict[Any, bool], slots: dict[Any, list[Any]]) -> None:
    """Runs one node's backward and adds its input gradients to their creators' slots."""
    everything = node.needs
    node.needs = tuple(
        [e is not None and (e in wanted or (reaches[e[0]] and e[0].rows_read(reaches, wanted))) for e in node.edges]
    )
    gxs = node.backward(*gys)
    if type(gxs) is not tuple:
        gxs = (gxs,)
    for edge, need, gx in zip(node.edges, node.needs, gxs, strict=True):
        if not need or gx is None:
            continue
        creator, index = edge
        slot = slots.get(creator)
        if slot is None:
            slots[creator] = _slot(creator, index, gx)
        elif slot[index] is None:
            slot[index] = gx
        else:  # never in place: the array may be another slot's too
            slot[index] = slot[index] + gx
    node.needs, node.row_weights = everything, None


def _weigh(node: Any, weights: Any, parameters: set[Any]) -> None:
    """Tells a node that holds parameters the weights of the rows."""
    if any(e is not None and e[0] in parameters for e in node.edges):
        if not node.weighs_rows:
            raise ValueError(f"row_grad: {type(node).__name__} cannot weigh the rows of its parameters' gradients")
        node.row_weights = weights


def _slot(node: Any, index: int, g: Any) -> list[Any]:
    slot = [None] * (1 if isinstance(node, Leaf) else node.outputs)
    slot[index] = g
    return slot


def _seed(loss: Tensor, gy: Any) -> Any:
    if gy is None:
        return array_module(loss.data).ones_like(loss.data)
    if gy.shape != loss.shape:
        raise ValueError(f"grad: upstream gradient has shape {gy.shape}, wanted {loss.shape}")
    return gy
