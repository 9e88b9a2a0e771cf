"""The reparameterised Gaussian sample."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck
from alikit.kernels.cpu.sampling import normal
from alikit.ops import Counters

COUNTERS = Counters(seed=1, step=2, stream=3)


@pytest.mark.parametrize("shape", [(5, 6), (3, 1, 1, 14), (1, 2)])
def test_gradients(shape: tuple[int, ...], stream: Callable) -> None:
    gradcheck(lambda t: ops.gaussian_sample(t, COUNTERS), [stream("params").standard_normal(shape)])


def test_meaning() -> None:
    """mu, then log sigma (not its square) along the last axis."""
    eps = normal((1, 2), COUNTERS, np.float64)
    params = Tensor(np.array([[10.0, -10.0, np.log(3), np.log(0.5)]]), requires_grad=True)
    z = ops.gaussian_sample(params, COUNTERS)
    np.testing.assert_allclose(z.data, [[10 + 3 * eps[0, 0], -10 + 0.5 * eps[0, 1]]], rtol=1e-14)
    ((g,),) = grad([z], [[params]])
    np.testing.assert_allclose(g, [[1, 1, 3 * eps[0, 0], 0.5 * eps[0, 1]]], rtol=1e-14)


def test_sigma_0_gives_mu_and_other_counters_another_sample() -> None:
    params = np.zeros((2, 6))
    params[:, 3:] = -np.inf
    np.testing.assert_array_equal(ops.gaussian_sample(Tensor(params), COUNTERS).data, 0)
    params[:, 3:] = 0
    first, second = (ops.gaussian_sample(Tensor(params), c).data for c in (COUNTERS, COUNTERS._replace(step=3)))
    assert not np.any(first == second)


def test_an_odd_number_of_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gaussian_sample: params \(2, 3\)"):
        ops.gaussian_sample(Tensor(np.ones((2, 3))), COUNTERS)
