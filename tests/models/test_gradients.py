"""The whole game of a narrow model, forward and backward, against differences: dropout, noise, batch norm and all.

L_D is differentiated in D's parameters, L_G in the encoder's and the decoder's, in one network with batch norm in D
(svhn), one with maxout and without it (cifar10), and the mixture. The check moves each parameter alone, then all.
"""

from collections.abc import Callable

import numpy as np
import pytest

from alikit.autograd import Tensor, gradcheck
from alikit.models import ALI
from alikit.nn import Parameter, Pass
from alikit.training.objective import play

HOW = Pass(training=True, seed=11, step=4)


def game(model: ALI, player: str, loss: str, x: np.ndarray) -> tuple[Callable[..., Tensor], list[np.ndarray]]:
    """The loss as a function of the player's parameters, and the point to check it at."""
    roots = [model.discriminator] if player == "discriminator" else [model.encoder, model.decoder]
    slots = [(m, k) for root in roots for m in root.modules() for k, v in vars(m).items() if isinstance(v, Parameter)]

    def fn(*parameters: Tensor) -> Tensor:
        for (owner, name), value in zip(slots, parameters, strict=True):
            setattr(owner, name, value)
        return getattr(play(model, x, HOW).losses, loss)

    return fn, [getattr(owner, name).data for owner, name in slots]


@pytest.mark.parametrize(("player", "loss"), [("discriminator", "loss_d"), ("generators", "loss_g")])
@pytest.mark.parametrize("name", ["svhn", "cifar10", "mixture-dropout"])
def test_the_step_s_gradients(name: str, player: str, loss: str, narrow, stream) -> None:
    model = narrow(name, stream("parameters"))
    x = stream("x").random((4, *model.spec.image))
    fn, point = game(model, player, loss, x)
    gradcheck(fn, point, directions=1, step=1e-7)
