"""Noise that is added: what it is, and that gradients pass it by."""

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Rows, Tensor, grad, gradcheck, row_grad, stack_grad
from alikit.kernels.cpu.sampling import normal
from alikit.ops import Counters
from alikit.ops.noise import AddNoise

COUNTERS = Counters(1, 2, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_of_a_stream_times_its_deviation(dtype: type, stream) -> None:
    x = stream("x").random((3, 2, 2, 5)).astype(dtype)
    before = x.copy()
    y = ops.add_noise(Tensor(x), 0.25, COUNTERS).data
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x + normal(x.shape, COUNTERS, dtype) * dtype(0.25))
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(y, ops.add_noise(Tensor(x), np.array(0.25, np.float32), COUNTERS).data)


def test_gradients_pass_by(stream) -> None:
    gradcheck(lambda x: ops.mul(ops.add_noise(x, 0.3, COUNTERS), 2.0), [stream("x").random((4, 3))])


def test_one_part_of_a_stack_needs_its_rows_alone(stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer behind the noise computes the input gradient of those rows, and no others."""
    seen = []
    monkeypatch.setattr(AddNoise, "backward", lambda self, gy: seen.append(gy) or gy)
    parts = [Tensor(stream(name).random((2, 1, 1, 3)), requires_grad=name == "b") for name in "ab"]
    w = Tensor(stream("w").random((4, 1, 1, 3)), requires_grad=True)
    noisy = ops.add_noise(ops.join(parts), 0.3, COUNTERS)
    y = ops.sum(ops.conv2d(noisy, w)[0], axes=-1)
    gw, gb = grad([y], [[w, parts[1]]], retain=True)[0]
    np.testing.assert_allclose(gb, np.broadcast_to(w.data.sum(axis=0), gb.shape))
    assert [(type(gy), gy.start, len(gy.data)) for gy in seen] == [(Rows, 2, 2)]
    weights = stream("weights").random((4, 1, 1, 1))
    (found,), (units,) = row_grad(y, [w], weights, [parts[1]])
    np.testing.assert_allclose(units, gb)
    np.testing.assert_allclose(found, np.broadcast_to((weights * noisy.data).sum(axis=0), gw.shape))


def test_several_cotangents_pass_by(stream) -> None:
    parts = [Tensor(stream(name).random((2, 1, 1, 3)), requires_grad=True) for name in "ab"]
    y = ops.add_noise(ops.join(parts), 0.3, COUNTERS)
    gys = stream("gys").random((2, *y.shape))
    _, found = stack_grad(y, gys, [], parts)
    np.testing.assert_array_equal(np.concatenate(found), gys[1])
