"""Adam against a loop of spec 3.1, one number at a time; the moving average."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.kernels.cpu.adam import adam_step, adam_steps, moving_average

SETTINGS = {"lr": 0.01, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8}
SHAPES = [(3, 4, 2), (1,), (137,), (5, 7)]


def loop_adam(
    theta: list[float], gradients: list[list[float]], lr: float, beta1: float, beta2: float, eps: float
) -> list[float]:
    """Several steps for every number by itself; eps stands beside the uncorrected sqrt(v)."""
    result = []
    for p, *gs in zip(theta, *gradients, strict=True):
        m = v = 0.0
        for t, g in enumerate(gs, start=1):
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            p -= lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (math.sqrt(v) + eps)
        result.append(p)
    return result


def run(theta: np.ndarray, gradients: list[list[np.ndarray]], **settings: float) -> np.ndarray:
    """As many steps as there are lists of gradients; the parameters behind them."""
    buffers: dict[str, Any] = {"out": theta.copy(), "out_m": np.zeros_like(theta), "out_v": np.zeros_like(theta)}
    for step, grads in enumerate(gradients, start=1):
        adam_step(grads, **buffers, step=step, **{**SETTINGS, **settings})
    return buffers["out"]


@pytest.fixture
def problem(stream: Callable) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Parameters, and the gradients of four steps, in arrays of SHAPES."""
    size = sum(math.prod(shape) for shape in SHAPES)
    return stream("theta").standard_normal(size), [
        [stream(f"g{step}{shape}").standard_normal(shape) for shape in SHAPES] for step in range(4)
    ]


def flat(grads: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([g.reshape(-1) for g in grads])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("splitting")
def test_several_steps_equal_the_loop(dtype: type, problem: tuple) -> None:
    theta, gradients = problem[0].astype(dtype), [[g.astype(dtype) for g in grads] for grads in problem[1]]
    found = run(theta, gradients)
    assert found.dtype == dtype
    wanted = loop_adam(theta.tolist(), [flat(grads).tolist() for grads in gradients], **SETTINGS)
    # each step moves by at most about 2 lr, whatever the gradient, and rounds a few times
    np.testing.assert_allclose(found, wanted, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(theta).max())


def test_eps_stands_beside_the_uncorrected_root(problem: tuple) -> None:
    """At the first step v is (1 - beta2) g^2: an eps beside sqrt(v) weighs 1 / sqrt(1 - beta2) = 32 times as much."""
    theta, gradients = problem
    g = flat(gradients[0])
    found = run(theta, gradients[:1], eps=0.01)
    m, v, root = (1 - 0.5) * g, (1 - 0.999) * g**2, math.sqrt(1 - 0.999)
    here = theta - 0.01 * root / (1 - 0.5) * m / (np.sqrt(v) + 0.01)
    elsewhere = theta - 0.01 / (1 - 0.5) * m / (np.sqrt(v) / root + 0.01)
    np.testing.assert_allclose(found, here, rtol=1e-12)
    assert np.abs(here - elsewhere).min() > 1e-6


def test_moments_are_updated_and_kept(problem: tuple) -> None:
    theta, gradients = problem
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for step in (1, 2):
        adam_step(gradients[step], out=theta.copy(), out_m=m, out_v=v, step=step, **SETTINGS)
    first, second = flat(gradients[1]), flat(gradients[2])
    np.testing.assert_allclose(m, 0.25 * first + 0.5 * second, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(v, 1e-3 * (0.999 * first**2 + second**2), rtol=1e-12)


@pytest.mark.usefixtures("splitting")
def test_squared_norms_are_returned(problem: tuple) -> None:
    theta, gradients = problem
    norms = adam_step(
        gradients[0], out=theta, out_m=np.zeros_like(theta), out_v=np.zeros_like(theta), step=1, **SETTINGS
    )
    assert norms.dtype == np.float64
    np.testing.assert_allclose(norms, [(g**2).sum() for g in gradients[0]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("splitting")
def test_partial_sums_are_added_in_their_order(dtype: type, stream: Callable) -> None:
    """A gradient of five dimensions holds those of a weight; beside it stands one of another parameter."""
    parts, other = (stream(n).standard_normal(s).astype(dtype) for n, s in (("w", (3, 5, 2, 3, 4)), ("b", (7,))))
    found, wanted = ({k: np.ones(127, dtype) for k in ("out", "out_m", "out_v")} for _ in range(2))
    norms = adam_step([other, parts], **found, step=3, **SETTINGS)
    total = parts[0] + parts[1] + parts[2]
    np.testing.assert_array_equal(norms, adam_step([other, total], **wanted, step=3, **SETTINGS))
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_clock_counts_the_updates(problem: tuple) -> None:
    """Before it ticks: after four updates this is the fifth step."""
    theta, gradients = problem
    results = []
    for step in (5, np.array([11, 900, 4])):
        buffers = {"out": theta.copy(), "out_m": np.ones_like(theta), "out_v": np.ones_like(theta)}
        adam_step(gradients[0], **buffers, step=step, **SETTINGS)
        results.append(buffers["out"])
    np.testing.assert_array_equal(*results)


def test_new_values_are_written_once_more_rounded(problem: tuple) -> None:
    """Into arrays whose pixels may lie further apart than their channels need."""
    theta, gradients = problem
    buffers = {"out": theta.copy(), "out_m": np.zeros_like(theta), "out_v": np.zeros_like(theta)}
    pitched = np.zeros((3, 4, 8), np.float16)
    low = [pitched[..., :2], None, None, np.zeros((5, 7), np.float16)]
    adam_step(gradients[0], **buffers, step=1, **SETTINGS, out_low=low)
    np.testing.assert_array_equal(low[0], buffers["out"][:24].reshape(3, 4, 2).astype(np.float16))
    np.testing.assert_array_equal(low[3], buffers["out"][-35:].reshape(5, 7).astype(np.float16))
    assert not pitched[..., 2:].any()


def test_results_do_not_depend_on_the_threads(problem: tuple, split_as: Callable) -> None:
    theta, gradients = problem
    found = []
    for splitting in ("one-thread", "two-threads", "two-threads-in-pieces"):
        split_as(splitting)
        found.append(run(theta, gradients).tobytes())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30], ids=["NaN", "infinity", "square overflows"])
@pytest.mark.usefixtures("splitting")
def test_what_is_not_finite_shows_in_the_norm_of_its_tensor_and_warns_nobody(bad: float) -> None:
    grads = [np.ones(60, np.float32), np.ones(70, np.float32), np.ones(80, np.float32)]
    grads[1][69] = bad
    grads[2][79] = 2
    buffers = {name: np.zeros(210, np.float32) for name in ("out", "out_m", "out_v")}
    norms = adam_step(grads, **buffers, step=1, **SETTINGS)
    assert np.isfinite(norms).tolist() == [True, False, True]
    assert np.isfinite(buffers["out"][:129]).all()


def test_a_zero_gradient_leaves_the_parameters() -> None:
    theta = np.array([1.0, -2.0])
    np.testing.assert_array_equal(run(theta, [[np.zeros(2)]] * 3), theta)


def test_wrong_arguments_are_named() -> None:
    p = np.zeros(4)
    with pytest.raises(ValueError, match=r"adam_step: 3 gradients for buffers of \(4,\)"):
        adam_step([np.zeros(3)], out=p, out_m=p.copy(), out_v=p.copy(), step=1, **SETTINGS)
    with pytest.raises(ValueError, match="adam_step"):
        adam_step([np.zeros(4)], out=p, out_m=np.zeros(3), out_v=p.copy(), step=1, **SETTINGS)
    with pytest.raises(ValueError, match="adam_step: step must be at least 1, found 0"):
        adam_step([np.zeros(4)], out=p, out_m=p.copy(), out_v=p.copy(), step=0, **SETTINGS)
    with pytest.raises(ValueError, match=r"moving_average: x has shape \(1,\), wanted \(4,\)"):
        moving_average(np.ones(1), out=p, rate=0.1)


@pytest.mark.usefixtures("splitting")
def test_moving_average(stream: Callable) -> None:
    x, average = stream("x").standard_normal(301), stream("average").standard_normal(301)
    out = average.copy()
    moving_average(x, out=out, rate=0.05)
    np.testing.assert_allclose(out, 0.95 * average + 0.05 * x, rtol=1e-12, atol=1e-12)
    moving_average(x, out=out, rate=1.0)
    np.testing.assert_allclose(out, x, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("step", [[3, 8], np.array([1, 2, 6])], ids=["numbers", "a clock"])
def test_several_players_move_as_each_would_alone(step: Any, problem: tuple) -> None:
    """Each by its own settings and its own t."""
    settings = [SETTINGS, {"lr": 0.3, "beta1": 0.9, "beta2": 0.9, "eps": 0.02}]
    grads = [problem[1][0], problem[1][1][1:3]]
    alone, together = [], []
    for each, g in zip(settings, grads, strict=True):
        size = sum(a.size for a in g)
        for kept in (alone, together):
            low = [None] * (len(g) - 1) + [np.zeros(g[-1].shape, np.float16)]
            p, v = problem[0][:size].copy(), np.full(size, 0.25)
            kept.append({"out": p, "out_m": np.ones(size), "out_v": v, **each, "out_low": low})
    times = step if isinstance(step, list) else [step, step]
    wanted = [adam_step(g, **given, step=t) for g, given, t in zip(grads, alone, times, strict=True)]
    arguments: Any = {key: [given[key] for given in together] for key in together[0]}
    found = adam_steps(grads, **arguments, step=step)
    for i in range(2):
        np.testing.assert_array_equal(found[i], wanted[i])
        for key in ("out", "out_m", "out_v"):
            np.testing.assert_array_equal(together[i][key], alone[i][key])
        np.testing.assert_array_equal(together[i]["out_low"][-1], alone[i]["out_low"][-1])
