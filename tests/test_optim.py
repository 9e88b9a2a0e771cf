"""Adam over one flat buffer against a loop anybody can read, and the moving average of weights."""

import math

import numpy as np
import pytest

from alikit.models import build
from alikit.nn import Parameter
from alikit.optim import EMA, Adam, AdamSettings, FlatBuffer

SHAPES = {"a.weight": (3, 2, 2), "a.bias": (3,), "b.gamma": (1,)}


def named(rng: np.random.Generator, dtype: type = np.float64) -> list[tuple[str, Parameter]]:
    return [(name, Parameter(rng.standard_normal(shape).astype(dtype))) for name, shape in SHAPES.items()]


def test_parameters_become_views_of_one_buffer_with_their_values(stream) -> None:
    parameters = named(stream("p"))
    before = [p.data.copy() for _, p in parameters]
    adam = Adam(parameters, AdamSettings())
    assert adam.flat.data.shape == (16,)
    assert adam.flat.names == list(SHAPES)
    for (_, p), value in zip(parameters, before, strict=True):
        assert np.shares_memory(p.data, adam.flat.data)
        np.testing.assert_array_equal(p.data, value)
    adam.flat.data[...] = np.arange(16.0)
    assert parameters[1][1].data.tolist() == [12, 13, 14]
    assert parameters[2][1].data.tolist() == [15]


def by_hand(theta: float, grads: list[float], s: AdamSettings) -> float:
    """Method 3.1 for one number: eps beside the uncorrected sqrt(v)."""
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m = s.beta1 * m + (1 - s.beta1) * g
        v = s.beta2 * v + (1 - s.beta2) * g * g
        theta -= s.lr * math.sqrt(1 - s.beta2**t) / (1 - s.beta1**t) * m / (math.sqrt(v) + s.eps)
    return theta


@pytest.mark.parametrize(
    "settings",
    [AdamSettings(), AdamSettings(0.1, 0.2, 0.9, 0.05), AdamSettings(0.1, 0.0, 0.0, 1e-8)],
    ids=["paper", "large-eps", "no-memory"],
)
def test_steps_are_those_of_the_formula(settings: AdamSettings, stream) -> None:
    parameters = named(stream("p"))
    start = np.concatenate([p.data.ravel() for _, p in parameters])
    rng = stream("g")
    grads = [[rng.standard_normal(shape) for shape in SHAPES.values()] for _ in range(4)]
    adam = Adam(parameters, settings)
    for step in grads:
        squares = adam.step(step)
        np.testing.assert_allclose(squares, [np.sum(g * g) for g in step], rtol=1e-12)
    history = [np.concatenate([g.ravel() for g in step]) for step in grads]
    wanted = [by_hand(start[i], [float(g[i]) for g in history], settings) for i in range(16)]
    np.testing.assert_allclose(adam.flat.data, wanted, rtol=1e-12)
    assert adam.steps == 4


def test_the_state_comes_back_and_the_next_steps_are_the_same(stream) -> None:
    def fresh() -> Adam:
        return Adam(named(stream("p"), np.float32), AdamSettings(lr=0.01))

    def gradients(step: int) -> list[np.ndarray]:
        rng = stream(f"g{step}")
        return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES.values()]

    adam, other = fresh(), fresh()
    for step in range(3):
        adam.step(gradients(step))
    state = {name: array.copy() for name, array in adam.state().items()}
    assert list(state) == [f"{k}/{name}" for k in "mv" for name in SHAPES]
    assert [array.shape for array in state.values()] == 2 * list(SHAPES.values())
    other.flat.data[...] = adam.flat.data
    other.load_state(state, 3)
    for step in range(3, 5):
        adam.step(gradients(step))
        other.step(gradients(step))
    np.testing.assert_array_equal(adam.flat.data, other.flat.data)
    assert all(np.array_equal(a, b) for a, b in zip(adam.state().values(), other.state().values(), strict=True))
    assert not any(np.array_equal(state[name], array) for name, array in adam.state().items())  # copied, not kept


def test_a_gradient_that_is_not_finite_is_the_one_reported(stream) -> None:
    adam = Adam(named(stream("p")), AdamSettings())
    grads = [np.ones(shape) for shape in SHAPES.values()]
    grads[1][2] = np.nan
    assert np.isfinite(adam.step(grads)).tolist() == [True, False, True]


def test_a_wrong_number_of_gradients_is_refused(stream) -> None:
    with pytest.raises(ValueError, match="adam_step"):
        Adam(named(stream("p")), AdamSettings()).step([np.ones((3, 2, 2)), np.ones(3)])


def test_the_moving_average(stream) -> None:
    flat = FlatBuffer(named(stream("p")))
    start = flat.data.copy()
    ema = EMA(flat, 0.25)
    np.testing.assert_array_equal(ema.average, start)
    flat.data[...] += 8
    ema.update()
    np.testing.assert_allclose(ema.average, start + 2)
    ema.update()
    np.testing.assert_allclose(ema.average, start + 3.5)
    np.testing.assert_array_equal(flat.data, start + 8)
    assert list(ema.state()) == list(SHAPES)
    other = EMA(flat, 0.25)
    other.load_state(ema.state())
    np.testing.assert_array_equal(other.average, ema.average)
    assert not np.shares_memory(other.average, ema.average)


def test_the_average_stands_in_for_the_weights_and_they_come_back_exactly(stream) -> None:
    parameters = named(stream("p"), np.float32)
    ema = EMA(FlatBuffer(parameters), 0.1)
    weights = parameters[0][1].data.copy()
    ema.average[...] = 5
    with ema.applied():
        assert (parameters[0][1].data == 5).all()
    np.testing.assert_array_equal(parameters[0][1].data, weights)
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    np.testing.assert_array_equal(parameters[0][1].data, weights)


def test_a_model_s_state_is_written_through_the_buffer() -> None:
    """Loading a checkpoint fills the arrays in place, so that the optimiser sees the loaded weights."""
    model = build("mixture", width=0.02)
    adam = Adam(model.generator_parameters(), AdamSettings())
    model.load_state({name: array + 1 for name, array in model.state().items()})
    adam.step([np.zeros(p.shape, np.float32) for p in adam.parameters])
    np.testing.assert_array_equal(adam.flat.data, np.concatenate([p.data.ravel() for p in adam.parameters]))
    assert adam.flat.data[0] == model.encoder.layers[0].conv.weight.data.flat[0]
    assert adam.flat.data[0] > 0.5
