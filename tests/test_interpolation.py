"""Paths between codes: straight lines, and arcs that keep their length."""

import numpy as np
import pytest

from alikit.inference import between


def test_a_straight_line_between_codes(stream) -> None:
    a, b = stream("a").normal(size=(2, 4)), stream("b").normal(size=(2, 4))
    path = between(a, b, 5)
    assert path.shape == (2, 5, 4)
    for k, t in enumerate((0, 0.25, 0.5, 0.75, 1)):
        np.testing.assert_allclose(path[:, k], (1 - t) * a + t * b, rtol=1e-6)


def test_an_arc_between_codes_turns_evenly_and_keeps_their_length(stream) -> None:
    a, b = stream("a").normal(size=(3, 6)), stream("b").normal(size=(3, 6))
    b *= np.linalg.norm(a, axis=1, keepdims=True) / np.linalg.norm(b, axis=1, keepdims=True)
    path = between(a, b, 7, "spherical")
    np.testing.assert_allclose(path[:, 0], a, rtol=1e-6)
    np.testing.assert_allclose(path[:, -1], b, rtol=1e-5)
    lengths = np.linalg.norm(path, axis=2)
    np.testing.assert_allclose(lengths, np.repeat(lengths[:, :1], 7, axis=1), rtol=1e-5)
    cosines = (path[:, 1:] * path[:, :-1]).sum(axis=2) / lengths[:, :1] ** 2
    np.testing.assert_allclose(cosines, np.repeat(cosines[:, :1], 6, axis=1), rtol=1e-5)
    line = np.linalg.norm(between(a, b, 7), axis=2)
    assert (line[:, 3] < lengths[:, 3]).all()


def test_an_arc_of_no_angle_is_a_line() -> None:
    a = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    b = np.array([[2.0, 4.0], [-1.0, -2.0], [1.0, 0.0]])
    arc = between(a, b, 3, "spherical")
    np.testing.assert_allclose(arc[:2], between(a, b, 3)[:2], atol=1e-6)
    assert np.isfinite(arc).all()


@pytest.mark.parametrize(("steps", "path"), [(1, "linear"), (3, "round")])
def test_no_such_path(steps: int, path: str) -> None:
    with pytest.raises(ValueError, match="between: "):
        between(np.zeros((1, 2)), np.zeros((1, 2)), steps, path)
