"""Walks over layers that leave their products to the batch norm behind them, whatever is asked of the walk.

Held against layers that leave nothing, and norms through which no convolution passes its gradient. The numbers
themselves are held in tests/kernels/test_joined.py.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad
from alikit.autograd.stack import stack_grad
from alikit.kernels.cpu import parallel
from alikit.kernels.cpu.joined import Product
from alikit.ops import Counters, Dropout
from alikit.ops.norm import BatchNormLeakyReLU

ROWS = 20
every_dropout = pytest.mark.parametrize("dropout", [None, Dropout(0.3, Counters(1, 2, 3))], ids=["plain", "dropout"])
every_kind = pytest.mark.parametrize("partials", [False, True], ids=["whole", "partials"])


class Run(NamedTuple):
    """What a network gave: its output, and what is between its layers."""

    out: Tensor
    between: list[Tensor]


class Network:
    """Two dense layers with batch norm, dropout of the first one's; then so many without that take the second's."""

    def __init__(self, draw: Callable[..., Tensor], dropout: Dropout | None, partials: bool, users: int = 1):
        self.x, self.weights = draw(ROWS, 9), [draw(48, 9), draw(64, 48), *[draw(3, 64) for _ in range(users)]]
        self.vectors = [(draw(48), draw(48)), (draw(64), draw(64))]
        self.dropout, self.partials = dropout, partials

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.vectors[0], *self.vectors[1]]

    def run(self, deferred: bool) -> Run:
        x, between = self.x, []
        for w, vectors, dropout in zip(self.weights, self.vectors, (self.dropout, None), strict=False):
            y, moments = ops.conv2d(x, w, moments=True, deferred=deferred, partials=self.partials)
            assert isinstance(moments, Product) == deferred
            x, *_ = ops.batch_norm_leaky_relu(y, *vectors, eps=1e-4, slope=0.1, moments=moments, dropout=dropout)
            between += [y, x]
        outs = [ops.conv2d(x, w, partials=self.partials)[0] for w in self.weights[2:]]
        return Run(sum(outs[1:], outs[0]), between)


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All work is shared, however little, and the other thread slow with what is left to it."""
    before, leave = parallel.threads(), parallel._Pool.leave
    monkeypatch.setattr(parallel, "SMALL", 0)
    monkeypatch.setattr(parallel._Pool, "leave", lambda pool, job: leave(pool, lambda: (time.sleep(0.005), job())))
    parallel.resize_pool(request.param)
    yield
    parallel.resize_pool(before)


@pytest.fixture
def network(stream: Callable) -> Callable[..., Network]:
    rng = stream("numbers")

    def draw(*shape: int) -> Tensor:
        """A vector, or 1x1 images."""
        whole = shape if len(shape) == 1 else (shape[0], 1, 1, shape[1])
        return Tensor(rng.standard_normal(whole) / 2, requires_grad=True)

    return lambda *arguments, **options: Network(draw, *arguments, **options)


@pytest.fixture
def same(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """same(network, walks): what `walks` makes of a run that leaves its products, the same as of one that does not."""

    def check(network: Network, walks: Callable[[Run], list[Any]]) -> list[Any]:
        found = walks(network.run(deferred=True))
        with monkeypatch.context() as plain:
            plain.setattr(BatchNormLeakyReLU, "fold", lambda _: None)
            wanted = walks(network.run(deferred=False))
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * max(1, np.abs(other).max()))
        return found

    return check


@every_dropout
@every_kind
@pytest.mark.parametrize("users", [1, 2])
def test_walk_after_walk(
    network: Callable, same: Callable, stream: Callable, dropout: Dropout | None, partials: bool, users: int
) -> None:
    """Towards what is between the layers as well, whose gradients then are whole; towards leaves alone, twice."""
    net, gy = network(dropout, partials, users=users), stream("gy").standard_normal((ROWS, 1, 1, 3))
    leaves = [net.x, *net.parameters]

    def walks(run: Run) -> list[np.ndarray]:
        def walk(wrt: list[Tensor], retain: bool = True) -> list[np.ndarray]:
            return grad([run.out], [wrt], gys=[gy], retain=retain)[0]

        both, first, second = walk([*leaves, *run.between]), walk(leaves), walk(leaves, retain=False)
        assert [a.tobytes() for a in first] == [a.tobytes() for a in second]
        return [run.out.data, *[t.data for t in run.between], *both, *first]

    found = same(net, walks)
    count = len(leaves)
    for one, other in zip(found[5 : 5 + count], found[-count:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@every_dropout
@every_kind
def test_two_cotangents_at_once(
    network: Callable, same: Callable, stream: Callable, dropout: Dropout | None, partials: bool
) -> None:
    """Parameters have the first one's gradient, the input the last one's: as two walks give them."""
    net, gys = network(dropout, partials), stream("gys").standard_normal((2, ROWS, 1, 1, 3))

    def stacked(run: Run) -> list[np.ndarray]:
        of_parameters, of_inputs = stack_grad(run.out, gys, net.parameters, [net.x])
        parallel.settle()
        return [*of_parameters, *of_inputs]

    found, run = same(net, stacked), net.run(deferred=False)
    both = grad([run.out] * 2, [net.parameters, [net.x]], gys=list(gys))
    for one, other in zip(found, [*both[0], *both[1]], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
