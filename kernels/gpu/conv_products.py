"""From arrays to the products of `conv_shapes.py`: sizes, pitches, precision, and the checks that go with them."""

from __future__ import annotations

from .. import device
from ..arrays import Array
from ..checks import check_precision
from ..launch import mode
from .conv_axes import Axis, adjoint_axis, forward_axis
from .conv_shapes import WeightProduct, Windows

UNROLL = (1, 2, 4)  # neighbouring pixels that may be computed together
#: precision -> what the product does; the interpreter knows no inline assembly and multiplies no bfloat16
DOTS = {"fp32": "fp32", "tf32": "tf32", "bf16": "bf16"}
INTERPRETED = {"fp32": "fp32", "tf32": "tf32-in-bits", "bf16": "fp32"}


def window_products(
    name: str, a: Array, w: Array, y: Array, stride: int, adjoint: bool, pieces: int, precision: str
) -> tuple[Windows, ...]:
    """The product that makes y of a, in each `unroll` that makes sense: a convolution, or where `adjoint` its input
    gradient."""
    kernel = w.shape[1:3]
    products = []
    for unroll in UNROLL:
        if unroll > 1 and (kernel[1] == 1 or y.shape[2] < 2 * unroll):
            break
        h, v = (
            _axis(a.shape[axis], y.shape[axis], kernel[axis - 1], stride, adjoint, unroll if axis == 2 else 1)
            for axis in (1, 2)
        )
        if v.unroll == unroll:
            products.append(
                Windows(
                    h=h,
                    w=v,
                    adjoint=adjoint,
                    depth=a.shape[3],
                    pitch=device.pitch(a),
                    channels=y.shape[3],
                    columns=device.padded(y.shape[3], y.dtype),
                    w_pitch=device.pitch(w),
                    pieces=pieces,
                    dot=_dot(name, precision),
                )
            )
    _check_size(name, a, y)
    return tuple(products)


def weight_product(
    name: str, big: Array, small: Array, kernel: tuple[int, ...], stride: int, precision: str
) -> WeightProduct:
    """The weight gradient of the convolution that takes `big` to `small`."""
    _check_size(name, big, small)
    return WeightProduct(
        in_h=big.shape[1],
        in_w=big.shape[2],
        C=big.shape[3],
        pitch=device.pitch(big),
        out_h=small.shape[1],
        out_w=small.shape[2],
        O=small.shape[3],
        gy_pitch=device.pitch(small),
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride=stride,
        dot=_dot(name, precision),
    )


def _axis(size: int, out: int, kernel: int, stride: int, adjoint: bool, unroll: int) -> Axis:
    if adjoint:
        return adjoint_axis(size, out, kernel, stride, unroll)
    return forward_axis(size, kernel, stride, unroll)


def _dot(name: str, precision: str) -> str:
    check_precision(name, precision, tuple(DOTS))
    return (INTERPRETED if mode() == "interpreted" else DOTS)[precision]


def _check_size(name: str, *arrays: Array) -> None:
    """Places in an array are counted in 32 bits."""
    for x in arrays:
        if x.size // max(1, x.shape[-1]) * device.pitch(x) >= 2**31:
            raise ValueError(f"{name}: an array {x.shape} of more than 2^31 numbers; take fewer images at once")
