"""The seam: which twin serves which arrays."""

import numpy as np
import pytest

from alikit.kernels import KERNELS
from alikit.kernels.cpu import conv
from alikit.ops import _dispatch


@pytest.mark.parametrize("x", [np.zeros(3), np.float32(0)], ids=["array", "number"])
def test_numpy_goes_to_the_cpu(x: object) -> None:
    assert _dispatch.kernel("conv2d", x) is conv.conv2d


def test_a_device_s_array_goes_to_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of the interpreted device is one of NumPy's to NumPy, and not to us: it brings a library of its own."""

    class DeviceArray(np.ndarray):
        array_module = object()

    monkeypatch.setattr(_dispatch, "_GPU", {"conv2d": "the device's"})
    assert _dispatch.kernel("conv2d", np.zeros(3).view(DeviceArray)) == "the device's"


def test_every_kernel_can_be_had() -> None:
    for names in KERNELS.values():
        for name in names:
            assert callable(_dispatch.kernel(name, np.zeros(1)))


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="conv3d"):
        _dispatch.kernel("conv3d", np.zeros(1))
