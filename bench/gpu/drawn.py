"""A data folder of house numbers drawn by alikit, prepared as SVHN's own files would be: what training and resume run
on where no real data are given.

Some thousands are drawn, by all cores, and repeated to a set that is gathered from at random as a real one is. What is
timed does not depend on what the pictures show.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from alikit.data import cache
from alikit.data.reporting import Report
from alikit.data.synthetic import SIDE, draw
from bench.gpu.compiling import jobs

#: split -> images drawn, times they are repeated
SPLITS = {"train": (24_000, 4), "test": (1_000, 1)}
QUICK = {"train": (40, 1), "test": (10, 1)}
BLOCK = 500


def prepare(folder: Path, quick: bool = False) -> Path:
    """Draws and writes what is not there yet; returns the folder, for `--data`."""
    for split, (count, times) in (QUICK if quick else SPLITS).items():
        path = folder / "svhn" / f"svhn-{split}.h5"
        if not path.exists():
            images = drawn(1 if split == "train" else 2, count, 1 if quick else jobs())
            content = cache.Content((count * times, SIDE, SIDE, 3), lambda a=images, n=times: repeated(a, n))
            cache.write(path, f"drawn for {split}", content, Report(quiet=True))
    return folder


def repeated(images: np.ndarray, times: int) -> Iterator[np.ndarray]:
    """The same images again and again."""
    for _ in range(times):
        yield images


def drawn(seed: int, count: int, processes: int) -> np.ndarray:
    """(count, 32, 32, 3) uint8."""
    starts = range(0, count, BLOCK)
    if processes == 1:
        parts = [block(seed, start, min(BLOCK, count - start)) for start in starts]
    else:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(block, *zip(*((seed, a, min(BLOCK, count - a)) for a in starts), strict=True)))
    return np.ascontiguousarray(np.concatenate(parts))


def block(seed: int, start: int, count: int) -> np.ndarray:
    """Consecutive pictures of a series."""
    return np.stack([draw(seed, start + i)[0] for i in range(count)])
