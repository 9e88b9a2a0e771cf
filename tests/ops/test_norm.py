"""Batch norm + leaky ReLU as a differentiable function, with the batch's statistics and with frozen ones."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import KinkError, Tensor, grad, gradcheck
from alikit.ops import Counters, Dropout

SHAPES = {"images": (3, 5, 3, 7), "vectors": (11, 3), "one channel": (2, 3, 3, 1), "two rows": (2, 1, 1, 5)}
EPS = 1e-4

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
DROPOUT = Dropout(0.3, Counters(seed=7, step=1, stream=4))

every_dropout = pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["plain", "dropout"])
every_slope = pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[[tuple], list[np.ndarray]]:
    """x, gamma of both signs and away from 1, beta away from 0."""

    def arrays(shape: tuple[int, ...]) -> list[np.ndarray]:
        channels = shape[-1:]
        gamma = stream("gamma").uniform(1.5, 3, channels) * stream("sign").choice([-1, 1], channels)
        beta = stream("beta").uniform(0.2, 1, channels) * stream("side").choice([-1, 1], channels)
        return [2 * stream("x").standard_normal(shape) + 5, gamma, beta]

    return arrays


@every_shape
@every_slope
@every_dropout
def test_gradients_run_through_the_statistics(
    shape: tuple, slope: float, dropout: Dropout | None, draw: Callable
) -> None:
    # two rows of x differ by much more than sqrt(eps), so that nothing is steep at the scale of a difference step
    gradcheck(lambda *ts: ops.batch_norm_leaky_relu(*ts, eps=EPS, slope=slope, dropout=dropout)[0], draw(shape))


@every_shape
@every_slope
@every_dropout
def test_gradients_with_frozen_statistics(shape: tuple, slope: float, dropout: Dropout | None, draw: Callable) -> None:
    moments = np.linspace(4, 6, shape[-1]), np.linspace(0.5, 3, shape[-1])
    options = {"eps": EPS, "slope": slope, "moments": moments, "frozen": True, "dropout": dropout}
    x, gamma, beta = draw(shape)
    y, mean, inv_std = ops.batch_norm_leaky_relu(Tensor(x), Tensor(gamma), Tensor(beta), **options)
    a = gamma * (x - moments[0]) / np.sqrt(moments[1] + EPS) + beta
    wanted = Tensor(np.where(a > 0, a, slope * a))
    wanted = wanted if dropout is None else ops.dropout(wanted, *dropout)
    np.testing.assert_allclose(y.data, wanted.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(mean, moments[0])
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(moments[1] + EPS), rtol=1e-15)
    gradcheck(lambda *ts: ops.batch_norm_leaky_relu(*ts, **options)[0], [x, gamma, beta])


def test_moments_from_a_convolution_take_part_in_the_gradient(stream: Callable, draw: Callable) -> None:
    """The convolution measures its output on the way; for the gradient they are the batch's statistics all the same."""
    _, gamma, beta = draw((1, 4))
    x, w = stream("x").standard_normal((3, 5, 4, 2)), stream("w").standard_normal((4, 2, 2, 2))

    def layer(*ts: Tensor) -> Tensor:
        y, moments = ops.conv2d(*ts[:2], moments=True)
        return ops.batch_norm_leaky_relu(y, *ts[2:], eps=EPS, slope=0.2, moments=moments)[0]

    gradcheck(layer, [x, w, gamma, beta])


def test_statistics_are_those_of_the_batch(draw: Callable) -> None:
    x, gamma, beta = draw((3, 5, 3, 7))
    _, mean, inv_std = ops.batch_norm_leaky_relu(Tensor(x), Tensor(gamma), Tensor(beta), eps=EPS, slope=0.2)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(x.var(axis=(0, 1, 2)) + EPS), rtol=1e-12)


def test_meaning() -> None:
    """Variance 1 at eps 0: x = 4, 6 has mean 5, and normalises to -1, 1."""
    x, gamma, beta = (Tensor(np.array(v)) for v in ([[4.0], [6.0]], [3.0], [1.0]))
    y, _, _ = ops.batch_norm_leaky_relu(x, gamma, beta, eps=0.0, slope=0.5)
    np.testing.assert_allclose(y.data, [[-1], [4]])


def test_an_exact_zero_is_a_kink() -> None:
    x = np.array([[-1.0], [0.0], [1.0]])
    with pytest.raises(KinkError):
        gradcheck(lambda *ts: ops.batch_norm_leaky_relu(*ts, eps=EPS, slope=0.2)[0], [x, np.array([2.0]), np.zeros(1)])


@pytest.mark.parametrize("frozen", [False, True])
def test_float32_stays_float32(frozen: bool, draw: Callable) -> None:
    tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in draw((3, 5, 3, 7))]
    moments = (np.zeros(7, np.float32), np.ones(7, np.float32)) if frozen else None
    y, mean, inv_std = ops.batch_norm_leaky_relu(*tensors, eps=EPS, slope=0.2, moments=moments, frozen=frozen)
    assert {a.dtype for a in (y, mean, inv_std, *grad([y], [tensors])[0])} == {np.dtype(np.float32)}


def test_wrong_arguments_are_named() -> None:
    x, v = Tensor(np.ones((4, 3))), Tensor(np.ones(3))
    with pytest.raises(ValueError, match="batch_norm_leaky_relu: frozen statistics must be given as moments"):
        ops.batch_norm_leaky_relu(x, v, v, eps=EPS, slope=0.2, frozen=True)
    with pytest.raises(ValueError, match=r"batch_norm_leaky_relu: gamma has shape \(4, 3\), wanted \(3,\)"):
        ops.batch_norm_leaky_relu(x, x, v, eps=EPS, slope=0.2)


def test_what_a_convolution_has_left_to_a_norm_is_no_population(draw: Callable) -> None:
    _, gamma, beta = map(Tensor, draw((1, 4)))
    x, moments = ops.conv2d(Tensor(np.ones((3, 1, 1, 2))), Tensor(np.ones((4, 1, 1, 2))), moments=True, deferred=True)
    with pytest.raises(ValueError, match="frozen statistics must be given as moments, a mean and a variance"):
        ops.batch_norm_leaky_relu(x, gamma, beta, eps=EPS, slope=0.2, frozen=True, moments=moments)
