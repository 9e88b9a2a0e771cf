"""Small networks with numbers at which an error shows."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.models import ALI, build


@pytest.fixture
def narrow() -> Callable[..., ALI]:
    """narrow(name, rng): a float64 model of a twentieth of the width; with `rng`, as after some training."""

    def make(name: str, rng: np.random.Generator | None = None) -> ALI:
        code = None if name.startswith("mixture") else 4
        model = build(name, width=0.05, nz=code, seed=2, dtype=np.float64)
        for full, array in model.state().items() if rng is not None else ():
            kind = full.rpartition(".")[2]
            if kind == "weight":
                array[...] = rng.standard_normal(array.shape) * np.sqrt(2 / array[0].size)
            elif kind in ("gamma", "running_std"):
                array[...] = rng.uniform(0.5, 1.5, array.shape)
            else:
                array[...] = rng.uniform(0.1, 0.5, array.shape) * rng.choice([-1, 1], array.shape)
        return model

    return make
