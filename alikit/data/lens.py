"""What a camera, a small crop and JPEG do to a scene: the last step of a drawn house number (see `synthetic`).

SVHN's crops were cut out of street photographs at whatever size the digit had there, often fewer pixels than 32, and
enlarged. Blur, reduction and enlargement are linear and separable, so each is a matrix per axis,

    low = A_y scene A_x^T,    low <- JPEG(low + noise),    picture = U low U^T,

and so is JPEG's block transform: quantising means rounding D low D^T to multiples of a step that grows with frequency.
"""

from functools import cache
from itertools import pairwise

import numpy as np

_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_RGB = np.linalg.inv(_YCC)
_BLURS = 16  # blur widths are multiples of 1 / _BLURS pixels: few enough matrices to keep
_BLOCK = 8


def photograph(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """A photograph of `scene`: blurred, sampled, noisy, compressed, enlarged again.

    scene: (3, N, N), 0 black to 1 white, RGB. Returns (N, N, 3) uint8.
    """
    side = scene.shape[1]
    pixels = min(side, int(np.exp(rng.uniform(np.log(14.0), np.log(44.0)))))
    shrink_y, shrink_x = _shrink(rng, side, pixels)
    scene = _fringed(scene, step=float(np.clip(0.35 * rng.standard_normal(), -1.0, 1.0)))
    ycc = (_YCC @ scene.reshape(3, -1)).reshape(scene.shape)
    low = shrink_y @ ycc @ shrink_x.T + _noise(rng, pixels)
    low = _jpeg(low, coarseness=rng.uniform(0.15, 0.9), phase=int(rng.integers(_BLOCK)))
    enlarge = _resize(pixels, side)
    rgb = _RGB @ (enlarge @ low @ enlarge.T).reshape(3, -1)
    picture = np.clip(rgb * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    return np.ascontiguousarray(picture.reshape(scene.shape).transpose(1, 2, 0))


def _shrink(rng: np.random.Generator, side: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (pixels, side) along y and x that blur, sharpen and reduce to `pixels`."""
    blur = min(1.8, 0.88 * np.exp(0.34 * rng.standard_normal()))
    stretch = np.exp(0.08 + 0.15 * rng.standard_normal())  # a shaken camera blurs one axis more
    halo = 0.5 * max(0.0, rng.standard_normal())  # and its sharpening leaves a rim
    blurs = [
        (_gaussian(side, round(_BLURS * b)), _gaussian(side, round(2 * _BLURS * b)))
        for b in (blur * stretch, blur / stretch)
    ]
    first, second = (_resize(side, pixels) @ (sharp + halo * (sharp - soft)) for sharp, soft in blurs)
    return first, second


def _fringed(scene: np.ndarray, step: float) -> np.ndarray:
    """`scene` with red moved `step` pixels (-1..1) to the right and blue to the left: a lens's lateral colour."""
    fringed = scene.copy()
    for channel, shift in ((0, step), (2, -step)):
        change = abs(shift) * np.diff(scene[channel], axis=1)
        if shift > 0:
            fringed[channel, :, 1:] -= change
        else:
            fringed[channel, :, :-1] += change
    return fringed


def _noise(rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Sensor noise (3, pixels, pixels) in YCbCr: fine in luma, blotchy in chroma, as a colour filter array makes it."""
    amount = 0.007 * np.exp(0.6 * rng.standard_normal())
    noise = rng.standard_normal((3, pixels, pixels)) * amount
    smooth = _gaussian(pixels, round(1.2 * _BLURS))
    noise[1:] = 2.5 * (smooth @ noise[1:] @ smooth.T)
    return noise


def _jpeg(low: np.ndarray, coarseness: float, phase: int) -> np.ndarray:
    """`low` (3, P, P) in YCbCr through JPEG's quantisation; `coarseness` 1 is about quality 50."""
    transform, frequency = _blocks(low.shape[1], phase)
    spectrum = transform @ low @ transform.T
    order = frequency[:, None] + frequency
    luma, chroma = coarseness / 255.0 * (10.0 + 6.0 * order), coarseness / 255.0 * (17.0 + 14.0 * order)
    spectrum[0] = luma * np.rint(spectrum[0] / luma)
    kept = np.maximum(frequency[:, None], frequency) < _BLOCK // 2  # chroma is stored at half the resolution
    spectrum[1:] = np.where(kept, chroma * np.rint(spectrum[1:] / chroma), 0.0)
    return transform.T @ spectrum @ transform


@cache
def _blocks(pixels: int, phase: int) -> tuple[np.ndarray, np.ndarray]:
    """The orthonormal DCT-II of 8-pixel blocks, the first cut by `phase`: matrix (P, P), frequency of each row (P,)."""
    transform, frequency = np.zeros((pixels, pixels)), np.zeros(pixels)
    edges = sorted({0, *range(_BLOCK - phase, pixels, _BLOCK), pixels})
    for first, last in pairwise(edges):
        n = last - first
        k, i = np.arange(n)[:, None], np.arange(n)
        rows = np.sqrt(2.0 / n) * np.cos(np.pi * k * (2 * i + 1) / (2 * n))
        rows[0] = np.sqrt(1.0 / n)
        transform[first:last, first:last] = rows
        frequency[first:last] = np.arange(n) * (_BLOCK / n)
    return transform, frequency


@cache
def _gaussian(side: int, sigma: int) -> np.ndarray:
    """Gaussian blur along one axis, `sigma` in 1 / _BLURS pixels: (side, side), rows sum to 1."""
    distance = np.arange(side)[:, None] - np.arange(side)
    return _normalised(np.exp(-0.5 * (distance * (_BLURS / max(sigma, 1))) ** 2))


@cache
def _resize(old: int, new: int) -> np.ndarray:
    """Cubic resampling (Keys 1981, a = -1/2), widened when it reduces: (new, old), rows sum to 1."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    t = abs(centres[:, None] - np.arange(old)) / max(scale, 1.0)
    near, far = 1.0 + t * t * (1.5 * t - 2.5), 2.0 + t * (-4.0 + t * (2.5 - 0.5 * t))
    return _normalised(np.where(t < 1.0, near, np.where(t < 2.0, far, 0.0)))


def _normalised(rows: np.ndarray) -> np.ndarray:
    return rows / rows.sum(axis=1, keepdims=True)
