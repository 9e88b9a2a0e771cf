"""How many modes of a Gaussian mixture a generator covers.

The paper's count (its toy study, 25 modes) is lenient: a sample belongs to the component of largest responsibility,
however far away that is, and a mode is dropped only if it gets no sample at all. The stricter count that later work
uses (VEEGAN, PacGAN) admits only samples within 3 standard deviations of a mode. Both assume equal weights and one
isotropic deviation, for which the largest responsibility is that of the nearest mean.
"""

import numpy as np


def mixture_coverage(samples: np.ndarray, means: np.ndarray, std: float, radius: float = 3.0) -> dict[str, float]:
    """samples: (N, k), means: (modes, k), std: of each component ->

    modes_nearest   modes that are the nearest one of at least one sample (the paper's count)
    modes_covered   modes with at least one sample within `radius` standard deviations
    share_covered   share of all samples within `radius` standard deviations of any mode; 0.989 for a 2-D mixture itself

    Samples that are not finite belong to no mode.
    """
    if samples.ndim != 2 or means.ndim != 2 or samples.shape[1] != means.shape[1] or not len(samples):
        raise ValueError(
            f"mixture_coverage: samples {samples.shape}, means {means.shape}; wanted (N, k) and (modes, k)"
        )
    nearest, distance = nearest_mode(samples[np.isfinite(samples).all(axis=1)], means)
    within = distance <= radius * std
    return {
        "modes_nearest": len(np.unique(nearest)),
        "modes_covered": len(np.unique(nearest[within])),
        "share_covered": float(within.sum() / len(samples)),
    }


def nearest_mode(points: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """points: (N, k), means: (modes, k) -> the index of the nearest mean (N,) and the Euclidean distance to it (N,)."""
    gaps = points[:, None, :].astype(np.float64) - means[None, :, :]
    squares = np.square(gaps).sum(axis=2)
    nearest = squares.argmin(axis=1)
    return nearest, np.sqrt(squares[np.arange(len(points)), nearest])
