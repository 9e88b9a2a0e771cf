"""Shared by all tests: one BLAS thread, and random numbers from separate, named streams.

No test's data depends on another's. The commands give BLAS a single thread (`alikit/startup.py`), and so do the tests:
where several processes share the cores, BLAS's own threads make small products tens of times slower.
"""

import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

Stream = Callable[[str], np.random.Generator]


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Stream:
    """stream("gy") is a generator of its own for each name and each test, and the same in every run."""

    def named(name: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{request.node.name}/{name}".encode()))

    return named
