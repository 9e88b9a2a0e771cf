"""Both adversarial losses of one batch of logits as two outputs of one function."""

from collections.abc import Callable

import numpy as np
import pytest

from alikit import ops
from alikit.autograd import Tensor, grad, gradcheck


@pytest.mark.parametrize("shape", [(10, 1), (6,), (2, 1, 1, 1)])
def test_gradients_of_each_loss_and_of_both_together(shape: tuple[int, ...], stream: Callable) -> None:
    logits = 2 * stream("logits").standard_normal(shape)
    gradcheck(lambda t: ops.adversarial_losses(t).loss_d, [logits])
    gradcheck(lambda t: ops.adversarial_losses(t).loss_g, [logits])
    gradcheck(lambda t: ops.adversarial_losses(t)[:2], [logits])

    def both(t: Tensor) -> Tensor:
        losses = ops.adversarial_losses(t)
        return 3 * losses.loss_d - losses.loss_g

    gradcheck(both, [logits])


def test_meaning() -> None:
    """One pair each: s(ln 3) = 3/4 for the data, s(-ln 4) = 1/5 for the sample."""
    logits = Tensor(np.array([[np.log(3)], [-np.log(4)]]), requires_grad=True)
    losses = ops.adversarial_losses(logits)
    assert losses.loss_d.item() == pytest.approx(-np.log(3 / 4) - np.log(4 / 5))
    assert losses.loss_g.item() == pytest.approx(-np.log(1 / 4) - np.log(1 / 5))
    assert losses.figures[2:].tolist() == pytest.approx([3 / 4, 1 / 5])
    (g_d,), (g_g,) = grad([losses.loss_d, losses.loss_g], [[logits], [logits]])
    np.testing.assert_allclose(g_d, [[3 / 4 - 1], [1 / 5]])
    np.testing.assert_allclose(g_g, [[3 / 4], [1 / 5 - 1]])


def test_float32_stays_float32() -> None:
    logits = Tensor(np.ones((4, 1), np.float32), requires_grad=True)
    losses = ops.adversarial_losses(logits)
    assert losses.loss_d.dtype == losses.loss_g.dtype == np.float32
    assert grad([losses.loss_d], [[logits]])[0][0].dtype == np.float32


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"adversarial_losses: logits \(3, 1\) must be \(2M, 1, \.\.\.\)"):
        ops.adversarial_losses(Tensor(np.ones((3, 1))))


CLASSES = [2, 0, 1, 2]


@pytest.mark.parametrize("shape", [(10, 3), (8, 1, 1, 4)])
def test_gradients_of_the_losses_with_classes(shape: tuple[int, ...], stream: Callable) -> None:
    logits = 2 * stream("logits").standard_normal(shape)
    labels = np.eye(shape[-1])[CLASSES].reshape(4, *shape[1:])
    gradcheck(lambda t: ops.class_losses(t, labels).loss_d, [logits])
    gradcheck(lambda t: ops.class_losses(t, labels).loss_g, [logits])

    def both(t: Tensor) -> Tensor:
        losses = ops.class_losses(t, labels)
        return 3 * losses.loss_d - losses.loss_g

    gradcheck(both, [logits])


def test_meaning_of_the_losses_with_classes() -> None:
    """Probabilities of two classes and of a sample: 2/8, 5/8, 1/8; labelled 6/16, 9/16, 1/16; sample 1/4, 2/4, 1/4."""
    logits = Tensor(np.log([[2.0, 5.0], [6.0, 9.0], [1.0, 2.0]]), requires_grad=True)
    losses = ops.class_losses(logits, np.array([[0, 1]]))
    label = -np.log(9 / 15)  # given that the pair is data
    assert losses.loss_d.item() == pytest.approx(label - 0.5 * np.log(7 / 8) - 0.5 * np.log(1 / 4))
    assert losses.loss_g.item() == pytest.approx(-np.log(1 / 8) - np.log(3 / 4))
    assert losses.figures[2:].tolist() == pytest.approx([label, 7 / 8, 3 / 4, 1])
    (g_d,), (g_g,) = grad([losses.loss_d, losses.loss_g], [[logits], [logits]])
    np.testing.assert_allclose(g_d, [[-1 / 56, -5 / 112], [6 / 15, -6 / 15], [1 / 8, 2 / 8]])
    np.testing.assert_allclose(g_g, [[7 / 8 * 2 / 7, 7 / 8 * 5 / 7], [0, 0], [-1 / 4 / 3, -1 / 4 * 2 / 3]])
