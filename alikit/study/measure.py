"""What is measured of a finished run: numbers for the table, points for the figure.

    modes_nearest, modes_covered, share_covered     of 10,000 decodings of the prior (`metrics.mixture`)
    reconstruction_error, reconstruction_ratio      of 10,000 held-out points, from one sampled code each
    mmd                                             of their codes from the prior (`metrics.prior`)

The held-out points are a draw of their own, which no run trains on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alikit import inference
from alikit.data import open_dataset
from alikit.data.mixture import MEANS, SIGMA
from alikit.metrics.mixture import mixture_coverage
from alikit.metrics.prior import mmd_to_normal
from alikit.metrics.reconstruction import reconstruction_error, reconstruction_ratio
from alikit.nn import Pass

POINTS = 10_000
DRAWN = 2_500  # in each panel of the figure


def measure(run: Path, data_seed: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The numbers of a run, and (DRAWN, 2) points: codes, reconstructions (no such for a GAN), prior, generated."""
    model = inference.load(run)
    prior = model.networks.prior(POINTS, Pass()).data.reshape(POINTS, -1)
    generated = model.decode(prior).reshape(POINTS, 2)
    numbers = mixture_coverage(generated, MEANS, SIGMA)
    points = {"prior": prior, "generated": generated}
    if model.networks.encodes:
        x, _ = held_out(data_seed)
        codes = model.encode(x.reshape(POINTS, 1, 1, 2))
        rebuilt = model.decode(codes).reshape(POINTS, 2)
        numbers |= {
            "reconstruction_error": reconstruction_error(x, rebuilt),
            "reconstruction_ratio": reconstruction_ratio(x, rebuilt),
            "mmd": mmd_to_normal(codes),
        }
        points |= {"codes": codes, "reconstructions": rebuilt}
    return numbers, {name: array[:DRAWN] for name, array in points.items()}


def held_out(data_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The held-out points (POINTS, 2) and the mode (POINTS,) each was drawn from."""
    dataset = open_dataset("mixture", split="valid", seed=data_seed)
    rows = np.arange(POINTS)
    return dataset.take(rows), np.asarray(dataset.labels_of(rows))


def floor(data_seed: int) -> dict[str, float]:
    """The best that can be had: the numbers of held-out data as samples and of the prior's own draws as codes."""
    x, _ = held_out(data_seed)
    draws = np.random.default_rng(data_seed).standard_normal((POINTS, 2))
    return mixture_coverage(x, MEANS, SIGMA) | {"mmd": mmd_to_normal(draws)}
