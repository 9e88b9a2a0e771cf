"""The way to the GPU, as far as it goes without one: keys, cubins, caches, and what the driver would be handed."""

import ctypes
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alikit.kernels import binary, cuda, device, launch, ptx, source
from alikit.kernels.launch import Int64, Launch, jit, recording, tl, use

pytest.importorskip("triton", reason="Triton (Linux only) is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")

SHIFT = tl.constexpr(3)


@jit
def doubled(x):
    return x * 2 + SHIFT


@jit
def every_kind(x_ptr, none_ptr, y_ptr, n, big, factor, small, word, BLOCK: tl.constexpr, SCALE: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n * 16  # a mask that ends anywhere would forbid wide loads
    x = doubled(tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)) * (factor * SCALE)
    x += (big + word.to(tl.int64) + small).to(tl.float32)
    tl.store(y_ptr + offs, x.to(y_ptr.dtype.element_ty), mask=mask)


def call(x: Any, y: Any, n: int = 5, factor: float = 0.5) -> None:
    numbers = {"n": n, "big": Int64(3), "factor": factor, "small": np.uint8(7), "word": np.uint64(2**63)}
    arrays = {"x_ptr": x, "none_ptr": None, "y_ptr": y}
    launch.launch(every_kind, (2, 3), {**arrays, **numbers}, {"BLOCK": 512, "SCALE": 0.25}, warps=2)


@pytest.fixture
def arrays() -> tuple[Any, Any]:
    with use("plan"):
        return device.empty(128), device.empty(128, np.float16)


@pytest.fixture
def recorded(arrays: tuple[Any, Any]) -> Launch:
    with use("plan"), recording() as launches:
        call(*arrays)
    return launches[0]


class FakeDriver:
    """Takes down what it is called with."""

    def __init__(self) -> None:
        self.loaded: list[binary.Binary] = []
        self.launches: list[tuple] = []

    def device(self) -> int:
        return 0

    def arch(self) -> int:
        return 80

    def stream(self) -> int:
        return 77

    def load(self, found: binary.Binary) -> int:
        self.loaded.append(found)
        return 1000 + len(self.loaded)

    def launch(self, *arguments: int) -> None:
        self.launches.append(arguments)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    fake = FakeDriver()
    monkeypatch.setattr(cuda, "_driver", fake)
    for table in ("_functions", "_prepared"):
        monkeypatch.setattr(cuda, table, {})
    with use("cuda"):
        yield fake


def read(parameters: int, kinds: list[Any]) -> list[Any]:
    """What the driver finds where the parameter array points."""
    pointers = ctypes.cast(parameters, ctypes.POINTER(ctypes.c_void_p))
    return [ctypes.cast(pointers[i], ctypes.POINTER(kind))[0] for i, kind in enumerate(kinds)]


def test_every_parameter_of_the_entry_is_given_in_its_size(recorded: Launch, arrays: tuple[Any, Any]) -> None:
    for arch in (80, 90):
        text = launch.ask_triton(recorded, arch).asm["ptx"]
        found = ptx.parameters(text)
        names = {"x_ptr": arrays[0], "y_ptr": arrays[1], "n": 5, "big": 3, "factor": 0.5, "small": 7, "word": 2**63}
        values, array = cuda.parameter_array(recorded, names, ptx.hidden(recorded.runtime, found))
        assert [ctypes.sizeof(value) for value in values] == [parameter.size for parameter in found]
        assert all(pointer % parameter.align == 0 for pointer, parameter in zip(array, found, strict=True))
        assert [parameter.kind for parameter in found[-2:]] == ["p", "p"]


def test_the_driver_is_handed_these_values(driver: FakeDriver, arrays: tuple[Any, Any]) -> None:
    call(*arrays)
    function, x, y, z, *block, shared, stream, parameters, extra = driver.launches[0]
    assert (function, x, y, z, block, stream, extra) == (1001, 2, 3, 1, [64, 1, 1], 77, 0)
    (loaded,) = driver.loaded
    assert loaded.cubin.startswith(b"\x7fELF")
    assert loaded.shared == shared
    kinds = [ctypes.c_uint64] * 2 + [ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_uint8, ctypes.c_uint64]
    addresses = [device.address(x) for x in arrays]
    values = read(parameters, kinds + [ctypes.c_uint64] * loaded.hidden)
    assert values == [*addresses, 5, 3, 0.5, 7, 2**63] + [0] * loaded.hidden


def test_the_same_launch_is_prepared_once_and_code_loaded_once(driver: FakeDriver, arrays: tuple[Any, Any]) -> None:
    x, y = arrays
    for arguments in ((x, y), (x, y), (x[64:], y), (x, y, 6), (x, y, 5, 0.25)):
        call(*arguments)
    parameters = [arguments[-2] for arguments in driver.launches]
    assert len(driver.loaded) == 1
    assert parameters[0] == parameters[1]
    assert len(set(parameters)) == 4


def test_other_types_constants_and_alignment_are_other_code(driver: FakeDriver, arrays: tuple[Any, Any]) -> None:
    x, y = arrays
    for arguments in ((x, y), (x, x), (x[1:], y), (x, y, np.int64(5))):
        call(*arguments)
    assert len({loaded.cubin for loaded in driver.loaded}) == 4


def test_an_empty_grid_launches_nothing(driver: FakeDriver, arrays: tuple[Any, Any]) -> None:
    numbers = {"n": 0, "big": 0, "factor": 1.0, "small": 1, "word": 1}
    arguments = {"x_ptr": arrays[0], "none_ptr": None, "y_ptr": arrays[1], **numbers}
    launch.launch(every_kind, 0, arguments, {"BLOCK": 64, "SCALE": 1})
    assert driver.launches == []


def test_a_cubin_is_kept_and_found(recorded: Launch, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = launch.compiled(recorded, 80)
    assert len(list(own_cache.iterdir())) == 1
    monkeypatch.setattr(launch, "_compile", lambda *_: pytest.fail("compiled again"))
    assert launch.compiled(recorded, 80) == first
    monkeypatch.undo()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:200] + b"?" + b[201:], lambda b: b"", lambda b: b"\n"]
)
def test_a_damaged_file_is_replaced(recorded: Launch, own_cache: Path, damage: Any) -> None:
    first = launch.compiled(recorded, 80)
    (file,) = own_cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert launch.compiled(recorded, 80) == first
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(recorded: Launch, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALIKIT_CACHE", str(tmp_path / "file"))
    assert launch.compiled(recorded, 80).cubin


def test_the_key_follows_what_a_kernel_calls_and_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def key() -> str:
        for kernel in (every_kind, doubled):
            vars(kernel.fn).pop("_source_key", None)
        return source.source_key(every_kind)

    first = key()
    assert key() == first
    monkeypatch.setitem(globals(), "SHIFT", tl.constexpr(4))
    assert key() != first
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "doubled", every_kind)
    assert key() != first
    monkeypatch.undo()
    assert key() == first


def test_constants_are_plain_values_or_records_of_them() -> None:
    def key(value: Any) -> str:
        return source.launch_key(Launch(every_kind, (1, 1, 1), (), (("BLOCK", value),), (), 4, 2), 80)

    @dataclasses.dataclass(frozen=True)
    class Tile:
        BM: int

        @property
        def rows(self) -> int:
            return 2 * self.BM

    first = key(Tile(4))
    assert key(Tile(4)) == first
    assert key(np.int64(4)) == key(4)
    assert len({first, key(Tile(8)), key((Tile(4), 1)), key(4), key(4.0), key(True), key(1), key("4"), key(None)}) == 9
    Tile.rows = property(lambda self: 3 * self.BM)  # type: ignore[assignment, method-assign]
    assert key(Tile(4)) != first
    with pytest.raises(TypeError, match="a number, a word"):
        key(tl.float32)


HEAD = ".visible .entry k(\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + ".param .u64 .ptr .global .align 1 k_0,\n.param .u32 k_1,\n.param .u64 k_2\n)", "2 in the source"),
        (HEAD + ".param .u64 .ptr .global .align 1 k_0\n)", "2 in the source"),
        (HEAD + ".param .u64 .ptr .global .align 1 k_0,\n.param .f64 k_1\n)", "n is fp32"),
        (HEAD + ".param .u64 .ptr .global .align 1 k_0,\n.param .u32 k_1\n)", "n is fp32"),
        (HEAD + ".param .align 64 .b8 k_0[128],\n.param .f32 k_1\n)", "x_ptr is"),
        (HEAD + ".param .texref k_0,\n.param .f32 k_1\n)", "not a parameter"),
        ("", "0 entries"),
    ],
)
def test_an_entry_that_is_not_the_sources_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ptx.hidden([("x_ptr", "*fp32"), ("n", "fp32")], ptx.parameters(text))
