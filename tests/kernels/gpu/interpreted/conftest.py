"""What every GPU kernel is tested under in Triton's interpreter: memory that begins as NaN between guard zones, inputs
that stay as they were, and masked-off elements that are NaN unless the kernel says what they are.

The interpreter must be chosen before Triton is imported, so these tests run in a process of their own:
`TRITON_INTERPRET=1 pytest tests/kernels/gpu/interpreted`, which is what `tests/test_interpreted.py` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if INTERPRETED:
    from triton.runtime import interpreter

    from alikit.kernels import device
    from alikit.kernels.guards import Guards, fill_with_poison
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def poisoned_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A masked load without `other=` leaves anything in the lanes that are off. The interpreter gives zeros there,
    which would hide the mistake; here they are NaN."""
    builder = interpreter.InterpreterBuilder
    load = builder.create_masked_load

    def poisoned(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any) -> Any:
        if other is None and not mask.data.all():
            kind = ptrs.get_element_ty()
            lanes = np.empty(ptrs.data.shape, interpreter._get_np_dtype(kind))
            fill_with_poison(lanes)
            other = interpreter.TensorHandle(lanes, kind)
        return load(self, ptrs, mask, other, *rest)

    monkeypatch.setattr(builder, "create_masked_load", poisoned)


@pytest.fixture(autouse=True)
def bfloat16_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter cuts digits off where it makes bfloat16 of float32. A GPU rounds to nearest; so does this."""
    import ml_dtypes

    cut = interpreter._convert_float

    def convert(x: Any, source: Any, target: Any, rounding: Any) -> Any:
        if target.name == "bf16" and source.name == "fp32":
            return x.astype(ml_dtypes.bfloat16).view(np.uint16)
        return cut(x, source, target, rounding)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


@pytest.fixture(autouse=True)
def memory() -> Iterator[Guards]:
    """Guard zones around every array, NaN in every fresh one, pads and counters zero at the end."""
    with device.guarded() as guards:
        yield guards


@pytest.fixture
def put() -> Iterator[Callable[..., Any]]:
    """put(x) copies x to the device, put(x, activation=True) in padded pixels. What is put must stay as it is: the end
    of the test compares it byte for byte; put(x, out=True) is for what kernels may write to."""
    kept: list[tuple[Any, bytes]] = []

    def copy(x: np.ndarray, dtype: Any = np.float32, *, activation: bool = False, out: bool = False) -> Any:
        x = np.asarray(x)
        found = device.from_host(x, dtype if x.dtype.kind == "f" else None, activation=activation)
        if not out:
            kept.append((found, device.to_host(found).tobytes()))
        return found

    yield copy
    for x, before in kept:
        assert device.to_host(x).tobytes() == before, f"an input {x.shape} was changed"


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """backwards(): from then on the programs of a grid run from the last to the first."""

    def turn() -> None:
        builder = interpreter.interpreter_builder
        place = builder.set_grid_idx

        def mirrored(*place_in_order: int) -> None:
            place(*(n - 1 - i for n, i in zip(builder.grid_dim, place_in_order, strict=True)))

        monkeypatch.setattr(builder, "set_grid_idx", mirrored)

    return turn


@pytest.fixture(params=["in-order", "reversed"])
def program_order(request: pytest.FixtureRequest, backwards: Callable[[], None]) -> str:
    """The test runs once with the programs of a grid in order and once from the last to the first."""
    if request.param == "reversed":
        backwards()
    return request.param
