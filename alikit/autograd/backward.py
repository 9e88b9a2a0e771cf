"""The reverse walk: iterative, pruned, freeing as it goes.

Several losses may be walked over one graph, each towards its own Tensors. For each loss only the nodes that lie on a
path to those Tensors are visited, and a node computes only the input gradients that lie on such a path, and of a stack
along the batch only the rows that do: the generators' loss passes through the discriminator without touching its
weights or the images it was given. A node that makes the whole gradient of a tensor may do a part of the next node's
work as well (`folds`). The graph is released by the last walk, so that what the forward pass saved is freed while the
gradients grow; `retain` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alikit.autograd.function import _RELEASED
from alikit.autograd.tensor import Leaf, Tensor
from alikit.backend import array_module, settle


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
    graph = Graph(losses)
    seeds = [_seed(loss, None if gys is None else gys[i]) for i, loss in enumerate(losses)]
    results = []
    for i, (loss, tensors) in enumerate(zip(losses, wrt, strict=True)):
        last = not retain and i == len(losses) - 1
        results.append(Walk(graph, loss, tensors).run(seeds[i], release=last))
    settle()
    return results


def backward(loss: Tensor, gy: Any = None) -> None:
    """Adds the gradient of `loss` to `.grad` of every leaf Tensor it depends on, and releases the graph.

    gy   upstream gradient, an array of the loss's shape; ones by default
    """
    alive = [node.tensor() for node in Graph([loss]).order if isinstance(node, Leaf)]
    leaves = [leaf for leaf in alive if leaf is not None]
    for leaf, g in zip(leaves, grad([loss], [leaves], gys=[gy])[0], strict=True):
        # an array of its own, which may be changed in place: g may be another leaf's gradient, or the caller's `gy`
        leaf.grad = g.copy() if leaf.grad is None else leaf.grad + g


class Graph:
    """What lies behind some losses.

    order   all nodes, creators before those that use them
    users   (creator, index) -> how many inputs of nodes it is
    """

    def __init__(self, losses: Sequence[Tensor]):
        self.order: list[Any] = []
        self.users: dict[tuple[Any, int], int] = {}
        seen: set[Any] = set()
        for loss in losses:
            if loss.creator is None:
                raise ValueError("grad: the loss does not depend on any tensor that requires gradients")
            self._visit(loss.creator, seen)

    def _visit(self, node: Any, seen: set[Any]) -> None:
        """Without recursion: a graph may be deeper than the interpreter's stack."""
        order, users = self.order, self.users
        stack = [(node, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                if node.edges is _RELEASED:
                    raise ValueError("grad: the graph was released by an earlier walk; pass retain=True to that one")
                stack.append((node, True))
                for edge in node.edges:
                    if edge is not None:
                        users[edge] = users.get(edge, 0) + 1
                        stack.append((edge[0], False))


class Walk:
    """One walk from a loss towards some Tensors.

    graph     what lies behind the loss, maybe among others;  wrt: the Tensors whose gradients are wanted
    wanted    (creator, index) of each of them
    reaches   node -> whether a path leads from it to a wanted Tensor through its inputs
    cotangents  how many are stacked along the batch in each gradient (`stack.py`)
    """

    cotangents = 1

    def __init__(self, graph: Graph, loss: Tensor, wrt: Sequence[Tensor]):
        self.graph, self.loss, self.wrt = graph, loss, wrt
        self.wanted = wanted = {(t.creator, t.index) for t in wrt}
        self.reaches: dict[Any, bool] = {}
        for node in graph.order:
            leads = False
            for edge in node.edges:
                if edge is not None and (edge in wanted or self.reaches[edge[0]]):
                    leads = True
                    break
            self.reaches[node] = leads
        self.slots: dict[Any, list[Any]] = {}

    def leads(self, edge: tuple[Any, int] | None) -> bool:
        """Whether an input's gradient is wanted, or on the way to one that is."""
        return edge is not None and (edge in self.wanted or self.reaches[edge[0]])

    def run(self, seed: Any, *, release: bool, prepare: Callable[[Any], None] | None = None) -> list[Any]:
        """Walks, and returns the gradient of each wanted Tensor, or None.

        seed     upstream gradient of the loss
        release  whether the whole graph behind the loss is released
        prepare  called with each node before its backward; the nodes passed are then released

        Gradients of weights may have been left to other threads: until `backend.settle` they may not be there.
        """
        self.slots[self.loss.creator] = _slot(self.loss.creator, self.loss.index, seed)
        try:
            found = self._found(release, prepare)
        except BaseException:
            settle()  # what was left fails now or never
            raise
        return [found.get((t.creator, t.index)) for t in self.wrt]

    def _found(self, release: bool, prepare: Callable[[Any], None] | None) -> dict[tuple[Any, int], Any]:
        """(creator, index) -> gradient of each wanted Tensor that is reached."""
        found: dict[tuple[Any, int], Any] = {}
        targets = {node for node, _ in self.wanted}
        for node in reversed(self.graph.order):
            gys = self.slots.pop(node, None)
            if gys is not None:
                if node in targets:
                    for index, g in enumerate(gys):
                        if (node, index) in self.wanted:
                            found[node, index] = g
                if self.reaches[node]:
                    if prepare is not None:
                        prepare(node)
                    self._step(node, gys)
            walked = prepare is not None and gys is not None and self.reaches[node]
            if (release or walked) and not isinstance(node, Leaf):
                node.release()
        return found

    def _step(self, node: Any, gys: list[Any]) -> None:
        """Runs one node's backward and adds its input gradients to their creators' slots."""
        everything, wanted = node.needs, self.wanted
        node.needs = needs = tuple(
            [e is not None and (e in wanted or (self.reaches[e[0]] and e[0].rows_read(self))) for e in node.edges]
        )
        if node.takes_folds:
            node.folds = tuple([self._fold(e) if need else None for e, need in zip(node.edges, needs, strict=True)])
        gxs = node.backward(*gys)
        if type(gxs) is not tuple:
            gxs = (gxs,)
        for edge, need, gx in zip(node.edges, needs, gxs, strict=True):
            if not need or gx is None:
                continue
            creator, index = edge
            slot = self.slots.get(creator)
            if slot is None:
                self.slots[creator] = _slot(creator, index, gx)
            elif slot[index] is None:
                slot[index] = gx
            else:  # never in place: the array may be another slot's too
                if isinstance(creator, Leaf):
                    settle()  # it may be a weight's gradient that another thread is still at
                slot[index] = added(slot[index], gx)
        node.needs, node.row_weights, node.folds = everything, None, ()

    def _fold(self, edge: tuple[Any, int]) -> Any:
        """What an input's creator would have its user do, where that user makes the whole gradient."""
        if edge in self.wanted or self.graph.users[edge] > 1 or edge[0].outputs > 1:
            return None
        return edge[0].fold()


def added(a: Any, b: Any) -> Any:
    """The sum of two gradients of a Tensor. Partial sums of a weight's, where one has more than the other, stand one
    behind the other: (S, ...) and (T, ...) make (S + T, ...)."""
    return a + b if a.shape == b.shape else array_module(a).concatenate([a, b])


def _slot(node: Any, index: int, g: Any) -> list[Any]:
    slot = [None] * node.outputs
    slot[index] = g
    return slot


def _seed(loss: Tensor, gy: Any) -> Any:
    if gy is None:
        return array_module(loss.data).ones_like(loss.data)
    if gy.shape != loss.shape:
        raise ValueError(f"grad: upstream gradient has shape {gy.shape}, wanted {loss.shape}")
    return gy
