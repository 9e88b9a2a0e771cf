"""What a Trainer needs of a game: ALI's own, or one of those the paper compares it with (method 5).

    ali       encoder and decoder against D(x, z)               adversarial.py, on objective.py
    gan       decoder against D(x)                              adversarial.py
    posthoc   an encoder against D(x, z), a decoder frozen      adversarial.py
    inverse   an encoder inverts a frozen decoder               fitting.py
    vae       encoder and decoder raise a likelihood's bound    fitting.py

A Trainer knows no losses: it asks its game for one forward pass on a batch, for what to log, and for each player's
gradients.
Models and rules by name: `state.GAMES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from alikit.autograd import Tensor
from alikit.nn import Parameter, Pass

Players = dict[str, list[tuple[str, Parameter]]]
Moves = dict[str, list[Any]]


class Batch(NamedTuple):
    """What one step trains on: arrays of the model's dtype, where its arrays lie.

    x         (M, H, W, C) images in [0, 1]
    y         (M, 1, 1, A) conditions of the same rows, or None
    labelled  (x, y) of a second, independent batch of labelled images: (L, H, W, C) and (L, 1, 1, K), or None
    """

    x: Any
    y: Any = None
    labelled: tuple[Any, Any] | None = None


class Rules(Protocol):
    """What a Trainer needs of a game.

    model    whose parameters move
    result   a step's record, a NamedTuple: what `figures` gives, then grad_norm_<player> for every player

    A class may say straight = True, for itself and not for its subclasses: its steps are nothing but calls of kernels,
    so that on NumPy's arrays, too, they may run as programs (`ops/program.py` says what that means, `replay.py` when it
    is done). `how.step` then is a clock wherever the model lies.
    """

    @property
    def model(self) -> Any: ...

    @property
    def result(self) -> Any: ...

    def players(self) -> Players:
        """Named parameters of each player; each gets an Adam of its own. Averages are kept of "g", if at all."""

    def play(self, batch: Batch, how: Pass) -> Any:
        """One forward pass on a batch; what `figures` and `gradients` want to see of it."""

    def figures(self, played: Any) -> Any:
        """What is logged: (F,) float array where the model's arrays lie, in the order of `result`'s fields, without a
        wait for them. Where one is not finite, training has diverged."""

    def gradients(self, played: Any, parameters: Mapping[str, Sequence[Tensor]]) -> Moves:
        """For each player the gradients of its own loss in its parameters, all at the old parameters."""

    def show(self, result: Any) -> str:
        """A few words about a step, for the person who watches."""
