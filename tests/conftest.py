"""Shared by all tests: random numbers from separate, named streams, so that no test's data depends on another's."""

import zlib
from collections.abc import Callable

import numpy as np
import pytest

Stream = Callable[[str], np.random.Generator]


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Stream:
    """stream("gy") is a generator of its own for each name and each test, and the same in every run."""

    def named(name: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{request.node.name}/{name}".encode()))

    return named
