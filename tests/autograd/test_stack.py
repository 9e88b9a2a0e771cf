"""One walk for two losses through batch norm, and gradients that pass through a norm in the kernel that makes them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Folded, Function, Rows, Tensor, grad, gradcheck, stack_grad
from alikit.ops import Activation, Counters, Dropout, _dispatch, conv, norm

LEAKY = Activation("leaky_relu", 0.2)
EPS = 1e-2


def dropout(stream: int) -> Dropout:
    """A third of a tensor, by the numbers of a stream of its own."""
    return Dropout(0.3, Counters(seed=2, step=3, stream=stream))


@pytest.fixture
def draw(stream: Callable[[str], np.random.Generator]) -> Callable[..., Tensor]:
    """draw("w", 3, 5): a leaf with numbers of its own."""
    return lambda name, *shape: Tensor(stream(name).standard_normal(shape), requires_grad=True)


THETA = {
    "w1": (4, 3, 3, 2),
    "b1": (2, 3, 4),
    "w2": (6, 1, 2, 4),
    "gamma": (6,),
    "beta": (6,),
    "w3": (6, 2, 2, 5),
    "gamma3": (5,),
    "beta3": (5,),
    "w4": (6, 3, 3, 5),
    "b4": (6,),
    "w5": (1, 1, 1, 8),
    "b5": (1,),
}


def normed(y: tuple[Tensor, Any], gamma: Tensor, beta: Tensor, record: Dropout | None) -> Tensor:
    options = {"eps": EPS, "slope": 0.2, "moments": y[1], "dropout": record}
    return ops.batch_norm_leaky_relu(y[0], gamma, beta, **options)[0]


def discriminate(x: Tensor, z: Tensor, theta: dict[str, Tensor]) -> Tensor:
    """A discriminator in small, with all that may happen in one: dropout behind every layer, norms between
    convolutions of both kinds, both biases, maxout; a head on the tower and z."""
    t = theta
    h, _ = ops.conv2d(x, t["w1"], t["b1"], stride=2, activation=LEAKY, dropout=dropout(1))
    h = normed(ops.conv2d(h, t["w2"], moments=True), t["gamma"], t["beta"], dropout(2))
    h = normed(ops.conv_transpose2d(h, t["w3"], moments=True), t["gamma3"], t["beta3"], dropout(3))
    h, _ = ops.conv2d(h, t["w4"], t["b4"], activation=Activation("maxout", 2), dropout=None)
    h = ops.join([h, ops.leaky_relu(ops.dropout(z, *dropout(4)), 0.5)], axis=-1, dropout=dropout(5))
    return ops.conv2d(h, t["w5"], t["b5"])[0]


@pytest.fixture
def game(draw: Callable) -> dict[str, Any]:
    """Data pairs (x, z^) and sample pairs (x~, z), stacked; x~ and z^ come from generators of one weight each."""
    theta = {name: draw(name, *shape) for name, shape in THETA.items()}
    theta_g = [draw("wx", 1, 1, 1, 2), draw("wz", 1, 1, 1, 5)]
    x, z = Tensor(draw("x", 3, 5, 7, 2).data), Tensor(draw("z", 3, 1, 1, 5).data)
    x_tilde = Tensor(draw("noise", 3, 5, 7, 2).data) * theta_g[0]
    z_hat = Tensor(draw("code", 3, 1, 1, 5).data) * theta_g[1]
    logits = discriminate(ops.join([x, x_tilde], dropout=dropout(6)), ops.join([z_hat, z]), theta)
    return {"theta": list(theta.values()), "theta_g": theta_g, "made": [x_tilde, z_hat], "logits": logits}


def test_one_walk_gives_what_two_walks_give(game: dict[str, Any]) -> None:
    losses = ops.adversarial_losses(game["logits"])
    wanted = grad([losses.loss_d, losses.loss_g], [game["theta"], game["theta_g"]], retain=True)
    found, upstream = stack_grad(game["logits"], losses.glogits, game["theta"], game["made"])
    assert [g.shape for g in upstream] == [x.shape for x in game["made"]]
    through = grad(game["made"], [game["theta_g"][:1], game["theta_g"][1:]], gys=upstream)
    for g, exact in zip([*found, *(g for (g,) in through)], [*wanted[0], *wanted[1]], strict=True):
        np.testing.assert_allclose(g, exact, rtol=1e-11, atol=1e-13)
        assert np.abs(exact).max() > 1e-6


def test_every_layer_is_walked_once_and_the_first_for_the_samples_alone(
    game: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the norms are passed through where their gradient is made: nothing of theirs is reduced again."""
    glogits = ops.adversarial_losses(game["logits"]).glogits
    seen: list[Any] = []
    backward = norm.BatchNormLeakyReLU.backward

    def watched(self: Any, gy: Any) -> Any:
        seen.append(gy)
        return backward(self, gy)

    monkeypatch.setattr(norm.BatchNormLeakyReLU, "backward", watched)
    rows: list[Any] = []

    def spying(name: str, x: Any) -> Any:
        assert name not in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"), "both gradients are wanted everywhere"
        fn = _dispatch.kernel(name, x)
        if name != "conv2d_backward":
            return fn
        return lambda *args, **options: rows.append(options["rows"]) or fn(*args, **options)

    monkeypatch.setattr(conv, "kernel", spying)
    stack_grad(game["logits"], glogits, game["theta"], game["made"])
    assert rows == [None, None, None, None, slice(9, 12)]
    assert [type(gy) for gy in seen] == [Folded, Folded]
    assert all(len(gy.g) == 12 and gy.sums.shape[0] == 2 for gy in seen)


def test_what_was_walked_is_released(game: dict[str, Any]) -> None:
    glogits = ops.adversarial_losses(game["logits"]).glogits
    stack_grad(game["logits"], glogits, game["theta"], game["made"])
    with pytest.raises(ValueError, match="released by an earlier walk"):
        grad([game["logits"]], [game["theta"]])
    grad(game["made"], [game["theta_g"]] * 2)  # what lies behind the inputs is not


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_cotangents(count: int, game: dict[str, Any], stream: Callable) -> None:
    gys = stream("gys").standard_normal((count, *game["logits"].shape))
    wanted = [grad([game["logits"]], [[*game["theta"], *game["made"]]], gys=[gy], retain=True)[0] for gy in gys]
    parameters, inputs = stack_grad(game["logits"], gys, game["theta"], game["made"])
    exact = [*wanted[0][: len(parameters)], *wanted[-1][len(parameters) :]]
    for g, e in zip([*parameters, *inputs], exact, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-12)


def test_an_input_that_is_no_part_of_a_stack(draw: Callable, stream: Callable) -> None:
    x, w, gamma, beta = draw("x", 4, 3, 3, 2), draw("w", 5, 2, 2, 2), draw("gamma", 5), draw("beta", 5)
    y = normed(ops.conv2d(x, w, moments=True), gamma, beta, None)
    gys = stream("gys").standard_normal((2, *y.shape))
    first = grad([y], [[w, gamma, beta]], gys=[gys[0]], retain=True)[0]
    second = grad([y], [[x]], gys=[gys[1]], retain=True)[0]
    found = stack_grad(y, gys, [w, gamma, beta], [x])
    for g, exact in zip([*found[0], *found[1]], [*first, *second], strict=True):
        np.testing.assert_allclose(g, exact, rtol=1e-11, atol=1e-13)


def test_a_function_for_one_cotangent_says_so(draw: Callable) -> None:
    x = draw("x", 4, 3)
    with pytest.raises(ValueError, match="stack_grad: Exp does not take several cotangents at once"):
        stack_grad(ops.exp(x), np.ones((2, 4, 3)), [], [x])
    moments = np.zeros(3), np.ones(3)
    y, _, _ = ops.batch_norm_leaky_relu(x, draw("g", 3), draw("b", 3), eps=EPS, slope=0.2, moments=moments, frozen=True)
    with pytest.raises(ValueError, match="stack_grad: BatchNormLeakyReLU does not take several"):
        stack_grad(y, np.ones((2, 4, 3)), [], [x])


def test_parameters_behind_a_stack_are_refused(draw: Callable) -> None:
    x, w = draw("x", 2, 3), draw("w", 3)
    y = ops.join([ops.leaky_relu(x, 0.1), Tensor(np.ones((2, 3)))])
    with pytest.raises(ValueError, match="stack_grad: behind a stack along the batch nothing but its parts"):
        stack_grad(ops.leaky_relu(y, 0.2), np.ones((2, 4, 3)), [x, w], [])


def test_wrong_upstream_gradients_are_named(draw: Callable) -> None:
    x = draw("x", 4, 3)
    with pytest.raises(ValueError, match=r"stack_grad: gys has shape \(2, 3, 3\), wanted \(K, 4, 3\)"):
        stack_grad(ops.leaky_relu(x, 0.2), np.ones((2, 3, 3)), [], [x])


def test_rows_add_up_with_rows_and_with_whole_gradients() -> None:
    whole = np.arange(12.0).reshape(6, 2)
    some = Rows(whole[2:4].copy(), 2)
    for total in (some + Rows(whole[2:4], 2), some + whole, whole + some):
        assert isinstance(total, Rows)
        assert total.start == 2
        np.testing.assert_array_equal(total.data, 2 * whole[2:4])


class TestFolds:
    """A norm's backward begins in the convolution behind it, if that makes the whole gradient."""

    @pytest.fixture
    def layers(self, draw: Callable) -> dict[str, Tensor]:
        return {
            "x": draw("x", 3, 5, 6, 2),
            "w": draw("w", 4, 2, 3, 2),
            "gamma": draw("gamma", 4),
            "beta": draw("beta", 4),
        }

    @pytest.fixture
    def folded(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """For each backward of a norm, whether its gradient had been passed through."""
        found: list[bool] = []
        backward = norm.BatchNormLeakyReLU.backward

        def watched(self: Any, gy: Any) -> Any:
            found.append(isinstance(gy, Folded))
            return backward(self, gy)

        monkeypatch.setattr(norm.BatchNormLeakyReLU, "backward", watched)
        return found

    def hidden(self, t: dict[str, Tensor], record: Dropout | None = None) -> Tensor:
        return normed(ops.conv2d(t["x"], t["w"], moments=True), t["gamma"], t["beta"], record)

    @pytest.mark.parametrize("record", [None, dropout(1)], ids=["plain", "dropout"])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_gradcheck(
        self, transposed: bool, record: Dropout | None, layers: dict, draw: Callable, folded: list
    ) -> None:
        last = draw("last", 4, 2, 2, 3).data if transposed else draw("last", 3, 2, 2, 4).data

        def fn(*ts: Tensor) -> Tensor:
            h = self.hidden(dict(zip(layers, ts, strict=False)), record)
            return (ops.conv_transpose2d if transposed else ops.conv2d)(h, ts[-1], activation=LEAKY)[0]

        gradcheck(fn, [*(t.data for t in layers.values()), last], directions=1)
        assert folded == [True]

    @pytest.mark.parametrize("activation", [LEAKY, Activation("linear")], ids=["leaky", "dropout alone"])
    @pytest.mark.parametrize("bias", ["none", "tied", "untied"])
    def test_gradcheck_without_a_norm(
        self, bias: str, activation: Activation, draw: Callable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A convolution's own activation and bias are passed through as well, but for a bias of each position."""
        x, w, last = draw("x", 3, 5, 6, 2).data, draw("w", 4, 2, 3, 2).data, draw("last", 3, 2, 2, 4).data
        b = [] if bias == "none" else [draw("b", *(4,) if bias == "tied" else (4, 4, 4)).data]
        seen: list[bool] = []
        backward = conv.Convolution.backward

        def watched(self: Any, gy: Any) -> Any:
            seen.append(isinstance(gy, Folded))
            return backward(self, gy)

        monkeypatch.setattr(conv.Convolution, "backward", watched)

        def fn(x: Tensor, w: Tensor, last: Tensor, *b: Tensor) -> Tensor:
            h = ops.conv2d(x, w, *b, activation=activation, dropout=dropout(1))[0]
            return ops.conv2d(h, last, activation=LEAKY)[0]

        gradcheck(fn, [x, w, last, *b], directions=1)
        assert seen == [False, bias != "untied"]

    def test_where_only_the_input_s_gradient_is_wanted(self, layers: dict, draw: Callable, folded: list) -> None:
        last = draw("last", 3, 2, 2, 4)
        parameters = list(layers.values())
        y = ops.conv2d(self.hidden(layers), last)[0]
        (both,) = grad([y], [[*parameters, last]], retain=True)
        (found,) = grad([y], [parameters])
        assert folded == [True, True]
        for g, exact in zip(found, both[:-1], strict=True):
            np.testing.assert_allclose(g, exact, rtol=1e-12, atol=1e-13)

    def test_a_gradient_that_is_wanted_itself_is_not_passed_on(
        self, layers: dict, draw: Callable, folded: list
    ) -> None:
        h, last = self.hidden(layers), draw("last", 3, 2, 2, 4)
        y = ops.conv2d(h, last)[0]
        ((g_h, g_x),) = grad([y], [[h, layers["x"]]], retain=True)
        ((exact,),) = grad([y], [[layers["x"]]])
        assert folded == [False, True]
        np.testing.assert_allclose(g_x, exact, rtol=1e-12, atol=1e-13)
        assert g_h.shape == h.shape

    def test_nor_one_that_is_a_sum(self, layers: dict, draw: Callable, folded: list) -> None:
        """Both users give a part; what is kept of the rows does not change that."""
        last = draw("last", 3, 2, 2, 4)

        def fn(*ts: Tensor) -> list[Tensor]:
            h = self.hidden(dict(zip(layers, ts, strict=False)))
            return [ops.add(ops.conv2d(h, ts[-1])[0], ops.conv2d(h, ts[-1])[0]), ops.mul(h, 2.0)]

        gradcheck(fn, [*(t.data for t in layers.values()), last.data], directions=1)
        assert folded == [False, False]

    def test_nor_through_frozen_statistics(self, layers: dict, draw: Callable, folded: list) -> None:
        moments = np.zeros(4), np.ones(4)
        t = layers
        options = {"eps": EPS, "slope": 0.2, "moments": moments, "frozen": True}
        h = ops.batch_norm_leaky_relu(ops.conv2d(t["x"], t["w"])[0], t["gamma"], t["beta"], **options)[0]
        grad([ops.conv2d(h, draw("last", 3, 2, 2, 4))[0]], [[t["x"]]])
        assert folded == [False]

    def test_only_a_function_that_takes_folds_is_offered_one(self, layers: dict) -> None:
        offered: list[Any] = []

        class Spy(Function):
            def forward(self, x: Any) -> Any:
                return x + 0

            def backward(self, gy: Any) -> Any:
                offered.append(self.folds)
                return gy

        class Taker(Spy):
            takes_folds = True

        h = self.hidden(layers)
        grad([Spy()(h)], [[layers["x"]]], retain=True)
        grad([Taker()(h)], [[layers["x"]]])
        assert offered[0] == ()
        assert offered[1][0].slope == 0.2
