"""Initial values (method 3.2): weights N(0, std^2) whatever the fan-in, biases 0, gamma 1, beta 0.

A weight's numbers depend on the seed and the weight's own name alone, so that adding a layer changes no other.
"""

from __future__ import annotations

import numpy as np

from alikit.nn.module import Pass
from alikit.ops._dispatch import kernel


def init_normal(name: str, shape: tuple[int, ...], std: float, seed: int, dtype: type = np.float32) -> np.ndarray:
    """N(0, std^2) numbers for the parameter `name`."""
    return kernel("normal", np.empty(0))(shape, Pass(seed=seed).stream(f"init/{name}"), dtype) * dtype(std)
