"""Adam over one flat buffer against a loop anybody can read, and the moving average of weights."""

import copy
import math

import numpy as np
import pytest

from alikit.models import build
from alikit.nn import Parameter
from alikit.optim import EMA, Adam, AdamSettings, FlatBuffer

SHAPES = {"a.weight": (3, 2, 2), "a.bias": (3,), "b.gamma": (1,)}
#: with weights of four dimensions, of which the first does not fill whole 16 bytes in float16
WEIGHTS = {"a.weight": (2, 1, 2, 3), "a.bias": (2,), "b.weight": (4, 1, 1, 8)}


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


def test_what_does_not_fill_16_bytes_comes_last_and_nothing_else_moves() -> None:
    sizes = {"a": 8, "b": 2, "c": 4, "d": 1, "e": 800}
    adam = Adam(
        [(name, Parameter(np.full(size, ord(name), np.float32))) for name, size in sizes.items()], AdamSettings()
    )
    assert adam.flat.names == ["a", "c", "e", "b", "d"]
    assert [chr(int(p.data[0])) for p in adam.parameters] == adam.flat.names
    begins = {
        n: view.ctypes.data - adam.flat.data.ctypes.data
        for n, view in zip(adam.flat.names, adam.flat.views(adam.flat.data), strict=True)
    }
    assert begins == {"a": 0, "c": 32, "e": 48, "b": 3248, "d": 3256}


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


def weights(rng: np.random.Generator) -> list[tuple[str, Parameter]]:
    return [(name, Parameter(rng.standard_normal(shape).astype(np.float32))) for name, shape in WEIGHTS.items()]


def assert_rounded(parameters: list[tuple[str, Parameter]], flat: FlatBuffer) -> None:
    """Masters in float32 in the flat buffer; weights are computed with in their float16 roundings."""
    for name, p in parameters:
        assert p.master.dtype == np.float32
        assert np.shares_memory(p.master, flat.data)
        assert (p.data is p.master) == (p.ndim != 4), name
        np.testing.assert_array_equal(p.data, p.master.astype(p.data.dtype), err_msg=name)
    first = parameters[0][1].data
    assert first.dtype == np.float16
    assert first.strides[-2] == 16  # bytes from pixel to pixel
    assert not first.base.reshape(-1)[: 2 * 2 * 8].reshape(-1, 8)[:, 3:].any()


def test_weights_of_lower_precision_are_copies_of_their_masters(stream) -> None:
    parameters = weights(stream("p"))
    before = [p.data.copy() for _, p in parameters]
    flat = FlatBuffer(parameters, np.float16)
    assert_rounded(parameters, flat)
    for (_, p), value in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.master, value)
    assert [copy is None for copy in flat.copies or []] == [False, False, True]  # the bias of 8 bytes comes last
    assert FlatBuffer(weights(stream("p"))).copies is None
    flat.assign(np.arange(float(flat.data.size), dtype=np.float32) / 7)
    assert_rounded(parameters, flat)
    assert parameters[1][1].data[0] == pytest.approx(44 / 7)


def test_a_step_moves_masters_and_copies(stream) -> None:
    """By partial sums of a weight's gradient, too."""
    parameters, plain = weights(stream("p")), weights(stream("p"))
    adam, other = Adam(parameters, AdamSettings(lr=0.01), np.float16), Adam(plain, AdamSettings(lr=0.01))
    rng = stream("g")
    grads = [rng.standard_normal(p.shape).astype(np.float32) for p in adam.parameters]
    parts = [np.stack([0.25 * grads[0], 0.75 * grads[0]]), *grads[1:]]
    before = parameters[2][1].data.copy()
    np.testing.assert_allclose(adam.step(parts), other.step(grads), rtol=1e-6)
    np.testing.assert_allclose(adam.flat.data, other.flat.data, rtol=1e-6)
    assert_rounded(parameters, adam.flat)
    assert not np.array_equal(parameters[2][1].data, before)


def test_a_copied_optimiser_moves_its_own_parameters(stream) -> None:
    """As the other one moves its."""
    parameters = weights(stream("p"))
    adam = Adam(parameters, AdamSettings(lr=0.01), np.float16)
    grads = [stream("g").standard_normal(p.shape).astype(np.float32) for p in adam.parameters]
    adam.step(grads)
    copied, its_own = copy.deepcopy((adam, parameters))
    before = adam.flat.data.copy()
    copied.step(grads)
    np.testing.assert_array_equal(adam.flat.data, before)
    adam.step(grads)
    np.testing.assert_array_equal(copied.flat.data, adam.flat.data)
    assert_rounded(its_own, copied.flat)


def test_the_average_of_masters_stands_in_for_the_copies(stream) -> None:
    parameters = weights(stream("p"))
    flat = FlatBuffer(parameters, np.float16)
    current, ema = flat.data.copy(), EMA(flat, 0.5)
    flat.assign(current + 1)
    ema.update()
    np.testing.assert_allclose(ema.average, current + 0.5, rtol=1e-6)
    with ema.applied():
        assert_rounded(parameters, flat)
        np.testing.assert_array_equal(flat.data, ema.average)
    assert_rounded(parameters, flat)
    np.testing.assert_array_equal(flat.data, current + 1)


def test_a_state_is_that_of_the_masters_and_is_loaded_into_both() -> None:
    model, exact = build("mixture", width=0.02), build("mixture", width=0.02)
    adam = Adam(model.generator_parameters(), AdamSettings(), np.float16)
    assert {name: a.dtype for name, a in model.state().items()} == {n: a.dtype for n, a in exact.state().items()}
    for name, array in exact.state().items():
        np.testing.assert_array_equal(model.state()[name], array, err_msg=name)
    model.load_state({name: array + np.float32(1 / 3) for name, array in model.state().items()})
    weight = model.encoder.layers[0].conv.weight
    np.testing.assert_array_equal(weight.data, weight.master.astype(np.float16))
    assert adam.flat.data[0] == weight.master.flat[0] != weight.data.flat[0]
