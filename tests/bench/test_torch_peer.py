"""alikit's training step against an independent one in PyTorch, number by number, in float64.

Parameters are away from their initial values, dropout is on (with alikit's masks), and everything that a step leaves
behind is compared: the batch, both losses, every gradient, every update, the running statistics. The peer's layer
tables are its own, typed from the paper.
"""

import warnings

import numpy as np
import pytest

from alikit.models import ALI, SPECS
from alikit.optim import AdamSettings
from alikit.training.adversarial import AliRules
from alikit.training.config import PRESETS
from alikit.training.step import Trainer
from bench import step
from bench.case import Options
from bench.cases import CASES
from bench.harness import distance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what PyTorch deprecates within itself
    torch = pytest.importorskip("torch", reason="PyTorch, the peer, is not installed: pip install -e '.[bench]'")


def trainer64(model: str) -> Trainer:
    """The preset's networks and optimisers in float64."""
    config = PRESETS[model]
    settings = AdamSettings(config.lr, config.beta1, config.beta2, config.adam_eps)
    return Trainer(AliRules(ALI(SPECS[model], seed=5, dtype=np.float64)), settings, seed=0)


@pytest.mark.parametrize(("model", "batch"), [("mixture", 37), ("svhn", 5)])
def test_one_step_equals_pytorch(model: str, batch: int) -> None:
    images = step.prepared(model)
    rows = np.random.default_rng(2).permutation(len(images))[:batch]
    trainer = trainer64(model)
    probe = step.probe(trainer.model, rows)
    x = images[rows] * (1 / 255) if images.dtype == np.uint8 else images[rows].astype(np.float64)[:, None, None, :]
    ours = step.take_step(trainer, x, probe)
    theirs = step.answer_torch(model, torch.from_numpy(images), probe)
    assert ours.keys() == theirs.keys()
    kinds = {name.split("/")[0] for name in ours}
    assert kinds == {"batch", "loss", "gradient", "update", "statistics"}
    for name in ours:
        allowed = 1e-5 if name.startswith("update/") else 1e-9  # an update is a difference of parameters
        assert distance(ours[name], theirs[name]) < allowed, name


@pytest.mark.parametrize("name", ["svhn-step", "mixture-step", "ops", "kernels"])
def test_the_timed_code_passes_its_own_check(name: str) -> None:
    case, options = CASES[name], Options(threads=1, quick=True)
    ours, theirs = case.alikit(options), case.torch(options)
    assert ours.thunks.keys() == theirs.thunks.keys()
    probe = ours.probe()
    found, wanted = ours.answer(probe), theirs.answer(probe)
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert distance(found[key], wanted[key]) <= case.allowed(key), key
