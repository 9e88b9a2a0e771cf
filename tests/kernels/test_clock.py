"""The end of a step: figures in the ring, the first number that was not finite, the clock."""

import numpy as np
import pytest

from alikit.kernels.cpu.clock import record_step


def state(step: int, ring: int = 3) -> dict[str, np.ndarray]:
    return {
        "out_clock": np.array([7, step, step + 2], np.int64),
        "out_ring": np.full((ring, 4), -1, np.float32),
        "out_bad": np.array([-1, -1], np.int64),
    }


def test_a_step_takes_its_row_of_the_ring_and_moves_the_clock() -> None:
    out = state(4)
    record_step(np.float32([1.5, 2.5]), [np.array([9.0, 16.0]), np.array([4.0])], **out)
    np.testing.assert_array_equal(out["out_ring"], [[-1] * 4, [1.5, 2.5, 5.0, 2.0], [-1] * 4])
    np.testing.assert_array_equal(out["out_clock"], [7, 5, 7])
    np.testing.assert_array_equal(out["out_bad"], [-1, -1])


@pytest.mark.parametrize(
    ("figures", "squares", "place"),
    [
        ([np.nan, 1], [[1], [np.inf]], 0),
        ([1, np.inf], [[1], [1]], 1),
        ([1, 2], [[1, np.inf, np.nan], [1]], 3),
        ([1, 2], [[1, 2], [3, np.nan]], 5),
    ],
)
def test_the_first_number_that_is_not_finite_is_noted_once(figures: list, squares: list, place: int) -> None:
    out = state(4)
    record_step(np.float32(figures), [np.array(s, float) for s in squares], **out)
    np.testing.assert_array_equal(out["out_bad"], [4, place])
    record_step(np.float32([np.nan, 0]), [np.ones(1), np.ones(1)], **out)
    np.testing.assert_array_equal(out["out_bad"], [4, place])


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"out_ring has shape \(3, 4\), wanted \(R, 5\)"):
        record_step(np.ones(3, np.float32), [np.ones(1), np.ones(1)], **state(0))
    with pytest.raises(ValueError, match="one or two players"):
        record_step(np.ones(3, np.float32), [], **state(0))
