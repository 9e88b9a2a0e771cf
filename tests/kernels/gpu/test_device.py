"""Arrays of a device that only plans: what is uploaded when, what is kept, who counts where."""

from collections.abc import Iterator

import numpy as np
import pytest

from alikit.kernels import device
from alikit.kernels.arrays import Counters
from alikit.kernels.launch import recording, use


@pytest.fixture(autouse=True)
def plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(device, "_uploaded", device._Uploaded())
    monkeypatch.setattr(device, "_arenas", {})
    with use("plan"):
        yield


def test_what_is_uploaded_again_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CACHED", 2)
    tables = [device.pointer_table([[n, None]]) for n in (1, 2, 1, 3)]
    assert tables[0] is tables[2]
    assert [table.get().tolist() for table in tables] == [[[1, 0]], [[2, 0]], [[1, 0]], [[3, 0]]]
    assert device.pointer_table([[1, 0]]) is tables[0]  # the least recently asked for went, which was the second
    assert device.pointer_table([[2, 0]]) is not tables[1]
    assert device.pointer_table([[2], [0]]).shape == (2, 1)


def test_during_a_capture_nothing_is_copied_until_asked() -> None:
    known = device.pointer_table([[1, 2]])
    with device.deferred_uploads() as uploads, recording() as launches:
        again = device.pointer_table([[1, 2]])
        new = device.pointer_table([[3, 4]])
        clock = device.clock_of(Counters(5, 6, 7))
    assert launches.foreign == []
    assert again is known
    new[...] = clock[...] = -1
    uploads.upload()
    assert new.get().tolist() == [[3, 4]]
    assert clock.get().tolist() == [5, 6, 0]
    assert any(array is known for array, _ in uploads)  # the graph reads it, so it is held
    assert device.pointer_table([[3, 4]]) is not new  # which lies in the graph's memory
    assert device.pointer_table([[8, 9]]).get().tolist() == [[8, 9]]


def test_launches_count_in_different_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "COUNTERS", 16)
    first, second, third = device.counters(5), device.counters(1), device.counters(9)
    assert {len(first), len(second), len(third)} == {5, 1, 9}
    places = [device.address(x) - device.address(first) for x in (first, second, third)]
    assert places == [0, 32, 0]  # the third does not fit behind the others
    assert not device.counters(17).get().any()


def test_a_table_of_one_row_has_a_pitch_too() -> None:
    x = device.empty_activation((4, 3, 5, 3))
    assert device.pitch(x[:1, :1]) == device.pitch(x[:1, :1, :1]) == device.pitch(x[2, 1]) == 4
    assert device.pitch(device.empty((1, 3))) == device.pitch(device.empty(3)) == 3
    assert device.pitch(device.empty((7, 1))[::2]) == 2
    with pytest.raises(ValueError, match="evenly spaced"):
        device.pitch(x[:, :2])


def test_bfloat16_pixels_are_padded_to_sixteen_bytes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = device.from_host(np.arange(6.0).reshape(2, 3), ml_dtypes.bfloat16, activation=True)
    assert device.pitch(x) == 8
    assert x.get().astype(int).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_guards_are_not_for_a_gpu() -> None:
    with use("cuda"), pytest.raises(ValueError, match="GPU"), device.guarded():
        pass


def test_modes_are_three() -> None:
    with pytest.raises(ValueError, match="interpreted"), use("gpu"):
        pass
    with use("plan", 80):
        assert (device.mode(), device.arch()) == ("plan", 80)
    assert device.arch() == 90
