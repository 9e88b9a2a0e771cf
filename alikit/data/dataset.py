"""One interface for all data sets: how many there are, what they look like, and batches of them by index.

Images are NHWC uint8 as they were published; the networks see them divided by 255. The mixture's points are (N, 2)
float32. A set lies in memory as one array where it fits (`array`), else it is mapped from its prepared file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


@dataclass(eq=False, kw_only=True)
class Dataset:
    """One split of one data set.

    name, split     what was asked for, as in "svhn", "train"
    source          where it came from, in a line for people
    checksum        SHA-256 (hex) of the content: the bytes of all images in order, then those of the labels. The same
                    images give the same checksum, whether they came from a folder, an archive or a cache
    images          (N, H, W, 3) uint8, C-contiguous, in memory or mapped; the mixture: (N, 2) float32
    labels          (N,) uint8 classes, (N, 40) uint8 attributes of CelebA (1: present), or None: without labels,
                    or drawn as they are asked for (`labels_of`)
    label_names     the names of the classes or attributes, where the set gives them
    published       whether the source files are the published ones to the last bit; None: nothing to compare with
    cache           the HDF5 file of the prepared images, if there is one
    """

    name: str
    split: str
    source: str
    checksum: str
    images: np.ndarray
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    published: bool | None = None
    cache: Path | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self):,} of {self.shape}, from {self.source}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one element: (H, W, 3), or (2,) for the mixture."""
        return self.images.shape[1:]

    @property
    def array(self) -> np.ndarray | None:
        """The whole set where it lies in memory, else None: too large, or not drawn yet. Not to be written to."""
        return None if isinstance(self.images, np.memmap) else self.images

    def take(self, indices: ArrayLike) -> np.ndarray:
        """A batch: (B, H, W, 3) uint8, a copy; the mixture: (B, 2) float32. IndexError outside 0..N-1,
        TypeError for what is no integer (a mask: np.flatnonzero makes indices of it)."""
        return np.take(np.asarray(self.images), self._checked(indices), axis=0)

    def labels_of(self, indices: ArrayLike) -> np.ndarray | None:
        """The labels of a batch: (B,) or (B, 40) uint8; None for a set without labels."""
        return None if self.labels is None else np.take(self.labels, self._checked(indices), axis=0)

    def _checked(self, indices: ArrayLike) -> np.ndarray:
        """Indices as an array, none of them negative: counted from the end they would hide an error of the caller."""
        found = np.asarray(indices)
        if found.size and found.dtype.kind not in "iu":
            raise TypeError(f"{self.name} {self.split}: indices are {found.dtype}, wanted integers")
        if found.size and not 0 <= found.min() <= found.max() < len(self):
            raise IndexError(f"{self.name} {self.split}: index {found.min()}..{found.max()} outside 0..{len(self) - 1}")
        return found.astype(np.int64, copy=False)
