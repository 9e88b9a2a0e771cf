"""Tensor: an array, and where it came from.

A Tensor that a Function made knows its creator; the creator knows the creators of its inputs, never their arrays. So
an array lives as long as somebody holds its Tensor or a Function saved it for its backward, and no longer. Operators
(`+`, `*`, `@`, `[]`) are attached by `alikit.ops.operators`, in one list.
"""

from __future__ import annotations

import weakref
from typing import Any


class Leaf:
    """The creator of a Tensor that nobody computed: the end of the walk, where `backward` leaves a gradient."""

    __slots__ = ("tensor",)
    edges: tuple = ()
    outputs = 1

    def __init__(self, tensor: Tensor):
        self.tensor = weakref.ref(tensor)  # the Tensor holds its creator already: no cycle

    def fold(self) -> None:
        """Nothing: a leaf's gradient is the end."""


class Tensor:
    """An array in the graph.

    data           the array, of any shape; float32 or float64 where gradients are wanted
    requires_grad  whether gradients may be asked for; what is computed from such a Tensor requires them too
    grad           the array that `backward` accumulates, on leaves, or None
    creator        the Function that made it and `index` among its outputs, or a Leaf, or None without gradients

    TypeError where `data` is no array.
    """

    __slots__ = ("__weakref__", "creator", "data", "grad", "index")

    def __init__(self, data: Any, requires_grad: bool = False):
        if not hasattr(data, "dtype"):  # whose array it is does not matter: NumPy's, CuPy's
            raise TypeError(f"Tensor: an array is wanted, not {type(data).__name__}")
        self.data = data
        self.grad: Any = None
        self.index = 0
        self.creator: Any = Leaf(self) if requires_grad else None

    @property
    def requires_grad(self) -> bool:
        return self.creator is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    def __len__(self) -> int:
        return len(self.data)

    def item(self) -> float:
        """The number in a Tensor of one element."""
        return float(self.data.reshape(()))

    def detach(self) -> Tensor:
        """The same array without its history."""
        return Tensor(self.data)

    def backward(self, gy: Any = None) -> None:
        """Adds the gradient of this Tensor to `grad` of every leaf it depends on; see `alikit.autograd.backward`."""
        from alikit.autograd.backward import backward

        backward(self, gy)

    def __repr__(self) -> str:
        origin = "" if self.creator is None else f", {type(self.creator).__name__}"
        return f"Tensor(shape={self.shape}, dtype={self.dtype}{origin})"
