"""One walk for two losses that weigh the same rows differently.

Where every row of y depends on its own rows of the inputs alone (a discriminator without batch norm), let u be the
gradients of y's rows with upstream ones. Then the loss sum_i w_i y_i has the input gradients w_i u_i and the parameter
gradients sum_i w_i du_i/dtheta, for any w: one walk with upstream ones serves all losses, each with weights of its own.
Both adversarial losses are of that kind to first order, w_i = dL/dl_i. Weighing u, rather than scaling the gradients
of one loss by the quotient of both weights, avoids that quotient's exp(|l|). Rows of y with several numbers, of which
both losses see one number of the row's own, are walked with that number's gradient for upstream ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from alikit.autograd.backward import Graph, Walk
from alikit.autograd.tensor import Tensor
from alikit.backend import array_module


def row_grad(
    y: Tensor, parameters: Sequence[Tensor], weights: Any, inputs: Sequence[Tensor], units: Any = None
) -> tuple[list[Any], list[Any]]:
    """Gradients of sum_i w_i y_i in the parameters and of y_i in the inputs' rows, in one walk.

    y            (N, ...), row i a function of row i of whatever it is computed from; a number a row, unless `units` say
    parameters   leaves; weights: (N, 1, ...) array, the w of their loss
    inputs       Tensors whose rows are some of the batch's
    units        array like y: the gradient of a number of each row's own, which stands for y_i above; y's by default

    Returns the gradients of the parameters, and u for the inputs: whoever has another loss weighs their rows
    (`scale_rows`). What lies behind the inputs is kept for a walk on from there, the rest of the graph is released.
    Gradients of weights that were left to other threads (`partials`) are there after a `grad` from there on, or
    `backend.settle`.
    ValueError where a parameter belongs to a Function that cannot weigh rows.
    """
    leaves = {p.creator for p in parameters}

    def prepare(node: Any) -> None:
        """Tells a node that holds parameters the weights of the rows."""
        if any(e is not None and e[0] in leaves for e in node.edges):
            if not node.weighs_rows:
                raise ValueError(f"row_grad: {type(node).__name__} cannot weigh the rows of its parameters' gradients")
            node.row_weights = weights

    walk = Walk(Graph([y]), y, [*parameters, *inputs])
    upstream = _ones(array_module(y.data), tuple(y.shape), y.dtype) if units is None else units
    found = walk.run(upstream, release=False, prepare=prepare)
    return found[: len(parameters)], found[len(parameters) :]


@lru_cache(maxsize=16)
def _ones(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Ones, made once: on a device every step would launch something to make them again."""
    return xp.ones(shape, dtype)
