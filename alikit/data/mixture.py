"""The 2-D toy of the paper: a grid of 25 narrow Gaussians, on which one sees which modes a model drops.

Means on {-4, -2, 0, 2, 4}^2, covariance 0.05^2 I, equal weights, 100,000 points (paper section 4.5 and the authors'
code). The authors' code gives training and validation the same seed and so the same points; here the splits are
different draws.
"""

import hashlib
from itertools import product

import numpy as np

from alikit.data.dataset import Dataset

POINTS = 100_000
SIGMA = 0.05
MEANS = np.array(list(product((-4, -2, 0, 2, 4), repeat=2)), np.float32)  # (25, 2)
SPLITS = ("train", "valid")


def open_mixture(split: str, seed: int) -> Dataset:
    """100,000 points: `images` (N, 2) float32, `labels` (N,) uint8, the Gaussian 0..24 (row of MEANS) of each."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, SPLITS.index(split)])))
    modes = rng.integers(len(MEANS), size=POINTS, dtype=np.uint8)
    points = MEANS[modes] + np.float32(SIGMA) * rng.standard_normal((POINTS, 2), np.float32)
    return Dataset(
        name="mixture",
        split=split,
        source=f"drawn: 25 Gaussians on {{-4,-2,0,2,4}}^2, sigma {SIGMA}, seed {seed}",
        checksum=hashlib.sha256(points.tobytes() + modes.tobytes()).hexdigest(),
        images=points,
        labels=modes,
    )
