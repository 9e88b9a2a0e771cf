"""The device that is not there: arrays in host memory which must not be mixed with NumPy's own, as CuPy's must not."""

from __future__ import annotations

from typing import Any

import numpy as np


class DeviceArray(np.ndarray):
    """Memory of the interpreted and of the planned device. Arithmetic works as on a CuPy array: the other operand is a
    number or a DeviceArray, and `get` copies to the host."""

    def get(self) -> np.ndarray:
        """A copy in host memory."""
        return np.array(self.view(np.ndarray))

    def set(self, values: np.ndarray) -> None:
        """Copies from host memory."""
        self.view(np.ndarray)[...] = values

    @property
    def array_module(self) -> Any:
        """Functions that make and take arrays like this one."""
        return HOST

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        for value in (*inputs, *out):
            if type(value) is np.ndarray and value.ndim:
                raise TypeError(f"{ufunc.__name__}: an array of the device with one in host memory")
        plain = [_plain(value) for value in inputs]
        if out:
            options["out"] = tuple(_plain(value) for value in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if len(out) == 1 else _device(result)


def _plain(value: Any) -> Any:
    """The same memory as NumPy's own array, within lists and tuples too."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _device(value: Any) -> Any:
    """The same memory as a DeviceArray, within lists and tuples too."""
    if isinstance(value, np.ndarray):
        return value.view(DeviceArray)
    return type(value)(map(_device, value)) if type(value) in (list, tuple) else value


class _Host:
    """NumPy's functions, giving DeviceArrays: what `array_module` of a DeviceArray is."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if isinstance(function, type) or not callable(function):
            return function

        def call(*args: Any, **options: Any) -> Any:
            args, options = _plain(args), {key: _plain(value) for key, value in options.items()}
            return _device(function(*args, **options))

        return call

    def asarray(self, x: Any, dtype: Any = None) -> DeviceArray:
        """A DeviceArray as it is; anything else is copied to the device."""
        if isinstance(x, DeviceArray) and (dtype is None or x.dtype == dtype):
            return x
        return np.array(_plain(x), dtype).view(DeviceArray)

    def asnumpy(self, x: Any) -> np.ndarray:
        """As CuPy's: a copy in host memory."""
        return x.get() if isinstance(x, DeviceArray) else np.asarray(x)


HOST = _Host()
