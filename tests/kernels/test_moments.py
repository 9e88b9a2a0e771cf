"""Mean and variance in float32 of large numbers, and of rows whose shares differ."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.cpu.moments import moments_of


@pytest.mark.usefixtures("splitting")
def test_moments_where_float32_cannot_hold_the_mean(stream: Callable) -> None:
    """At a million the spacing of float32 is 1/16, and the variance must not take in what rounding the mean loses."""
    x = (1e6 + stream("x").standard_normal((6, 5, 3, 4)) / 4).astype(np.float32)
    mean, var = moments_of(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=(0, 1, 2)), rtol=2.0**-23)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.usefixtures("splitting")
def test_shares_of_different_means_are_merged() -> None:
    """Half the rows near 0 and half near 1000: nearly all variance lies between the threads' shares."""
    x = np.zeros((10, 2, 2, 3), np.float32)
    x[5:] = 1000
    x[::2] += 1
    mean, var = moments_of(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-6)
