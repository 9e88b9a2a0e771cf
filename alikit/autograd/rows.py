"""One walk for two losses that weigh the same rows differently.

Where every row of y depends on its own rows of the inputs alone (a discriminator without batch norm), let u be the
gradients of y's rows with upstream ones. Then the loss sum_i w_i y_i has the input gradients w_i u_i and the parameter
gradients sum_i w_i du_i/dtheta, for any w: one walk with upstream ones serves all losses, each with weights of its own.
Both adversarial losses are of that kind to first order, w_i = dL/dl_i. Weighing u, rather than scaling the gradients
of one loss by the quotient of both weights, avoids that quotient's exp(|l|).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alikit.autograd.backward import _topological, _walk
from alikit.autograd.tensor import Tensor


def row_grad(
    y: Tensor, parameters: Sequence[Tensor], weights: Any, inputs: Sequence[tuple[Tensor, Any]]
) -> tuple[list[Any], list[Any]]:
    """Gradients of sum_i w_i y_i in the parameters and of sum_i v_i y_i in the inputs, in one walk.

    y            (N, 1, ...), row i a function of row i of whatever it is computed from
    parameters   leaves; weights: (N, ...) array like y, the w of their loss
    inputs       (Tensor, v) pairs: a Tensor whose rows are some of the batch's, and the v of those rows, (M, 1, ...)

    Returns the gradients of the parameters and of the inputs; what lies behind the inputs is kept for a
    walk on from there, the rest of the graph is released.
    ValueError where a parameter belongs to a Function that cannot weigh rows.
    """
    wrt = [*parameters, *(x for x, _ in inputs)]
    found = _walk(
        _topological([y]), y, wrt, None, release=False, row_weights=(weights, {p.creator for p in parameters})
    )
    grads = found[: len(parameters)]
    units = zip(found[len(parameters) :], inputs, strict=True)
    return grads, [u * v.reshape(-1, *(1,) * (u.ndim - 1)) for u, (_, v) in units]
