"""The whole ALI step on the interpreted device, through the steppers, equals the step on the CPU, tensor by tensor.

Two steps of a model of 8x8 images, the second with a smaller batch, with batch norm in D (both cotangents stacked)
and without (maxout, one walk for both losses), and both again with labels. Every kind of layer of the paper's tables
takes part. Then a step of a smaller model that is given the images' classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.kernels import device
from alikit.kernels.launch import recording
from alikit.models import ALI, VAE, ConditionalALI
from alikit.models.table import ModelSpec, Row
from alikit.optim import AdamSettings
from alikit.training.adversarial import AliceRules, AliRules
from alikit.training.classes import ClassRules
from alikit.training.conditional import ConditionalRules
from alikit.training.feed import Feed
from alikit.training.fitting import VaeRules
from alikit.training.noise import InstanceNoise
from alikit.training.state import to_device
from alikit.training.step import Trainer
from alikit.training.stepper import DeviceStepper, HostStepper

# fmt: off
ENCODER = (
    Row("conv",  3, 1, 5,  6, True,  0.0, None,   "leaky"),
    Row("conv",  4, 2, 8,  2, True,  0.0, None,   "leaky"),
    Row("conv",  2, 1, 10, 1, True,  0.0, None,   "leaky"),
    Row("conv",  1, 1, 6,  1, False, 0.0, "tied", "linear"),
)
DECODER = (
    Row("tconv", 2, 1, 9,  2, True,  0.0, None,     "leaky"),
    Row("tconv", 4, 2, 6,  6, True,  0.0, None,     "leaky"),
    Row("tconv", 3, 1, 5,  8, True,  0.0, None,     "leaky"),
    Row("conv",  1, 1, 3,  8, False, 0.0, "untied", "sigmoid"),
)
DISC_X = (
    Row("conv",  3, 1, 6,  6, False, 0.2, "tied", "leaky"),
    Row("conv",  4, 2, 8,  2, True,  0.2, None,   "leaky"),
    Row("conv",  2, 1, 10, 1, True,  0.2, None,   "leaky"),
)
DISC_Z = (
    Row("conv",  1, 1, 6,  1, False, 0.2, None,   "leaky"),
    Row("conv",  1, 1, 8,  1, False, 0.2, None,   "leaky"),
)
DISC_XZ = (
    Row("conv",  1, 1, 10, 1, False, 0.2, "tied", "leaky"),
    Row("conv",  1, 1, 8,  1, False, 0.2, "tied", "leaky"),
    Row("conv",  1, 1, 1,  1, False, 0.2, "tied", "linear"),
)
# fmt: on
NORMED = ModelSpec("normed", (8, 8, 3), 3, 0.2, ENCODER, DECODER, DISC_X, DISC_Z, DISC_XZ, std=0.3)


def _maxout(table: tuple[Row, ...]) -> tuple[Row, ...]:
    """The table without batch norm, with maxout for leaky ReLU."""
    return tuple(
        row._replace(norm=False, bias=row.bias or "tied", nonlinearity="maxout") if row.nonlinearity == "leaky" else row
        for row in table
    )


MAXOUT = replace(NORMED, name="maxout", disc_x=_maxout(DISC_X), disc_z=_maxout(DISC_Z), disc_xz=_maxout(DISC_XZ))

#: given one of three classes; the fewest layers that make such a game, with batch norm in D
GIVEN = replace(
    NORMED,
    name="given",
    encoder=(Row("conv", 4, 4, 5, 2, True, 0.0, None, "leaky"), ENCODER[2]._replace(norm=False), ENCODER[-1]),
    decoder=(Row("tconv", 8, 1, 5, 8, True, 0.0, None, "leaky"), DECODER[-1]),
    disc_x=(Row("conv", 4, 4, 6, 2, True, 0.2, None, "leaky"), DISC_X[2]._replace(norm=False)),
    disc_z=DISC_Z[1:],
    disc_xz=DISC_XZ[1:],
    conditions=3,
    embedding=5,
)

#: with a reconstruction error in the generators' loss: the decoder's gradients come from two walks
ALICE = replace(GIVEN, name="alice", conditions=0, embedding=0)

#: with noise on the images that D sees, less at every step
NOISY = replace(ALICE, name="noisy")

#: no game: a VAE whose codes' price has not yet risen in full
BOUND = replace(ALICE, name="vae")

#: a large eps, so that an element whose gradient is nearly zero does not move by its sign alone
SETTINGS = AdamSettings(lr=0.02, eps=0.05)
LABELS = np.array([2, 0, 1, 4, 3], np.uint8)
WITH_LABELS = [replace(spec.telling(5), name=f"{spec.name}-labels") for spec in (NORMED, MAXOUT)]
OURS = [NORMED, MAXOUT, GIVEN, *WITH_LABELS]  # that compute with our kernels alone
SPECS = pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
IMAGES = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3), np.uint8)
CLASSES = {"labels": np.array([1, 2, 0, 2, 1], np.uint8), "label_names": ("a", "b", "c")}


def make(spec: ModelSpec, *, on_device: bool, watched: bool = True) -> tuple[Trainer, Any, list[dict[str, np.ndarray]]]:
    """A trainer, its stepper, and a list that gets a step's gradients by name for every step taken."""
    known = spec in WITH_LABELS
    model: Any = (ConditionalALI if spec.conditions else VAE if spec is BOUND else ALI)(spec, seed=4)
    if on_device:
        to_device(model, "fp32")
    rules: Any = (ConditionalRules if spec.conditions else ClassRules if known else AliRules)(model)
    if spec is ALICE:
        rules = AliceRules(model, 3.0)
    elif spec is BOUND:
        rules = VaeRules(model, warm_up=7)
    noise = InstanceNoise(0.3, steps=9) if spec is NOISY else None
    trainer = Trainer(rules, SETTINGS, seed=11, noise=noise, ema=0.3)
    classes = {"labels": LABELS} if known else CLASSES
    data = Dataset(name="toy", split="train", source="here", checksum="", images=IMAGES, **classes)
    labelled = Feed(data, 3, 8, conditions=True, rows=[4, 0, 3, 1]) if known else None  # batches of 3, 1, 3
    feed = Feed(data, 2, 7, conditions=spec.conditions > 0, labelled=labelled)
    stepper: Any = DeviceStepper(trainer, feed, graph=False) if on_device else HostStepper(trainer, feed)
    seen: list[dict[str, np.ndarray]] = []
    if watched:
        watch(trainer, seen)
    return trainer, stepper, seen


def watch(trainer: Trainer, seen: list[dict[str, np.ndarray]]) -> None:
    """Notes the gradients that reach the optimisers; partial sums are added."""
    gradients = trainer.rules.gradients

    def noted(played: Any, parameters: Any) -> Any:
        moves = gradients(played, parameters)
        seen.append({})
        for player, adam in trainer.adams.items():
            for name, p, g in zip(adam.flat.names, adam.parameters, moves[player], strict=True):
                seen[-1][name] = device.to_host(g).reshape(-1, *p.shape).sum(axis=0)
        return moves

    trainer.rules.gradients = noted  # type: ignore[method-assign]


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    found = {**trainer.model.state(), **{f"ema/{k}": v for k, v in trainer.ema.state().items()}}  # type: ignore[union-attr]
    for player, adam in trainer.adams.items():
        found |= {f"{player}/{k}": v for k, v in adam.state().items()}
    return {name: device.to_host(array) for name, array in found.items()}


@pytest.mark.parametrize("spec", [*OURS, ALICE, NOISY, BOUND], ids=lambda spec: spec.name)
def test_steps_equal_the_cpu_s(spec: ModelSpec) -> None:
    host, host_stepper, host_grads = make(spec, on_device=False)
    on_device, device_stepper, device_grads = make(spec, on_device=True)
    if spec is not BOUND:
        assert host.model.discriminator.rows_independent == spec.name.startswith("maxout")
    # with labels or conditions one step says what is new, and the interpreter is slow
    counts = (2, 1) if spec.name in ("normed", "maxout") else (2,)
    for taken, count in enumerate(counts):
        number = 1 + taken  # of an epoch of batches of 2, 2 and 1
        assert host_stepper.step(number) == device_stepper.step(number) == count
        device_stepper.check()
        np.testing.assert_allclose(device_stepper.result(), host_stepper.result(), rtol=2e-4)
        assert device_grads[taken].keys() == host_grads[taken].keys()
        for name, wanted in host_grads[taken].items():
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(device_grads[taken][name], wanted, rtol=0, atol=2e-4 * scale, err_msg=name)
        wanted_state, found_state = state(host), state(on_device)
        assert found_state.keys() == wanted_state.keys()
        for name, array in wanted_state.items():
            scale = max(np.abs(array).max(), 1e-3)
            np.testing.assert_allclose(found_state[name], array, rtol=0, atol=2e-4 * scale, err_msg=name)


@SPECS
def test_a_step_computes_with_our_kernels_alone_and_nothing_else(spec: ModelSpec) -> None:
    """Array arithmetic beside them would be CuPy's own kernels on a GPU. Uploads wait, as while a graph is captured."""
    with device.use("plan"):
        _, stepper, _ = make(spec, on_device=True, watched=False)
        stepper.step(0)
        with device.deferred_uploads(), recording() as launches:
            stepper.step(1)
    assert len(launches) > 40
    assert launches.foreign == []


def test_a_number_that_is_not_finite_is_found_by_name() -> None:
    from alikit.errors import DivergedError

    trainer, stepper, _ = make(ALICE, on_device=True)
    trainer.model.discriminator.xz.layers[-1].conv.bias.data[...] = np.inf
    stepper.step(0)
    with pytest.raises(DivergedError, match=r"^step 1: loss_[dg] is not finite$"):
        stepper.check()
