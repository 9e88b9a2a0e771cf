"""How products are cut: a tile gives every thread at least 16 bytes of each operand to bring."""

from collections.abc import Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from alikit.kernels import aot, device, plan, tiles
from alikit.kernels.gpu.conv_products import weight_product, window_products
from alikit.kernels.gpu.conv_shapes import Tile
from alikit.kernels.launch import use

#: image, kernel, channels, outputs, stride: the ends of the models' tables, where one operand is narrow
LAYERS = [
    (1, 1, 1, 1024, 1),
    (1, 1, 1024, 1, 1),
    (1, 1, 2, 400, 1),
    (1, 1, 512, 512, 1),
    (4, 4, 256, 512, 1),
    (32, 1, 32, 3, 1),
    (32, 5, 3, 32, 1),
    (28, 4, 32, 64, 2),
]
PRECISIONS = {"bf16": 2, "tf32": 4, "fp32": 4}


def too_narrow(tile: Tile, warps: int, size: int) -> bool:
    """Whether a thread has less than 16 bytes of an operand."""
    return min(tile.BM, tile.BN) * tile.BK * size < 16 * 32 * warps


def cuts(layer: tuple[int, ...], precision: str, arch: int, images: int = 100) -> Iterator[tuple[Tile, int]]:
    """Tiles and warps of a layer: forward, backward (both of a launch), weight gradient alone."""
    size, kernel, channels, outputs, stride = layer
    out = (size - kernel) // stride + 1
    with use("plan", arch):
        dtype = ml_dtypes.bfloat16 if precision == "bf16" else np.float32
        x = device.empty_activation((images, size, size, channels), dtype)
        y = device.empty_activation((images, out, out, outputs), dtype)
        w = device.empty_activation((outputs, kernel, kernel, channels), dtype)
        forward = tiles.window(window_products("f", x, w, y, stride, False, 1, precision), images, arch)
        back = tiles.window(window_products("b", y, w, x, stride, True, 1, precision), images, arch, 4)
        product = weight_product("w", x, y, (kernel, kernel), stride, precision)
        yield forward.tile, forward.tile.warps
        yield back.tile, back.tile.warps
        yield tiles.weight(product, images, arch, back.tile.warps).tile, back.tile.warps
        alone = tiles.weight(product, images, arch)
        yield alone.tile, alone.tile.warps
        assert back.tile.warps >= 4


@pytest.mark.parametrize("arch", aot.ARCHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_thread_has_16_bytes_of_each_operand(precision: str, arch: int) -> None:
    for layer in LAYERS:
        for tile, warps in cuts(layer, precision, arch):
            assert not too_narrow(tile, warps, PRECISIONS[precision]), (layer, tile, warps)
            assert tile.warps <= warps
            assert arch != 90 or precision == "fp32" or warps % 4 == 0, "Hopper's instructions are of four warps"


def test_a_tile_that_is_too_narrow_is_told() -> None:
    good = Tile(64, 16, 32, warps=2)
    assert not too_narrow(good, good.warps, 2)
    assert too_narrow(replace(good, warps=4), 4, 2)
    assert not too_narrow(replace(good, warps=4), 4, 4)


def test_every_planned_product_has_16_bytes_a_thread() -> None:
    for step, launches in plan.loads(plan.FILE.read_text()).items():
        for launch in launches:
            for name, product in launch.constants:
                if name in ("G", "WG") and launch.name.startswith("conv"):
                    assert not too_narrow(product.tile, launch.warps, PRECISIONS[product.dot]), (step, launch)


def test_a_planned_bias_behind_a_single_step_meets_halves_of_the_tile() -> None:
    """Of a whole tile Triton would make sums that begin with the bias, brought through shared memory."""
    seen = 0
    for launches in plan.loads(plan.FILE.read_text()).values():
        for constants in (dict(launch.constants) for launch in launches if launch.name == "conv_window"):
            if constants["E"].bias and constants["G"].steps == 1:
                seen += 1
                assert constants["G"].chunk < constants["G"].BN
    assert seen > 0
