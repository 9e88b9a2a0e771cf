"""How much of an image survives encoding and decoding, and whether the encoder is listened to at all."""

import numpy as np


def squared_errors(x: np.ndarray, x_rec: np.ndarray) -> np.ndarray:
    """x, x_rec: (N, ...) in [0, 1] (uint8 counts as x / 255) -> (N,) float64: mean over pixels of (x - x_rec)^2."""
    x, x_rec = _flat(x, x_rec)
    return np.square(x - x_rec).mean(axis=1)


def reconstruction_error(x: np.ndarray, x_rec: np.ndarray) -> float:
    """The mean squared error: mean over the images of `squared_errors`."""
    return float(squared_errors(x, x_rec).mean())


def reconstruction_ratio(x: np.ndarray, x_rec: np.ndarray) -> float:
    """The error of x_i against its own reconstruction, divided by that against the reconstruction of another image.

        mean_i |x_i - r_i|^2  /  mean_{i != j} |x_i - r_j|^2,      x, x_rec: (N, ...), N at least 2

    0 is perfect; 1 means that the encoder is ignored: a reconstruction is no closer to its image than to any other.
    It may exceed 1 by chance. This is BiGAN's health check (Donahue et al. 2017), which compares distances and not
    their squares: the square root of this ratio is about its figure of 0.62.

    The mean runs over all pairs instead of one random pairing, so it has no noise and needs no seed. It costs one pass:
    with the mean image subtracted from both, the sum over all i, j of |x_i - r_j|^2 is N sum |x_i|^2 + N sum |r_j|^2,
    because the cross terms are (sum x_i) . r_j = 0.

    NaN if all images and all reconstructions are equal.
    """
    x, x_rec = _flat(x, x_rec)
    count = len(x)
    if count < 2:
        raise ValueError("reconstruction_ratio: there is no other image; wanted at least 2")
    centre = x.mean(axis=0)
    x, x_rec = x - centre, x_rec - centre
    own = np.square(x - x_rec).sum()
    every = count * (np.square(x).sum() + np.square(x_rec).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((own / count) / ((every - own) / (count * (count - 1))))


def mean_pair_error(x: np.ndarray) -> float:
    """The mean squared error of each image against another one: mean over i != j of |x_i - x_j|^2, a pixel.

    x: (N, ...), N at least 2. It is what a reconstruction has that is a real image, but not of the right thing.
    """
    flat, _ = _flat(x, x)
    count = len(flat)
    if count < 2:
        raise ValueError("mean_pair_error: there is no other image; wanted at least 2")
    return float(2 * flat.var(axis=0, ddof=1).mean())


def _flat(x: np.ndarray, x_rec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N, pixels) float64 in [0, 1]: uint8 differences would wrap, float32 sums would round."""
    if x.shape != x_rec.shape or x.ndim < 2 or not x.size:
        raise ValueError(
            f"reconstruction: x is {x.shape} and x_rec {x_rec.shape}; wanted the same (N, ...), N at least 1"
        )
    first, second = (
        array.reshape(len(array), -1).astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
        for array in (x, x_rec)
    )
    return first, second
