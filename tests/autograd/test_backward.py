"""The reverse walk: right sums over all paths, nothing computed that nobody asked for, clear errors."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Function, Tensor, added, grad


def leaf(value: float = 1.0) -> Tensor:
    return Tensor(np.full(2, value), requires_grad=True)


class Split(Function):
    """x -> 2 x, 3 x, 5 x. Remembers what backward was given."""

    given: Any = None

    def forward(self, x: Any) -> Any:
        return 2 * x, 3 * x, 5 * x

    def backward(self, *gys: Any) -> Any:
        type(self).given = gys
        return sum(c * g for c, g in zip((2, 3, 5), gys, strict=True) if g is not None)


def test_a_diamond_adds_both_paths(graph: Callable) -> None:
    x = leaf()
    a, b = graph("a", (x, 2.0)), graph("b", (x, 3.0))
    y = graph("y", (a, 5.0), (b, 7.0))
    ((gx, ga),) = grad([y], [[x, a]])
    np.testing.assert_array_equal(gx, 2 * 5 + 3 * 7)
    np.testing.assert_array_equal(ga, 5)
    assert graph.ran().count("y") == graph.ran().count("a") == graph.ran().count("b") == 1


def test_a_tensor_used_twice_by_one_function(graph: Callable) -> None:
    x = leaf()
    ((gx,),) = grad([graph("y", (x, 2.0), (x, 3.0))], [[x]])
    np.testing.assert_array_equal(gx, 5)


def test_a_gradient_that_two_inputs_share_is_not_added_to_in_place() -> None:
    """Both inputs of the sum are handed the same array; x then gets more from another path, z must not."""

    class Sum(Function):
        def forward(self, x: Any, z: Any) -> Any:
            return x + z

        def backward(self, gy: Any) -> Any:
            return gy, gy

    x, z = leaf(), leaf()
    gy = np.array([3.0, 4.0])
    ((gx, gz),) = grad([Sum()(Sum()(x, z), x)], [[x, z]], gys=[gy])
    np.testing.assert_array_equal(gx, [6, 8])
    np.testing.assert_array_equal(gz, [3, 4])
    np.testing.assert_array_equal(gy, [3, 4])


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_sum_over_all_paths(seed: int, graph: Callable) -> None:
    """Node i is a weighted sum of some earlier ones: its derivatives follow by the chain rule, forwards."""
    rng = np.random.default_rng(seed)
    nodes = [leaf() for _ in range(3)]
    derivatives = [list(row) for row in np.eye(3, 23)]  # of node i with respect to node j
    for i in range(3, 23):
        inputs = rng.integers(0, i, rng.integers(1, 4))
        coefficients = rng.uniform(0.5, 1.5, len(inputs)) * rng.choice([-1, 1], len(inputs))
        nodes.append(graph(str(i), *((nodes[j], c) for j, c in zip(inputs, coefficients, strict=True))))
        row = sum(c * np.array(derivatives[j]) for j, c in zip(inputs, coefficients, strict=True))
        row[i] = 1
        derivatives.append(list(row))
    gy = rng.standard_normal(2)
    (found,) = grad([nodes[-1]], [nodes], gys=[gy])
    for g, derivative in zip(found, derivatives[-1], strict=True):
        np.testing.assert_allclose(0 if g is None else g, derivative * gy, rtol=1e-12, atol=1e-12)
    assert len(set(graph.ran())) == len(graph.ran())  # nobody runs twice


def test_outputs_that_nobody_used_have_no_gradient(graph: Callable) -> None:
    x = leaf()
    _, second, third = Split()(x)
    y = graph("y", (second, 7.0), (third, 11.0))
    ((gx, g_second, g_third),) = grad([y], [[x, second, third]])
    assert Split.given[0] is None
    np.testing.assert_array_equal(Split.given[1:], [[7, 7], [11, 11]])
    np.testing.assert_array_equal(gx, 3 * 7 + 5 * 11)
    np.testing.assert_array_equal([g_second, g_third], [[7, 7], [11, 11]])


def game(graph: Callable) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The shape of the real thing: noise -> generator -> discriminator -> two losses."""
    leaves = {"w_g": leaf(), "w_d": leaf()}
    noise = Tensor(np.ones(2))
    fake = graph("generator", (noise, 2.0), (leaves["w_g"], 3.0))
    real = graph("real", (noise, 1.0), (leaves["w_d"], 4.0))
    logit = graph("discriminator", (fake, 5.0), (leaves["w_d"], 7.0))
    loss_d = graph("loss_d", (logit, 11.0), (real, 1.0))
    loss_g = graph("loss_g", (logit, -13.0))
    return {**leaves, "noise": noise}, loss_d, loss_g


def test_several_losses_on_one_graph_each_compute_only_what_was_asked(graph: Callable) -> None:
    leaves, loss_d, loss_g = game(graph)
    (g_d,), (g_g,) = grad([loss_d, loss_g], [[leaves["w_d"]], [leaves["w_g"]]])
    np.testing.assert_array_equal(g_d, 11 * 7 + 4)
    np.testing.assert_array_equal(g_g, -13 * 5 * 3)
    assert sorted(graph.log[:3]) == [
        ("discriminator", (False, True)),  # not towards the generator
        ("loss_d", (True, True)),
        ("real", (False, True)),
    ]
    assert graph.log[3:] == [
        ("loss_g", (True,)),
        ("discriminator", (True, False)),  # not towards its own weights
        ("generator", (False, True)),  # not towards the noise
    ]


def test_gradients_that_do_not_exist_are_none(graph: Callable) -> None:
    leaves, loss_d, loss_g = game(graph)
    stranger, constant = leaf(), Tensor(np.ones(2))
    rows = grad([loss_g, loss_d], [[leaves["noise"], stranger, constant], [loss_g]])
    assert rows == [[None, None, None], [None]]
    assert graph.log == []


def test_the_upstream_gradient_is_ones_unless_given(graph: Callable) -> None:
    x = leaf()
    y = graph("y", (x, 2.0))
    np.testing.assert_array_equal(grad([y], [[x]], retain=True)[0][0], [2, 2])
    gy = np.array([3.0, -4.0])
    ((gx, gyy),) = grad([y], [[x, y]], gys=[gy])
    np.testing.assert_array_equal(gx, 2 * gy)
    np.testing.assert_array_equal(gyy, gy)


def test_backward_adds_to_grad_of_the_leaves_only(graph: Callable) -> None:
    x, z = leaf(), leaf()
    for factor in (2.0, 3.0):
        y = graph("y", (x, factor), (z, 1.0))
        graph("loss", (y, 1.0)).backward(np.array([1.0, 10.0]))
        assert y.grad is None
    np.testing.assert_array_equal(x.grad, [5, 50])
    np.testing.assert_array_equal(z.grad, [2, 20])


def test_a_walked_graph_is_released_unless_retained(graph: Callable) -> None:
    x = leaf()
    y = graph("y", (x, 2.0))
    loss = graph("loss", (y, 3.0))
    for _ in range(2):
        np.testing.assert_array_equal(grad([loss], [[x]], retain=True)[0][0], 6)
    grad([loss], [[x]])
    for again in (loss, y):
        with pytest.raises(ValueError, match="released by an earlier walk; pass retain=True"):
            grad([again], [[x]])
    with pytest.raises(ValueError, match="released by an earlier walk"):
        graph("more", (y, 1.0)).backward()


def test_every_loss_releases_its_part(graph: Callable) -> None:
    """The graph of the first loss goes with the last walk, though that does not pass it."""
    x = leaf()
    first, second = graph("first", (x, 2.0)), graph("second", (x, 3.0))
    grad([first, second], [[x], [x]])
    for loss in (first, second):
        with pytest.raises(ValueError, match="released"):
            grad([loss], [[x]])


def test_needs_are_as_before_on_a_retained_graph(graph: Callable) -> None:
    x, z = leaf(), leaf()
    y = graph("y", (x, 2.0), (z, 3.0))
    for wanted in ([x], [z], [x, z]):
        assert [g[0] for g in grad([y], [wanted], retain=True)[0]] == [{id(x): 2, id(z): 3}[id(t)] for t in wanted]
        assert y.creator.needs == (True, True)
    assert [needs for _, needs in graph.log] == [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize("length", [10_000])
def test_a_deep_chain_needs_no_deep_stack(length: int, graph: Callable) -> None:
    assert length > sys.getrecursionlimit()
    x = leaf()
    y = x
    for _ in range(length):
        y = graph("y", (y, 1.0), (x, 1.0))
    ((gx,),) = grad([y], [[x]])
    np.testing.assert_array_equal(gx, length + 1)
    for _ in range(length):  # and a chain that nobody walks falls apart without one
        x = graph("x", (x, 1.0))
    del x


def test_wrong_arguments_are_named(graph: Callable) -> None:
    x = leaf()
    y = graph("y", (x, 2.0))
    with pytest.raises(ValueError, match="grad: 1 losses but 2 lists of tensors"):
        grad([y], [[x], [x]])
    with pytest.raises(ValueError, match="grad: 1 losses but 2 upstream gradients"):
        grad([y], [[x]], gys=[np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=r"grad: upstream gradient has shape \(3,\), wanted \(2,\)"):
        grad([y], [[x]], gys=[np.ones(3)])
    with pytest.raises(ValueError, match="grad: the loss does not depend on any tensor that requires gradients"):
        Tensor(np.ones(2)).backward()
    grad([y], [[x]])  # none of the refusals has spent the graph


def test_a_backward_that_forgets_an_input_is_an_error() -> None:
    class Forgetful(Function):
        def forward(self, x: Any, z: Any) -> Any:
            return x + z

        def backward(self, gy: Any) -> Any:
            return gy

    x, z = leaf(), leaf()
    with pytest.raises(ValueError, match="argument"):
        grad([Forgetful()(x, z)], [[x, z]])


def test_partial_sums_of_different_numbers_are_added_by_standing_together() -> None:
    a, b, c = np.ones((2, 3, 1, 1, 4)), np.full((5, 3, 1, 1, 4), 2.0), np.full((2, 3, 1, 1, 4), 3.0)
    assert added(a, b).shape == (7, 3, 1, 1, 4)
    np.testing.assert_array_equal(added(a, b).sum(axis=0), np.full((3, 1, 1, 4), 12.0))
    np.testing.assert_array_equal(added(a, c), np.full(a.shape, 4.0))


def test_every_leaf_has_a_gradient_of_its_own() -> None:
    """It may be clipped in place."""
    a, b, gy = leaf(), leaf(), np.full(2, 4.0)
    (a + b).backward(gy)
    a.grad *= 0.5
    np.testing.assert_array_equal(b.grad, [4, 4])
    np.testing.assert_array_equal(gy, [4, 4])
