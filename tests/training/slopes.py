"""Whether a game's gradients are the slopes of its losses."""

from typing import Any

import numpy as np
import pytest

from alikit.nn import Pass
from alikit.training.games import Batch


def figures(game: Any, played: Any) -> dict[str, float]:
    """A game's figures by name."""
    return dict(zip(game.result._fields, game.figures(played).tolist(), strict=False))


def check_slopes(game: Any, x: np.ndarray, how: Pass, reconstruction: float = 0.0) -> None:
    """Along its gradient g a player's loss falls by |g|^2 a unit: a central difference of whole passes.

    reconstruction   weight of the images' own error in the generators' loss
    """
    players = {name: [p for _, p in named] for name, named in game.players().items()}
    moves = game.gradients(game.play(Batch(x), how), players)
    for player, parameters in players.items():
        loss = f"loss_{player}" if "d" in players else "loss"
        squares = sum(float((g**2).sum()) for g in moves[player])
        assert squares > 1e-8
        ends = []
        for sign in (1, -1):
            width = sign * 1e-6 / np.sqrt(squares)
            for p, g in zip(parameters, moves[player], strict=True):
                p.data[...] += width * g
            found = figures(game, game.play(Batch(x), how))
            ends.append(found[loss] + (reconstruction * found["loss_r"] if reconstruction and player == "g" else 0.0))
            for p, g in zip(parameters, moves[player], strict=True):
                p.data[...] -= width * g
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(np.sqrt(squares), rel=2e-3)
