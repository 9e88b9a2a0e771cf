"""What every kernel promises, whatever it computes (alikit/kernels/__init__.py)."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from alikit.kernels import KERNELS
from alikit.kernels.arrays import Activation, Counters, Dropout, NormState

HOMES = {name: module for module, names in KERNELS.items() for name in names}
LEAKY = Activation("leaky_relu", 0.2)
DROPOUT = Dropout(0.3, Counters(1, 2, 3))
COUNTERS = Counters(4, 5, 6)


def kernel(name: str) -> Callable[..., Any]:
    return getattr(import_module(f"alikit.kernels.cpu.{HOMES[name]}"), name)


def arguments(name: str, rng: np.random.Generator, dtype: type) -> tuple[list, dict[str, Any]]:
    """One call of each kernel, with every array and option it can take at once."""

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def norm(*shape: int) -> NormState:
        vectors = (draw(shape[-1]) for _ in range(3))
        return NormState(draw(*shape), *vectors, abs(draw(shape[-1])), 0.2, DROPOUT)

    low = [None, draw(5), draw(1, 1, 2, 3)]
    adam: dict[str, Any] = {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-8}
    calls: dict[str, tuple[list, dict[str, Any]]] = {
        "apply_activation": ([draw(4, 3, 2, 6), draw(3, 2, 6), LEAKY], {"dropout": DROPOUT}),
        "bias_activation_grad": (
            [draw(8, 3, 2, 3), draw(4, 3, 2, 3), Activation("maxout", 2)],
            {"winner": rng.integers(0, 2, (4, 3, 2, 3), np.uint8), "bias_shape": (6,), "dropout": DROPOUT},
        ),
        "dropout": ([draw(5, 7), DROPOUT], {"first": 33}),
        "scale_rows": ([draw(5, 7, 2), draw(5, 1)], {}),
        "adam_step": (
            [[draw(3, 4), draw(5), draw(2, 1, 1, 2, 3)]],
            {"out": draw(23), "out_m": draw(23), "out_v": draw(23) ** 2, "step": 3, **adam, "out_low": low},
        ),
        "adam_steps": (
            [[[draw(3, 4), draw(2, 1, 1, 2, 3)], [draw(5)]]],
            {
                "out": [draw(18), draw(5)],
                "out_m": [draw(18), draw(5)],
                "out_v": [draw(18) ** 2, draw(5) ** 2],
                **{key: [value, value / 2] for key, value in adam.items()},
                "step": [3, 4],
                "out_low": [[None, draw(1, 1, 2, 3)], None],
            },
        ),
        "moving_average": ([draw(17)], {"out": draw(17), "rate": 0.1}),
        "gather_batch": ([rng.integers(0, 256, (9, 4, 4, 3), np.uint8), np.array([3, 1, 3])], {}),
        "record_step": (
            [draw(4), [draw(3) ** 2, draw(2) ** 2]],
            {"out_clock": np.array([3, 5, 4]), "out_ring": draw(7, 6), "out_bad": np.array([-1, -1])},
        ),
        "conv2d": (
            [draw(6, 7, 8, 3), draw(4, 3, 3, 3), draw(4)],
            {"stride": 2, "activation": LEAKY, "moments": True},
        ),
        "conv2d_input_grad": (
            [draw(6, 3, 3, 4), draw(4, 3, 3, 5), (7, 8), draw(7, 8, 5)],
            {"stride": 2, "activation": LEAKY, "dropout": DROPOUT},
        ),
        "conv2d_weight_grad": ([draw(6, 7, 8, 3), draw(6, 3, 3, 4), (3, 3)], {"stride": 2}),
        "conv2d_backward": (
            [draw(6, 7, 8, 3), draw(12, 3, 3, 4), draw(4, 3, 3, 3)],
            {"stride": 2, "through": norm(6, 7, 8, 3)},
        ),
        "join": ([[draw(4, 3, 2, 3), draw(4, 3, 2, 5)]], {"axis": -1, "dropout": DROPOUT}),
        "join_grad": (
            [draw(8, 3, 2, 8), [3, 5]],
            {"axis": -1, "needs": [True, True], "rows": 4, "dropout": DROPOUT},
        ),
        "adversarial_losses": ([draw(8, 1)], {}),
        "class_losses": ([draw(7, 1, 1, 4), np.eye(4, dtype=dtype)[[3, 0, 2]].reshape(3, 1, 1, 4)], {}),
        "batch_norm_leaky_relu": (
            [draw(4, 3, 2, 5), draw(5), draw(5)],
            {"eps": 1e-4, "slope": 0.2, "dropout": DROPOUT},
        ),
        "batch_norm_leaky_relu_grad": (
            [draw(8, 3, 2, 5), draw(4, 3, 2, 5), draw(5), draw(5), draw(5), abs(draw(5))],
            {"slope": 0.2, "dropout": DROPOUT},
        ),
        "update_statistics": (
            [[(draw(5), abs(draw(5)) + 1), (draw(3), abs(draw(3)) + 1)]],
            {"out_running": [(draw(5), draw(5)), (draw(3), draw(3))], "momentum": 0.1},
        ),
        "gaussian_sample": ([draw(4, 6), COUNTERS], {}),
        "gaussian_sample_grad": ([draw(4, 3), draw(4, 6), COUNTERS], {}),
        "normal": ([(5, 3), COUNTERS, dtype], {}),
    }
    return calls[name]


def arrays(value: Any) -> list[np.ndarray]:
    """The arrays in a value, looking into tuples and lists."""
    if isinstance(value, np.ndarray | np.generic):
        return [np.asarray(value)]
    return [a for item in value for a in arrays(item)] if isinstance(value, tuple | list) else []


def written(options: dict[str, Any]) -> list[np.ndarray]:
    return [a for key, value in options.items() if key.startswith("out") for a in arrays(value)]


every_kernel = pytest.mark.parametrize("name", sorted(HOMES))


@every_kernel
def test_is_documented_and_typed(name: str) -> None:
    assert inspect.getdoc(kernel(name))
    signature = inspect.signature(kernel(name))
    untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert not untyped
    assert signature.return_annotation is not inspect.Signature.empty
    assert kernel(name).__module__ == f"alikit.kernels.cpu.{HOMES[name]}"


@every_kernel
@pytest.mark.usefixtures("splitting")
def test_writes_only_to_what_is_named_out(name: str, stream: Callable) -> None:
    args, options = arguments(name, stream("arguments"), np.float32)
    inputs = arrays(args) + [a for key, value in options.items() if not key.startswith("out") for a in arrays(value)]
    before = [a.copy() for a in inputs]
    for a in inputs:
        a.flags.writeable = False
    kernel(name)(*args, **options)
    for a, b in zip(inputs, before, strict=True):
        assert a.tobytes() == b.tobytes()


@every_kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_dtype(name: str, dtype: type, stream: Callable) -> None:
    if name == "gather_batch":
        dtype = np.float32  # whatever it is given
    args, options = arguments(name, stream("arguments"), dtype)
    found = arrays(kernel(name)(*args, **options)) + written(options)
    if name == "adam_step":
        assert found.pop(0).dtype == np.float64  # the squared norms
    if name == "adam_steps":
        assert {found.pop(0).dtype for _player in range(2)} == {np.dtype(np.float64)}
    if name == "conv2d_backward":
        assert found.pop(1).dtype == np.float64  # sums over the batch
    assert found
    other = np.int64 if name == "record_step" else np.uint8  # clock and notes; winners
    assert {a.dtype for a in found if a.dtype != other} == {np.dtype(dtype)}
    assert not any(np.isnan(a).any() for a in found)


@every_kernel
@pytest.mark.usefixtures("splitting")
def test_gives_the_same_bytes_again_and_keeps_no_hand_on_its_results(name: str, stream: Callable) -> None:
    """A second call with other numbers in between: results do not live in scratch memory, and there is no state."""

    def call(seed: str) -> list[np.ndarray]:
        args, options = arguments(name, stream(seed), np.float32)
        return arrays(kernel(name)(*args, **options)) + written(options)

    first = call("arguments")
    bytes_then = [a.tobytes() for a in first]
    call("other arguments")
    assert [a.tobytes() for a in first] == bytes_then
    assert [a.tobytes() for a in call("arguments")] == bytes_then


@every_kernel
def test_other_ways_of_sharing_change_rounding_only(name: str, stream: Callable, split_as: Callable) -> None:
    results = []
    for splitting in ("one-thread", "two-threads", "two-threads-in-pieces"):
        split_as(splitting)
        args, options = arguments(name, stream("arguments"), np.float64)
        results.append(arrays(kernel(name)(*args, **options)) + written(options))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
