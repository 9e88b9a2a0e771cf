"""The whole training step against the CPU's, and against itself.

After the first step Adam's first moment holds the gradients: they are compared tensor by tensor, as one vector for each
player, and so are the losses. Then three steps more, captured as a graph, must leave the bytes that eager ones leave,
and must leave them again in a second run.

An activation within rounding of leaky ReLU's kink may fall on either side of it, which moves a gradient by a share that
has nothing to do with the arithmetic's own error; the bounds of single tensors are wide because of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.gpu import runs
from bench.gpu.part import Item, Options, Row
from bench.harness import distance

BATCH, STEPS = 40, 4
#: precision -> allowed distance of a player's whole gradient, of one tensor's, of a loss
ALLOWED = {"fp32": (5e-3, 3e-2, 1e-4), "tf32": (3e-2, 1e-1, 1e-3), "bf16": (1e-1, 3e-1, 2e-2)}
SUITES = (
    *(("svhn", precision) for precision in ALLOWED),
    ("cifar10", "bf16"),
    ("mixture", "fp32"),
    ("mixture", "bf16"),
)
QUICK: dict[str, Any] = {"width": 0.01, "batch": 3, "count": 12}


def items(options: Options) -> list[Item]:
    """A preset and precision each; a narrow mixture where kernels are interpreted."""
    if not options.timed:
        return [Item("step of mixture fp32", lambda: check("mixture", "fp32", **QUICK), 60)]
    return [Item(f"step of {p} {q}", lambda p=p, q=q: check(p, q, BATCH), 60) for p, q in SUITES]


def check(preset: str, precision: str, batch: int, **changes: Any) -> list[Row]:
    """Rows for the first step's agreement, and for the bytes of further ones."""
    host = runs.stepper(preset, "cpu", "fp32", batch, **changes)
    host.step(0)
    wanted, told = gradients(host), runs.results(host)
    eager = runs.stepper(preset, "cuda", precision, batch, graph=False, **changes)
    eager.step(0)
    found, said = gradients(eager), runs.results(eager)
    whole, single, loss = ALLOWED[precision]
    shares = {f"gradient of {name}": distance(found[name], wanted[name]) / single for name in wanted}
    for player in ("adam_d", "adam_g"):
        shares[f"gradient of {player}"] = distance(vector(found, player), vector(wanted, player)) / whole
    for name in ("loss_d", "loss_g"):
        shares[name] = abs(said[name] - told[name]) / abs(told[name]) / loss
    worst = max(shares.values())
    about = {"kernel": f"step of {preset}", "call": f"step of {preset} {precision}", "precision": precision, "runs": 3}
    row: Row = about | {"used": worst, "shares": shares, "said": said, "told": told}
    moved, how = repeated(preset, precision, batch, eager, **changes)
    return [row | {"moved": moved, "how": how, "bad": not worst <= 1 or moved > 0}]


def gradients(stepper: Any) -> dict[str, np.ndarray]:
    """By name, from Adam's first moments after the first step."""
    trainer, state = stepper.trainer, runs.state_of(stepper)
    factor = {f"adam_{player}": 1 - adam.settings.beta1 for player, adam in trainer.adams.items()}
    return {n: a / factor[n.split("/")[0]] for n, a in state.items() if n.split("/")[:2][-1] == "m"}


def vector(gradients: dict[str, np.ndarray], player: str) -> np.ndarray:
    """A player's gradient end to end."""
    return np.concatenate([a.ravel() for name, a in gradients.items() if name.startswith(player)])


def repeated(preset: str, precision: str, batch: int, eager: Any, **changes: Any) -> tuple[int, list[str]]:
    """How many of the other runs end with other bytes than the eager one, which is taken further here."""
    for number in range(1, STEPS):
        eager.step(number)
    wanted = runs.state_of(eager)
    how = []
    for graph in (False, True):
        other = runs.stepper(preset, "cuda", precision, batch, graph=graph, **changes)
        for number in range(STEPS):
            other.step(number)
        found = runs.state_of(other)
        if any(found[name].tobytes() != wanted[name].tobytes() for name in wanted):
            how.append("captured" if graph else "eager again")
    return len(how), how
