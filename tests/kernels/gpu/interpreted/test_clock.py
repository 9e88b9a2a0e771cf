"""The end of a step on the device: the same arrays as the CPU twin leaves, to the byte."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu import clock as cpu_clock
from alikit.kernels.gpu import clock as gpu_clock

FIGURES = [
    ([1.5, 2.5, 0.25, 0.75], [[9.0, 16.0, 1.0], [4.0]]),
    ([np.nan, 1, 0, 0], [[1], [np.inf]]),
    ([1, np.inf, 0, 0], [[1], [1]]),
    ([1, 2, 0, 0], [[1, np.inf, np.nan], [1]]),
    ([1, 2, 0, 0], [[1, 2], [3, np.nan, np.inf]]),
    ([1, -np.inf, 0, 0], [[1, 2, 3]]),
]


@pytest.mark.parametrize(("figures", "squares"), FIGURES)
def test_equals_the_cpu(figures: list, squares: list, put: Callable) -> None:
    host = [
        np.array([7, 4, 6], np.int64),
        np.full((3, 4 + len(squares)), -1, np.float32),
        np.array([-1, -1], np.int64),
    ]
    clock, ring, bad = (put(x, out=True) for x in host)
    for _ in range(2):
        values = np.float32(figures), [np.array(s, np.float64) for s in squares]
        cpu_clock.record_step(*values, out_clock=host[0], out_ring=host[1], out_bad=host[2])
        on_device = [put(s, np.float64) for s in values[1]]
        gpu_clock.record_step(put(values[0]), on_device, out_clock=clock, out_ring=ring, out_bad=bad)
    for wanted, found in zip(host, (clock, ring, bad), strict=True):
        np.testing.assert_array_equal(found.get(), wanted)
