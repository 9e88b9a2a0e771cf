"""The checker itself: it passes right gradients and fails planted mistakes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alikit.autograd import Function, KinkError, Tensor, gradcheck


class Product(Function):
    """x y + sin x, whose gradient in x can be spoiled by a function of it."""

    spoil: Callable[[Any], Any] = staticmethod(lambda gx: gx)

    def forward(self, x: Any, y: Any) -> Any:
        self.x, self.y = x, y
        return x * y + np.sin(x)

    def backward(self, gy: Any) -> Any:
        return self.spoil(gy * (self.y + np.cos(self.x))), gy * self.x


def spoiled(spoil: Callable[[Any], Any]) -> Callable[[Tensor, Tensor], Tensor]:
    class Spoiled(Product):
        pass

    Spoiled.spoil = staticmethod(spoil)
    return lambda x, y: Spoiled()(x, y)


@pytest.fixture
def inputs(stream: Callable) -> list[np.ndarray]:
    return [stream("x").standard_normal((5, 7)), stream("y").standard_normal((5, 7))]


def one_element(gx: np.ndarray) -> np.ndarray:
    wrong = gx.copy()
    wrong[3, 4] *= 1.5
    return wrong


MISTAKES = {
    "wrong factor": lambda gx: 1.001 * gx,
    "sign": lambda gx: -gx,
    "constant": lambda gx: gx + 0.01,
    "one element of 35": one_element,
    "two elements exchanged": lambda gx: np.roll(gx, 1, axis=0),
    "zero": lambda gx: 0 * gx,
    "NaN": lambda gx: gx * np.nan,
}


def test_right_gradients_pass(inputs: list[np.ndarray]) -> None:
    gradcheck(spoiled(lambda gx: gx), inputs)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spoil", MISTAKES.values(), ids=MISTAKES.keys())
def test_planted_mistakes_are_found_and_the_input_named(spoil: Callable, seed: int, inputs: list[np.ndarray]) -> None:
    with pytest.raises(AssertionError, match=r"gradient of inputs \[0\]"):
        gradcheck(spoiled(spoil), inputs, seed=seed)


def test_a_missing_term_is_found(inputs: list[np.ndarray]) -> None:
    class Forgetful(Product):
        def backward(self, gy: Any) -> Any:
            return gy * self.y, gy * self.x

    with pytest.raises(AssertionError, match=r"gradient of inputs \[0\]"):
        gradcheck(lambda x, y: Forgetful()(x, y), inputs)


def test_a_gradient_that_is_not_passed_on_is_found(inputs: list[np.ndarray]) -> None:
    with pytest.raises(AssertionError, match=r"gradient of inputs \[1\]"):
        gradcheck(lambda x, y: Product()(x, y.detach()), inputs)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_a_function_does_not_matter(scale: float, inputs: list[np.ndarray]) -> None:
    class Scaled(Product):
        def forward(self, x: Any, y: Any) -> Any:
            return scale * super().forward(x, y)

        def backward(self, gy: Any) -> Any:
            return super().backward(scale * gy)

    gradcheck(lambda x, y: Scaled()(x, y), inputs)
    Scaled.spoil = staticmethod(lambda gx: 1.001 * gx)
    with pytest.raises(AssertionError, match="gradient of inputs"):
        gradcheck(lambda x, y: Scaled()(x, y), inputs)


class TwoOutputs(Function):
    """x -> x^2, x^3; the factor spoils the second."""

    def __init__(self, factor: float):
        self.factor = factor

    def forward(self, x: Any) -> Any:
        self.x = x
        return x**2, x**3

    def backward(self, g2: Any, g3: Any) -> Any:
        return sum(g for g in (self._g2(g2), self._g3(g3)) if g is not None)

    def _g2(self, g: Any) -> Any:
        return None if g is None else 2 * self.x * g

    def _g3(self, g: Any) -> Any:
        return None if g is None else self.factor * self.x**2 * g


def test_every_output_is_checked(inputs: list[np.ndarray]) -> None:
    gradcheck(lambda x: TwoOutputs(3.0)(x), inputs[:1])
    with pytest.raises(AssertionError, match=r"gradient of inputs \[0\]"):
        gradcheck(lambda x: TwoOutputs(3.003)(x), inputs[:1])


class Kinked(Function):
    """1 to the right of 0 and `slope` to the left: leaky ReLU."""

    def __init__(self, slope: float):
        self.slope = slope

    def forward(self, x: Any) -> Any:
        self.derivative = np.where(x > 0, 1, self.slope)
        return x * self.derivative

    def backward(self, gy: Any) -> Any:
        return gy * self.derivative


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.2, 0.9])
def test_a_kink_is_an_error_of_its_own(slope: float, inputs: list[np.ndarray]) -> None:
    x = inputs[0]
    gradcheck(lambda t: Kinked(slope)(t), [x])
    x[2, 3] = 0
    with pytest.raises(KinkError, match=r"not differentiable here along inputs \[0\]"):
        gradcheck(lambda t: Kinked(slope)(t), [x])


def test_strong_curvature_is_no_kink() -> None:
    """One-sided slopes of sin 1000 x differ by far more than a gradient may be wrong, but less at smaller steps."""

    class Wave(Function):
        def forward(self, x: Any) -> Any:
            self.x = x
            return np.sin(1000 * x)

        def backward(self, gy: Any) -> Any:
            return 1000 * np.cos(1000 * self.x) * gy

    gradcheck(lambda t: Wave()(t), [np.array([0.0015])])


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_other_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=f"gradcheck: input 1 is {np.dtype(dtype)}, wanted float64"):
        gradcheck(lambda x, y: Product()(x, y), [np.ones(3), np.ones(3, dtype)])


def test_a_gradient_of_the_wrong_shape_or_dtype_is_found() -> None:
    class Broadcast(Function):
        """x + 1, for x of one column; backward forgets to sum, or loses digits."""

        def __init__(self, change: Callable[[Any], Any]):
            self.change = change

        def forward(self, x: Any) -> Any:
            return x + np.ones((3, 4))

        def backward(self, gy: Any) -> Any:
            return self.change(gy)

    x = np.ones((3, 1))
    gradcheck(lambda t: Broadcast(lambda g: g.sum(axis=1, keepdims=True))(t), [x])
    with pytest.raises(AssertionError, match=r"gradient 0 is \(3, 4\) float64, its input \(3, 1\) float64"):
        gradcheck(lambda t: Broadcast(lambda g: g)(t), [x])
    with pytest.raises(AssertionError, match=r"gradient 0 is \(3, 1\) float32"):
        gradcheck(lambda t: Broadcast(lambda g: g.sum(axis=1, keepdims=True).astype(np.float32))(t), [x])


def test_inputs_stay_as_they_were(inputs: list[np.ndarray]) -> None:
    before = [x.copy() for x in inputs]
    gradcheck(spoiled(lambda gx: gx), inputs)
    for x, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, b)
