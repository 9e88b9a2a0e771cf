"""Instance noise: normal noise on every image that D sees, less of it from step to step (method 5.5)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alikit.backend import array_module


class InstanceNoise(NamedTuple):
    """deviation: of the first step's, in the unit of the images or points;  steps: after which there is none left."""

    deviation: float
    steps: int

    def at(self, step: Any) -> Any:
        """The deviation at a step counted from 0, None where none is left; or, as an array (), at a device's clock
        [seed, step, updates]."""
        if isinstance(step, int):
            return self.deviation * (1 - step / self.steps) if step < self.steps else None
        return self.deviation * array_module(step).maximum(0.0, 1 - step[1] / self.steps).astype(np.float32)
