"""Passes over a stretch of an array on one thread: what the kernels do between two matrix products, from a bias to a
batch norm's numbers for each channel and the losses, and the products of what maxout left (`winners.py`), which `fused`
alone does in the place of matrix products.

The same functions twice. `plain` makes them of NumPy's own passes, in blocks that stay in cache. `fused` makes one loop
of each, compiled by Numba: it reads and writes every number once and holds the interpreter's lock only to begin, which
two threads feel most. Numba is optional (`pip install "alikit[fast]"`), so both must give the same numbers: the same
arithmetic for each element, sums in another order. What `tiles` and `panels` compile has no twin here: without it a
convolution lays its windows out (`direct.py`), and a dense layer's product is BLAS's (`dense.py`).

Matrices are contiguous, (rows, width); vectors have `width` elements; `keep` is a dropout mask or None.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

#: Which of the two is in use. ALIKIT_PASSES=plain does without Numba where it is installed.
CHOSEN = "fused" if find_spec("numba") and os.environ.get("ALIKIT_PASSES") != "plain" else "plain"

if CHOSEN == "fused":
    from .fused import (
        ROW,
        WINNERS,
        activate,
        activation_grad,
        adam,
        adversarial,
        box_muller,
        column_sums,
        drop,
        maxout,
        maxout_grad,
        winner_input_grad,
        winner_sums,
        winner_weight_grad,
    )
    from .fused_norm import (
        moments,
        norm_channels,
        norm_channels_grad,
        norm_factors,
        norm_grad,
        norm_vectors,
        normalise,
        running,
        through,
    )
else:
    from .plain import (
        ROW,
        WINNERS,
        activate,
        activation_grad,
        adam,
        adversarial,
        box_muller,
        column_sums,
        drop,
        maxout,
        maxout_grad,
        winner_input_grad,
        winner_sums,
        winner_weight_grad,
    )
    from .plain_norm import (
        moments,
        norm_channels,
        norm_channels_grad,
        norm_factors,
        norm_grad,
        norm_vectors,
        normalise,
        running,
        through,
    )

__all__ = [
    "CHOSEN",
    "ROW",
    "WINNERS",
    "activate",
    "activation_grad",
    "adam",
    "adversarial",
    "box_muller",
    "column_sums",
    "drop",
    "maxout",
    "maxout_grad",
    "moments",
    "norm_channels",
    "norm_channels_grad",
    "norm_factors",
    "norm_grad",
    "norm_vectors",
    "normalise",
    "running",
    "through",
    "winner_input_grad",
    "winner_sums",
    "winner_weight_grad",
]
