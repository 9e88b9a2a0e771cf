import numpy as np
import pytest

from alikit.metrics.agreement import agreement, chance_agreement


def test_the_share_of_equal_labels() -> None:
    assert agreement(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0])) == 0.75
    assert agreement(np.array([[1, 0], [1, 1]]), np.array([[1, 1], [1, 1]])) == 0.75


def test_chance_is_the_mean_over_all_other_rows(stream) -> None:
    a, b = stream("a").integers(0, 3, 9), stream("b").integers(0, 4, 9)
    pairs = [a[i] == b[j] for i in range(9) for j in range(9) if i != j]
    assert chance_agreement(a, b) == pytest.approx(np.mean(pairs), rel=1e-12)
    c, d = stream("c").integers(0, 2, (9, 5)), stream("d").integers(0, 2, (9, 5))
    shares = [(c[i] == d[j]).mean() for i in range(9) for j in range(9) if i != j]
    assert chance_agreement(c, d) == pytest.approx(np.mean(shares), rel=1e-12)


def test_bytes_do_not_wrap() -> None:
    labels = np.repeat(np.arange(2, dtype=np.uint8), 300)
    assert chance_agreement(labels, labels) == pytest.approx((2 * 300 * 299) / (600 * 599))


@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((1,), (1,)), ((2, 2, 2), (2, 2, 2))])
def test_wrong_shapes_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="agreement: labels are"):
        chance_agreement(np.zeros(a), np.zeros(b))
