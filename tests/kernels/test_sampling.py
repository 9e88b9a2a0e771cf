"""Random bits against Philox written out from its definition; normals by their distribution; the Gaussian sample."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from alikit.kernels.arrays import Counters, Dropout
from alikit.kernels.cpu.masks import keep_mask
from alikit.kernels.cpu.sampling import (
    gaussian_sample,
    gaussian_sample_grad,
    normal,
    random_uint16,
    random_words,
)

MASK = 2**64 - 1
# Salmon, Moraes, Dror and Shaw 2011, table 2 and section 3.3: multipliers, and the Weyl steps of the key
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x64-10: one block of four words."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = divmod(MULTIPLIERS[0] * c0, 2**64)
        high1, low1 = divmod(MULTIPLIERS[1] * c2, 2**64)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def words(counters: Counters, start: int, count: int) -> list[int]:
    blocks = range(start // 4, (start + count) // 4 + 1)
    seed, step, stream = map(int, counters)
    stretch = [w for b in blocks for w in philox((b, 0, step, stream), (seed, 0))]
    return stretch[start % 4 : start % 4 + count]


# known answers that the authors of Philox publish with their library Random123
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    ((MASK,) * 4, (MASK,) * 2, (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]
STREAMS = [
    Counters(seed=0, step=0, stream=0),  # whose counter borrows from all four words
    Counters(seed=1, step=2, stream=3),
    Counters(seed=2**63 + 5, step=10**6, stream=2**40),
    Counters(seed=2**64 - 1, step=2**64 - 1, stream=2**64 - 1),
    Counters(*np.array([1, 2, 3])),  # whose numbers would not grow beyond 64 bits
]


def test_a_clock_is_read_as_it_stands() -> None:
    """Seed and step come from it, whatever the record says; a mask that was drawn at another step is drawn anew."""
    clock = np.array([1, 2, 0], np.int64)
    for step in (2, 3):
        clock[1] = step
        told, read = Counters(1, step, 3), Counters(7, clock, 3)
        assert read.read() == told
        assert random_words(read, 4, 6).tolist() == random_words(told, 4, 6).tolist()
        masks = [keep_mask(Dropout(0.5, counters), 100) for counters in (read, told)]
        np.testing.assert_array_equal(*masks)
        np.testing.assert_array_equal(masks[0], random_uint16(told, 0, 100) >= 32768)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_written_out_philox_gives_the_known_answers(counter: tuple, key: tuple, answer: tuple) -> None:
    assert philox(counter, key) == answer


@pytest.mark.parametrize("start", [0, 4, 8, 1000, 2**40])
@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("counters", STREAMS, ids=str)
def test_words_are_philox(counters: Counters, start: int, count: int) -> None:
    assert random_words(counters, start, count).tolist() == words(counters, start, count)


@pytest.mark.parametrize(("start", "count"), [(0, 5), (3, 30), (16, 16), (31, 2), (1000, 1)])
def test_lanes_are_quarters_of_words_lowest_first(start: int, count: int) -> None:
    lanes = [w >> shift & 0xFFFF for w in words(STREAMS[1], 0, 300) for shift in (0, 16, 32, 48)]
    assert random_uint16(STREAMS[1], start, count).tolist() == lanes[start : start + count]


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 1, 1, 4), (0, 3)])
def test_normals_are_box_muller_pairs_of_the_words(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    pairs = []
    for word in words(STREAMS[1], 0, size):
        u1, u2 = ((word & 0xFFFFFFFF) // 256 + 0.5) / 2**24, (word >> 32) / 2**32
        radius = math.sqrt(-2 * math.log(u1))
        pairs += [radius * math.cos(2 * math.pi * u2), radius * math.sin(2 * math.pi * u2)]
    found = normal(shape, STREAMS[1], np.float64)
    assert found.shape == shape
    np.testing.assert_allclose(found.reshape(-1), pairs[:size], rtol=1e-13, atol=1e-13)


def test_both_dtypes_hold_the_same_numbers_and_a_longer_draw_continues_a_shorter_one() -> None:
    exact = normal((1001,), STREAMS[1], np.float64)
    single = normal((7, 11), STREAMS[1])
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single.reshape(-1), exact[:77].astype(np.float32))


def test_distribution_of_normals() -> None:
    from scipy import stats

    size = 200_000
    eps = normal((size,), Counters(seed=11, step=0, stream=1), np.float64)
    for k, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(eps**k) - moment) < 4 * math.sqrt(variance / size), k
    assert stats.kstest(eps, "norm").pvalue > 0.01
    assert stats.kstest(eps[::2], "norm").pvalue > 0.01
    assert stats.kstest(eps[1::2], "norm").pvalue > 0.01
    for power in (1, 2):  # the two halves of a pair share their radius and must not show it
        assert abs(np.corrcoef(eps[::2] ** power, eps[1::2] ** power)[0, 1]) < 4 / math.sqrt(size / 2)
    assert 4 < np.abs(eps).max() < math.sqrt(2 * math.log(2**25))


def test_streams_are_independent() -> None:
    size, base = 100_000, Counters(seed=1, step=2, stream=3)
    first = normal((size,), base, np.float64)
    for other in (base._replace(seed=2), base._replace(step=3), base._replace(stream=2), Counters(3, 2, 1)):
        assert abs(np.corrcoef(first, normal((size,), other, np.float64))[0, 1]) < 4 / math.sqrt(size)
    np.testing.assert_array_equal(first, normal((size,), base, np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 6), (3, 1, 1, 10), (2,)])
def test_gaussian_sample_is_its_formula(shape: tuple[int, ...], dtype: type, stream: Callable) -> None:
    params = stream("params").standard_normal(shape).astype(dtype)
    half = shape[-1] // 2
    eps = normal((*shape[:-1], half), STREAMS[1], dtype)
    z = gaussian_sample(params, STREAMS[1])
    assert z.dtype == dtype
    np.testing.assert_allclose(z, params[..., :half] + np.exp(params[..., half:]) * eps, rtol=4 * np.finfo(dtype).eps)


def test_gaussian_sample_gradient_agrees_with_differences(stream: Callable, slope_along: Callable) -> None:
    params, gz = stream("params").standard_normal((7, 10)), stream("gz").standard_normal((7, 5))
    direction = stream("d").standard_normal(params.shape)
    g = gaussian_sample_grad(gz, params, STREAMS[1])
    numeric = slope_along(lambda moved: np.vdot(gaussian_sample(moved, STREAMS[1]), gz), params, direction)
    assert np.vdot(g, direction) == pytest.approx(numeric, rel=1e-7)
    np.testing.assert_array_equal(g[:, :5], gz)


def test_an_infinite_sigma_is_quiet_and_stays_visible() -> None:
    params = np.array([[0.0, 1.0, 1e4, 0.0]])
    z = gaussian_sample(params, STREAMS[1])
    assert np.isinf(z[0, 0])
    assert np.isfinite(z[0, 1])
    g = gaussian_sample_grad(np.array([[0.0, 1.0]]), params, STREAMS[1])
    assert not np.isfinite(g[0, 2])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"gaussian_sample: params \(4, 3\) must hold mu and log sigma"):
        gaussian_sample(np.ones((4, 3)), STREAMS[1])
    with pytest.raises(ValueError, match=r"gaussian_sample_grad: params \(4, 3\) must hold mu and log sigma"):
        gaussian_sample_grad(np.ones((4, 1)), np.ones((4, 3)), STREAMS[1])
    with pytest.raises(ValueError, match=r"gaussian_sample_grad: gz has shape \(1, 2\), wanted \(4, 2\)"):
        gaussian_sample_grad(np.ones((1, 2)), np.ones((4, 4)), STREAMS[1])
