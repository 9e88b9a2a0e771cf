"""The device that is not there: arrays in host memory which must not be mixed with NumPy's own, as CuPy's must not.

What would be a launch or a copy on a GPU beside our own kernels is told to `observers`: a step is to have none of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: lists that receive the names of NumPy's functions as they run on DeviceArrays
observers: list[list[str]] = []

#: functions that only look at memory in another way
FREE = frozenset(
    """empty empty_like reshape ravel transpose broadcast_to expand_dims squeeze moveaxis swapaxes split array_split
    ndim shape size result_type can_cast isscalar iscomplexobj shares_memory may_share_memory errstate dtype finfo
    iinfo""".split()  # noqa: SIM905
)


def observe(name: str) -> None:
    """Tells that a function runs."""
    for names in observers:
        names.append(name)


class DeviceArray(np.ndarray):
    """Memory of the interpreted and of the planned device. Arithmetic works as on a CuPy array: the other operand is a
    number or a DeviceArray, and `get` copies to the host."""

    def get(self) -> np.ndarray:
        """A copy in host memory."""
        observe("get")
        return np.array(_plain(self))

    def set(self, values: np.ndarray) -> None:
        """Copies from host memory."""
        observe("set")
        _plain(self)[...] = values

    @property
    def array_module(self) -> Any:
        """Functions that make and take arrays like this one."""
        return HOST

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        _refuse_host(ufunc.__name__, *inputs, *out)
        observe(ufunc.__name__)
        if out:
            options["out"] = _plain(out)
        result = getattr(ufunc, method)(*_plain(inputs), **options)
        return out[0] if len(out) == 1 else _device(result)

    def __getitem__(self, place: Any) -> Any:
        places = place if isinstance(place, tuple) else (place,)
        if any(isinstance(item, np.ndarray | list) for item in places):
            observe("getitem")
        found = _plain(self)[_plain(place)]
        return _device(_plain(self)[(*places, ...)] if isinstance(found, np.generic) else found)

    def __setitem__(self, place: Any, value: Any) -> None:
        _refuse_host("assignment", value)
        observe("assignment")
        _plain(self)[_plain(place)] = _plain(value)

    def astype(self, *args: Any, **options: Any) -> Any:
        """As NumPy's; nothing runs where the array has that type and no copy is asked for."""
        found = _plain(self).astype(*args, **options)
        if not np.shares_memory(found, self):
            observe("astype")
        return _device(found)

    def copy(self, *args: Any, **options: Any) -> Any:
        """As NumPy's."""
        observe("copy")
        return _device(_plain(self).copy(*args, **options))

    def item(self, *args: Any) -> Any:
        """As NumPy's: waits for the device."""
        observe("get")
        return _plain(self).item(*args)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())


def _refuse_host(name: str, *values: Any) -> None:
    for value in values:
        if type(value) is np.ndarray and value.ndim:
            raise TypeError(f"{name}: an array of the device with one in host memory")


def _plain(value: Any) -> Any:
    """The same memory as NumPy's own array, within lists and tuples too."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _device(value: Any) -> Any:
    """The same memory as a DeviceArray, within lists and tuples too; of a number, an array without axes."""
    if isinstance(value, np.generic):
        return np.asarray(value).view(DeviceArray)
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
            if name not in FREE:
                observe(name)
            args, options = _plain(args), {key: _plain(value) for key, value in options.items()}
            return _device(function(*args, **options))

        return call

    def asarray(self, x: Any, dtype: Any = None) -> DeviceArray:
        """A DeviceArray as it is; anything else is copied to the device."""
        if isinstance(x, DeviceArray) and (dtype is None or x.dtype == dtype):
            return x
        observe("asarray")
        return np.array(_plain(x), dtype).view(DeviceArray)

    def ascontiguousarray(self, x: Any, dtype: Any = None) -> DeviceArray:
        """x itself where it is contiguous and of that type."""
        if isinstance(x, DeviceArray) and x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
            return x
        observe("ascontiguousarray")
        return np.ascontiguousarray(_plain(x), dtype).view(DeviceArray)

    def asnumpy(self, x: Any) -> np.ndarray:
        """As CuPy's: a copy in host memory."""
        return x.get() if isinstance(x, DeviceArray) else np.asarray(x)


HOST = _Host()
