"""Layers that take every path of a convolution, and every form of its input gradient."""

from collections.abc import Callable
from typing import NamedTuple

import pytest


class Path(NamedTuple):
    """x: (N, H, W, C), w: (O, kH, kW, C). Channels are multiples of 6, so that maxout's 2 and 3 pieces fit.

    Half of 132, rounded to multiples of 16, is no multiple of 3: there a careless share would split a group of pieces.
    """

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: int


FORWARD_PATHS = {
    "windows": Path((5, 7, 6, 4), (12, 3, 2, 4), 2),
    "dense, channels shared out": Path((5, 3, 2, 4), (132, 3, 2, 4), 1),
    "dense, too few channels to share": Path((5, 3, 2, 4), (6, 3, 2, 4), 1),
    "pixels": Path((5, 4, 3, 7), (6, 1, 1, 7), 1),
}
GRADIENT_PATHS = {
    "gather": Path((5, 9, 8, 6), (4, 4, 3, 6), 2),
    "scatter": Path((3, 7, 6, 66), (4, 3, 2, 66), 2),
    "expand": Path((5, 4, 3, 6), (7, 4, 3, 6), 1),
    "dense": Path((5, 1, 1, 132), (7, 1, 1, 132), 1),
    "pixels": Path((3, 4, 3, 66), (5, 1, 1, 66), 1),
}
every_forward_path = pytest.mark.parametrize("path", FORWARD_PATHS.values(), ids=FORWARD_PATHS.keys())


def every_gradient_path(test: Callable) -> Callable:
    forms = {name: "gather" if name == "gather" else "scatter" for name in GRADIENT_PATHS}
    ways = [pytest.param(path, forms[name], id=name) for name, path in GRADIENT_PATHS.items()]
    test = pytest.mark.parametrize(("path", "input_grad_form"), ways, indirect=["input_grad_form"])(test)
    return pytest.mark.usefixtures("input_grad_form")(test)
