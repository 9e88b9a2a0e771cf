import numpy as np
import pytest

from alikit.autograd import Tensor
from alikit.nn import Module, Parameter, Pass


class Leafy(Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = Parameter(np.arange(float(size)))
        self.constant = Tensor(np.ones(3))  # no Parameter: not listed
        self.buffers = {"mean": np.zeros(size)}


class Tree(Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Leafy(2)
        self.bias = Parameter(np.zeros(1))
        self.rest = [Leafy(3), Leafy(4), "no module"]
        self.none = None


NAMES = ["bias", "first.weight", "rest.0.weight", "rest.1.weight"]
BUFFERS = ["first.mean", "rest.0.mean", "rest.1.mean"]


def test_names_in_order_of_definition_own_parameters_first() -> None:
    tree = Tree()
    assert [name for name, _ in tree.named_parameters()] == NAMES
    assert [name for name, _ in tree.named_parameters("d.")] == [f"d.{name}" for name in NAMES]
    assert [p.shape for p in tree.parameters()] == [(1,), (2,), (3,), (4,)]
    assert [name for name, _ in tree.named_buffers()] == BUFFERS
    assert list(tree.modules()) == [tree, tree.first, tree.rest[0], tree.rest[1]]


def test_state_holds_the_arrays_themselves() -> None:
    tree = Tree()
    state = tree.state()
    assert list(state) == NAMES + BUFFERS
    assert state["rest.1.weight"] is tree.rest[1].weight.data
    assert state["first.mean"] is tree.first.buffers["mean"]


def test_load_state_copies_into_the_arrays_that_are_there() -> None:
    tree = Tree()
    own = tree.state()
    new = {name: array + 7 for name, array in own.items()}
    tree.load_state(new)
    for name, array in tree.state().items():
        assert array is own[name]  # an optimiser may hold a view of it
        assert array is not new[name]
        np.testing.assert_array_equal(array, new[name])


def without(name: str):
    return lambda state: {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("first.mean"), "load_state: missing first.mean$"),
        (without("rest.0.weight"), "load_state: missing rest.0.weight$"),
        (lambda state: state | {"extra": np.zeros(1)}, "load_state: unknown extra$"),
        (
            lambda state: state | {"first.weight": np.zeros((1, 2))},
            r"load_state: shape of first.weight: \(1, 2\), wanted \(2,\)$",
        ),
        (
            lambda state: without("bias")(state) | {"odd": np.zeros(1), "rest.1.mean": np.zeros(1)},
            r"missing bias; unknown odd; shape of rest.1.mean: \(1,\), wanted \(4,\)$",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, message: str) -> None:
    tree = Tree()
    before = {name: array.copy() for name, array in tree.state().items()}
    with pytest.raises(ValueError, match=message):
        tree.load_state(change({name: array + 1 for name, array in before.items()}))
    for name, array in tree.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_streams_differ_by_seed_step_and_name_and_stay_the_same() -> None:
    streams = [
        Pass(seed=seed, step=step).stream(name) for seed in (0, 1) for step in (0, 1) for name in ("eps", "prior")
    ]
    assert len(set(streams)) == 8
    assert Pass(seed=5, step=9).stream("eps") == Pass(training=True, seed=5, step=9).stream("eps")
    assert Pass(seed=5, step=9).stream("encoder.1") == (5, 9, 0x1B86EAAF)  # CRC-32, the same in every process


def test_a_parameter_is_a_leaf_that_asks_for_gradients() -> None:
    parameter = Parameter(np.ones(2))
    assert parameter.requires_grad
    assert parameter.creator.edges == ()
