"""One walk for two losses on independent rows, and stacks of which only some rows lead somewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck, row_grad
from alikit.ops import Activation, Counters, Dropout, _dispatch, conv

LEAKY = Activation("leaky_relu", 0.2)


def dropout(stream: int) -> Dropout:
    """A third of a tensor, by the numbers of a stream of its own."""
    return Dropout(0.3, Counters(seed=2, step=3, stream=stream))


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[..., Tensor]:
    """draw("w", 3, 5): a leaf with numbers of its own."""
    return lambda name, *shape: Tensor(stream(name).standard_normal(shape), requires_grad=True)


def discriminate(x: Tensor, z: Tensor, theta: list[Tensor]) -> Tensor:
    """A discriminator in small: a tower on x, a head on the tower and z; dropout, both biases, maxout."""
    w1, b1, w2, b2, w3 = theta
    h, _ = ops.conv2d(x, w1, b1, stride=2, activation=LEAKY, dropout=dropout(1))
    h, _ = ops.conv2d(h, w2, b2, activation=Activation("maxout", 2))
    return ops.conv2d(ops.join([h, z], axis=-1, dropout=dropout(2)), w3)[0]


@pytest.fixture
def game(draw: Callable) -> dict[str, Any]:
    """Data pairs (x, z^) and sample pairs (x~, z), stacked; x~ and z^ come from generators of one weight each."""
    theta = [draw("w1", 4, 3, 3, 2), draw("b1", 2, 2, 4), draw("w2", 6, 2, 2, 4), draw("b2", 6), draw("w3", 1, 1, 1, 8)]
    theta_g = [draw("wx", 1, 1, 1, 2), draw("wz", 1, 1, 1, 5)]
    x, z = Tensor(draw("x", 3, 5, 6, 2).data), Tensor(draw("z", 3, 1, 1, 5).data)
    x_tilde = Tensor(draw("noise", 3, 5, 6, 2).data) * theta_g[0]
    z_hat = Tensor(draw("code", 3, 1, 1, 5).data) * theta_g[1]
    logits = discriminate(ops.join([x, x_tilde], dropout=dropout(3)), ops.join([z_hat, z]), theta)
    return {"theta": theta, "theta_g": theta_g, "x_tilde": x_tilde, "z_hat": z_hat, "logits": logits}


def test_one_walk_gives_what_two_walks_give(game: dict[str, Any]) -> None:
    losses = ops.adversarial_losses(game["logits"])
    wanted = grad([losses.loss_d, losses.loss_g], [game["theta"], game["theta_g"]], retain=True)

    of_d, of_g = losses.glogits
    grads_d, units = row_grad(game["logits"], game["theta"], of_d, [game["x_tilde"], game["z_hat"]])
    upstream = [units[0] * of_g[3:], units[1] * of_g[:3]]
    for found, exact in zip(grads_d, wanted[0], strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-14)
    through = grad([game["x_tilde"], game["z_hat"]], [game["theta_g"][:1], game["theta_g"][1:]], gys=upstream)
    for (found,), exact in zip(through, wanted[1], strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-14)


def test_weights_of_any_size_serve(game: dict[str, Any]) -> None:
    """A row that one loss ignores (weight 0) and the other does not: no quotient of the two would tell."""
    weights = np.array([0.0, 1e-12, 1e6, -1.0, 2.0, 0.0]).reshape(6, 1, 1, 1)
    (wanted,) = grad([game["logits"]], [game["theta"]], gys=[weights], retain=True)
    found, _ = row_grad(game["logits"], game["theta"], weights, [])
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12 * np.abs(w).max())


def test_what_was_walked_is_released(game: dict[str, Any]) -> None:
    row_grad(game["logits"], game["theta"], np.full((6, 1, 1, 1), 7.0), [])
    with pytest.raises(ValueError, match="released by an earlier walk"):
        grad([game["logits"]], [game["theta"]])


def test_a_function_that_cannot_weigh_rows_says_so(draw: Callable) -> None:
    x, gamma, beta = draw("x", 4, 1, 1, 3), draw("gamma", 3), draw("beta", 3)
    y, _, _ = ops.batch_norm_leaky_relu(x, gamma, beta, eps=1e-4, slope=0.2)
    with pytest.raises(ValueError, match="row_grad: BatchNormLeakyReLU cannot weigh the rows"):
        row_grad(y, [gamma], np.ones((4, 1, 1, 3)), [])


@pytest.mark.parametrize("record", [None, dropout(4)], ids=["plain", "dropout"])
@pytest.mark.parametrize("used", [(1,), (0,), (1, 2), (0, 2)], ids=str)
def test_of_a_stack_only_the_rows_that_lead_somewhere_are_computed(
    used: tuple[int, ...], record: Dropout | None, draw: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (2, 3, 4)
    leaves = [draw(f"x{i}", n, 5, 5, 2) for i, n in enumerate(sizes)]
    parts = [leaf if i in used else leaf.detach() for i, leaf in enumerate(leaves)]
    w = draw("w", 4, 3, 3, 2)
    y, _ = ops.conv2d(ops.join(parts, dropout=record), w, activation=LEAKY)
    gy = draw("gy", *y.shape).data

    whole = Tensor(np.concatenate([leaf.data for leaf in leaves]), requires_grad=True)  # not a stack: all rows
    everything, _ = ops.conv2d(whole if record is None else ops.dropout(whole, *record), w, activation=LEAKY)
    wanted = np.split(grad([everything], [[whole]], gys=[gy])[0][0], np.cumsum(sizes)[:-1])
    rows = []

    def spying(name: str, x: Any) -> Any:
        def spy(gy: Any, *args: Any, **options: Any) -> Any:
            rows.append(len(gy))
            return _dispatch.kernel(name, x)(gy, *args, **options)

        return spy if name == "conv2d_input_grad" else _dispatch.kernel(name, x)

    monkeypatch.setattr(conv, "kernel", spying)
    asked = [leaves[i] for i in used]
    (found,) = grad([y], [asked], gys=[gy])
    for i, g in zip(used, found, strict=True):
        np.testing.assert_allclose(g, wanted[i], rtol=1e-12, atol=1e-13)
    assert rows == [sum(sizes[used[0] : used[-1] + 1])]


@pytest.mark.parametrize("record", [None, dropout(5)], ids=["plain", "dropout"])
@pytest.mark.parametrize("axis", [0, -1])
def test_gradcheck_through_a_stack_of_data_and_samples(axis: int, record: Dropout | None, draw: Callable) -> None:
    data, w = Tensor(draw("data", 2, 4, 4, 2).data), draw("w", 3, 2, 2, 2 if axis == 0 else 4).data
    gradcheck(lambda x, w: ops.conv2d(ops.join([data, x], axis, record), w)[0], [draw("x", 2, 4, 4, 2).data, w])


def test_a_stack_that_is_itself_wanted_has_all_its_rows(draw: Callable) -> None:
    data, x, w = Tensor(draw("data", 2, 4, 4, 2).data), draw("x", 2, 4, 4, 2), draw("w", 3, 2, 2, 2)
    stack = ops.join([data, x])
    y, _ = ops.conv2d(stack, w)
    ((g_stack, g_x),) = grad([y], [[stack, x]])
    assert np.all(g_stack != 0)
    np.testing.assert_array_equal(g_stack[2:], g_x)
