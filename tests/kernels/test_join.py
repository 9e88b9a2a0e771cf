"""Arrays end to end: where each number goes, which of them are dropped, and that a gradient finds its way back."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu.activation import dropout as dropout_kernel
from alikit.kernels.cpu.join import join, join_grad

DROPOUT = Dropout(0.3, Counters(seed=2, step=7, stream=9))
SHAPES = {
    "batch": (0, [(2, 3, 5, 7), (4, 3, 5, 7), (1, 3, 5, 7)]),
    "channels": (-1, [(3, 2, 5, 7), (3, 2, 5, 1), (3, 2, 5, 4)]),
    "one part": (-1, [(3, 1, 1, 5)]),
    "vectors": (-1, [(3, 5), (3, 2)]),
}

every_shape = pytest.mark.parametrize(("axis", "shapes"), SHAPES.values(), ids=SHAPES.keys())
pytestmark = pytest.mark.usefixtures("splitting")


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[..., list[np.ndarray]]:
    return lambda shapes: [stream(str(i)).standard_normal(shape) for i, shape in enumerate(shapes)]


@every_shape
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["plain", "dropout"])
def test_end_to_end(axis: int, shapes: list, dropout: Dropout | None, draw: Callable) -> None:
    parts = draw(shapes)
    wanted = np.concatenate(parts, axis=axis)
    if dropout:
        wanted = dropout_kernel(wanted, dropout)
        assert (wanted == 0).any()
    np.testing.assert_array_equal(join(parts, axis=axis, dropout=dropout), wanted)


@pytest.mark.parametrize(
    ("axis", "shapes", "cotangents"),
    # along the batch the parts of several cotangents do not lie together
    [(*case, k) for case in SHAPES.values() for k in ((1, 2, 3) if case[0] == -1 else (1,))],
)
@pytest.mark.parametrize("dropout", [None, DROPOUT], ids=["plain", "dropout"])
def test_the_way_back_is_the_adjoint(
    axis: int, shapes: list, cotangents: int, dropout: Dropout | None, draw: Callable, stream: Callable
) -> None:
    """join is linear: <y, gy> = sum <part, its gradient>, for each cotangent by itself."""
    parts = draw(shapes)
    y = join(parts, axis=axis, dropout=dropout)
    gy = stream("gy").standard_normal((cotangents * len(y), *y.shape[1:]))
    needs = [True] * len(parts)
    options = {"axis": axis, "needs": needs, "rows": len(y), "dropout": dropout}
    found = join_grad(gy, [part.shape[axis] for part in parts], **options)
    assert [g.shape for g in found] == [(cotangents * len(p), *p.shape[1:]) for p in parts]
    for k, of_k in enumerate(np.split(gy, cotangents)):
        pieces = [np.split(g, cotangents)[k] for g in found]
        inner = sum(np.vdot(part, g) for part, g in zip(parts, pieces, strict=True))
        assert inner == pytest.approx(np.vdot(y, of_k), rel=1e-12, abs=1e-12)


@every_shape
def test_only_what_is_needed_is_returned(axis: int, shapes: list, draw: Callable) -> None:
    y = join(draw(shapes), axis=axis)
    for i in range(len(shapes)):
        found = join_grad(y, [s[axis] for s in shapes], axis=axis, needs=[j == i for j in range(len(shapes))])
        assert [g is not None for g in found] == [j == i for j in range(len(shapes))]
        np.testing.assert_array_equal(found[i], draw(shapes)[i])
        assert found[i].flags.c_contiguous


X = np.ones((4, 3))
ERRORS = {
    "axis": (lambda: join([X, X], axis=1), r"join: axis must be 0 \(the batch\) or -1 \(the channels\), found 1"),
    "parts": (lambda: join([X, X[:, :2]], axis=0), r"join: parts of shapes \(4, 3\), \(4, 2\) do not fit along axis 0"),
    "rate": (lambda: join([X], axis=0, dropout=Dropout(1.0, DROPOUT.counters)), "join: the dropout rate"),
    "sizes": (
        lambda: join_grad(X, [2, 2], axis=-1, needs=[True, True]),
        r"join_grad: gy \(4, 3\) is not made of parts of \(2, 2\) along axis -1",
    ),
    "rows": (
        lambda: join_grad(X, [1, 2], axis=-1, needs=[True, True], rows=3),
        "join_grad: the 4 rows of gy are no multiple of 3",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_arguments_are_named(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
