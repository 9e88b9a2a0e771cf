"""Two training steps against the method worked out by hand: float64, loops, nothing of the engine or the kernels.

The reference below stands on the layers of by_hand.py. It draws nothing: codes, noise and dropout masks come from the
model's own streams. All else, forward, backward, both losses, Adam, running statistics and their order, is written out
again from docs/method.md.
"""

import numpy as np
import pytest

from alikit.models import ALI, ModelSpec, Row
from alikit.nn import Pass
from alikit.ops import Dropout
from alikit.ops._dispatch import kernel
from alikit.optim import AdamSettings
from alikit.training.adversarial import AliRules
from alikit.training.classes import ClassRules
from alikit.training.games import Batch
from alikit.training.step import Trainer
from tests.training.by_hand import Var, batch_norm, conv, joined, nonlinear, scaled, transposed_conv

M, SEED = 3, 5
SETTINGS = AdamSettings(lr=0.05, beta1=0.4, beta2=0.9, eps=0.03)  # an eps that is felt where it stands

# fmt: off
ENCODER = (
    Row("conv",  3, 1, 3, 4, True,  0.0, None,     "leaky"),
    Row("conv",  4, 1, 4, 1, True,  0.0, None,     "leaky"),
    Row("conv",  1, 1, 6, 1, False, 0.0, "tied",   "linear"),
)
DECODER = (
    Row("tconv", 3, 1, 4, 3, True,  0.0, None,     "leaky"),
    Row("tconv", 2, 2, 3, 6, True,  0.0, None,     "leaky"),
    Row("conv",  1, 1, 2, 6, False, 0.0, "untied", "sigmoid"),
)
NORMED_X = (
    Row("conv",  2, 2, 3, 3, False, 0.2, "tied",   "leaky"),
    Row("conv",  2, 1, 4, 2, True,  0.3, None,     "leaky"),
    Row("conv",  2, 1, 5, 1, True,  0.2, None,     "leaky"),
)
MAXOUT_X = (
    Row("conv",  3, 1, 4, 4, False, 0.2, "untied", "maxout"),
    Row("conv",  4, 1, 6, 1, False, 0.5, "tied",   "maxout"),
)
# fmt: on


def head(kind: str) -> tuple[Row, ...]:
    return (Row("conv", 1, 1, 4, 1, False, 0.4, "tied", kind), Row("conv", 1, 1, 1, 1, False, 0.2, "tied", "linear"))


def code_tower(kind: str) -> tuple[Row, ...]:
    return (Row("conv", 1, 1, 4, 1, False, 0.2, None, kind),)


SPECS = {
    "batch norm in D": ModelSpec(
        "normed", (6, 6, 2), 3, 0.2, ENCODER, DECODER, NORMED_X, code_tower("leaky"), head("leaky"), std=0.4
    ),
    "maxout in D": ModelSpec(
        "maxout", (6, 6, 2), 3, 0.2, ENCODER, DECODER, MAXOUT_X, code_tower("maxout"), head("maxout"), std=0.4
    ),
    "noise at the encoder's input": ModelSpec(
        "noise",
        (1, 1, 2),
        2,
        0.0,
        (ENCODER[0]._replace(kernel=1, size=1), ENCODER[2]._replace(maps=2)),
        (DECODER[0]._replace(op="conv", kernel=1, size=1), ENCODER[2]._replace(maps=2)),
        (),
        (),
        head("maxout"),
        std=0.4,
        noise=2,
    ),
}


def losses_with_classes(logits: np.ndarray, classes: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """By the probabilities of K + 1 classes: data may be any of K, a sample is the last, whose logit is 0."""
    known = len(classes)
    pairs = (len(logits) - known) // 2
    powers = np.exp(logits)
    total = 1 + powers.sum(axis=-1, keepdims=True)
    chances, sample = powers / total, 1 / total
    data, labelled, samples = (slice(a, b) for a, b in ((0, pairs), (pairs, pairs + known), (pairs + known, None)))
    right = chances[labelled] / (1 - sample[labelled])  # among data, the chance of each class
    loss_d = -(np.log(right) * classes).sum() / known
    loss_d -= (np.log(1 - sample[data]).sum() + np.log(sample[samples]).sum()) / 2 / pairs
    loss_g = -(np.log(sample[data]).sum() + np.log(1 - sample[samples]).sum()) / pairs
    towards_data, towards_samples = chances * sample / (1 - sample), -chances  # of log(1 - sample), of log(sample)
    gd, gg = np.zeros_like(logits), np.zeros_like(logits)
    gd[data], gd[samples] = -towards_data[data] / 2 / pairs, -towards_samples[samples] / 2 / pairs
    gd[labelled] = (right - classes) / known
    gg[data], gg[samples] = -towards_samples[data] / pairs, -towards_data[samples] / pairs
    return [(loss_d, gd), (loss_g, gg)]


class Reference:
    """The run by hand: parameters and running statistics by name, moments of both Adams."""

    def __init__(self, model: ALI):
        self.model, self.spec = model, model.spec
        self.theta = {k: p.data.copy() for k, p in model.named_parameters()}
        self.running = {k: v.copy() for k, v in model.named_buffers()}
        self.m, self.v = ({k: np.zeros_like(p) for k, p in self.theta.items()} for _ in range(2))

    def network(self, name: str, table: tuple[Row, ...], x: Var) -> Var:
        for i, row in enumerate(table):
            layer = f"{name}.layers.{i}"
            if row.dropout:
                mask = Dropout(row.dropout, self.how.stream(f"{name}.{i + 1}"))
                x = scaled(x, kernel("dropout", x.value)(np.ones_like(x.value), mask))
            x = (conv if row.op == "conv" else transposed_conv)(x, self.parameters[f"{layer}.conv.weight"], row)
            if row.norm:
                gamma, beta = (self.parameters[f"{layer}.norm.{k}"] for k in ("gamma", "beta"))
                x, mean, std = batch_norm(x, gamma, beta)
                self.batch |= {f"{layer}.norm.running_mean": mean, f"{layer}.norm.running_std": std}
            elif row.bias:
                bias = self.parameters[f"{layer}.conv.bias"]
                axes = tuple(range(4 - bias.value.ndim))
                x = Var(x.value + bias.value, [(x, lambda g: g), (bias, lambda g, axes=axes: g.sum(axes))])
            x = nonlinear(x, row.nonlinearity, self.spec)
        return x

    def encode(self, x: np.ndarray) -> Var:
        def eps(shape):
            return kernel("normal", x)(shape, self.how.stream("eps"), np.float64)

        if self.spec.noise:
            return self.network("encoder", self.spec.encoder, Var(np.concatenate([x, eps(x.shape)], axis=-1)))
        out = self.network("encoder", self.spec.encoder, Var(x))
        nz = self.spec.nz
        mu, log_sigma = out.value[..., :nz], out.value[..., nz:]
        noise = np.exp(log_sigma) * eps(mu.shape)
        return Var(mu + noise, [(out, lambda g: np.concatenate([g, g * noise], axis=-1))])

    def step(self, batch: Batch, number: int) -> tuple[float, float]:
        """L_D and L_G; moves everything."""
        x, known = batch.x, batch.x[:0] if batch.labelled is None else batch.labelled[0]
        data = np.concatenate([x, known])
        self.how, self.batch = Pass(True, SEED, number), {}
        self.parameters = {k: Var(value) for k, value in self.theta.items()}
        z = Var(self.model.prior(len(x), self.how).data)
        pairs_x = joined([Var(data), self.network("decoder", self.spec.decoder, z)], 0)
        pairs_z = joined([self.encode(data), z], 0)
        towers = [
            self.network("discriminator.x", self.spec.disc_x, pairs_x),
            self.network("discriminator.z", self.spec.disc_z, pairs_z),
        ]
        logits = self.network("discriminator.xz", self.spec.disc_xz, joined(towers, -1))
        losses = []
        for player, (loss, upstream) in zip(("discriminator", "coders"), self.losses(logits, batch), strict=True):
            losses.append(loss)
            grads = logits.grads(upstream)
            for name, value in self.theta.items():
                if name.startswith("discriminator") == (player == "discriminator"):
                    self.adam(name, value, grads[id(self.parameters[name])], number + 1)
        for name, value in self.batch.items():
            self.running[name] = 0.95 * self.running[name] + 0.05 * value
        return losses[0], losses[1]

    def losses(self, logits: Var, batch: Batch) -> list[tuple[float, np.ndarray]]:
        """L_D and L_G, each with its gradient at the logits."""
        if batch.labelled is not None:
            return losses_with_classes(logits.value, batch.labelled[1])
        sign = np.repeat([1.0, -1.0], len(batch.x)).reshape(-1, 1, 1, 1)  # D says "data" to the first half
        return [
            (
                np.log1p(np.exp(-side * logits.value)).sum() / len(batch.x),
                -side / (1 + np.exp(side * logits.value)) / len(batch.x),
            )
            for side in (sign, -sign)
        ]

    def adam(self, name: str, value: np.ndarray, g: np.ndarray, t: int) -> None:
        lr, b1, b2, eps = SETTINGS
        m = self.m[name] = b1 * self.m[name] + (1 - b1) * g
        v = self.v[name] = b2 * self.v[name] + (1 - b2) * g**2
        self.theta[name] = value - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)


@pytest.mark.parametrize("kind", SPECS)
def test_two_steps_are_those_of_the_method(kind: str, stream) -> None:
    model = ALI(SPECS[kind], seed=2, dtype=np.float64)
    for p in model.parameters():
        p.data[...] += 0.2 * stream("parameters").standard_normal(p.shape)
    reference, trainer = Reference(model), Trainer(AliRules(model), SETTINGS, seed=SEED)
    for number in range(2):
        x = stream(f"x{number}").random((M + number, *model.spec.image))
        wanted = reference.step(Batch(x), number)
        result = trainer.step(x, number)
        assert (result.loss_d, result.loss_g) == pytest.approx(wanted, rel=1e-11)
    compare(trainer, reference)


@pytest.mark.parametrize("kind", SPECS)
def test_two_steps_with_labels_are_those_of_the_method(kind: str, stream) -> None:
    """Three classes; two labelled images, then four."""
    model = ALI(SPECS[kind].telling(3), seed=2, dtype=np.float64)
    for p in model.parameters():
        p.data[...] += 0.2 * stream("parameters").standard_normal(p.shape)
    reference, trainer = Reference(model), Trainer(ClassRules(model), SETTINGS, seed=SEED)
    for number, known in enumerate((2, 4)):
        x = stream(f"x{number}").random((M + number + known, *model.spec.image))
        classes = np.eye(3)[stream(f"y{number}").integers(0, 3, known)].reshape(known, 1, 1, 3)
        batch = Batch(x[known:], labelled=(x[:known], classes))
        wanted = reference.step(batch, number)
        result = trainer.step(batch, number)
        assert (result.loss_d, result.loss_g) == pytest.approx(wanted, rel=1e-11)
    compare(trainer, reference)


def compare(trainer: Trainer, reference: Reference) -> None:
    """Parameters, running statistics and both Adams' moments."""
    model = trainer.model
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.data, reference.theta[name], rtol=1e-9, atol=1e-11, err_msg=name)
    for name, value in model.named_buffers():
        np.testing.assert_allclose(value, reference.running[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for adam in (trainer.adam_d, trainer.adam_g):
        for name, value in adam.state().items():
            moment, _, parameter = name.partition("/")
            np.testing.assert_allclose(
                value, getattr(reference, moment)[parameter], rtol=1e-8, atol=1e-12, err_msg=name
            )
