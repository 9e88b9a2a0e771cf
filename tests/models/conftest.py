"""Small networks with numbers at which an error shows."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.models import ALI, build


@pytest.fixture
def narrow(as_if_trained: Callable) -> Callable[..., ALI]:
    """narrow(name, rng): a float64 model of a twentieth of the width; with `rng`, as after some training."""

    def make(name: str, rng: np.random.Generator | None = None) -> ALI:
        code = None if name.startswith("mixture") else 4
        model = build(name, width=0.05, nz=code, seed=2, dtype=np.float64)
        if rng is not None:
            as_if_trained(model, rng)
        return model

    return make
