"""House numbers drawn by the program itself (`--data synthetic`), for trying things out without a download.

`alikit.data.synthetic` draws image after image of one endless sequence per seed. The splits are consecutive stretches
of it, as long as SVHN's: they share no image. Images are drawn when a batch first asks for them, so that the first
step of a demo does not wait for 73,257 drawings, and kept, because the next epoch asks again.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike

from alikit.data.dataset import Dataset

LENGTHS = {"train": 73_257, "test": 26_032, "extra": 531_131}
SIDE = 32
_PROBE = 8  # so many images stand for the look of the drawing in the checksum


class DrawnDigits(Dataset):
    """A stretch of the drawn house numbers, as a set that grows as it is used."""

    def __init__(self, split: str, seed: int) -> None:
        splits = list(LENGTHS)
        self.seed = seed
        self.first = sum(LENGTHS[s] for s in splits[: splits.index(split)])  # its place in the endless sequence
        count = LENGTHS[split]
        super().__init__(
            name="svhn",
            split=split,
            source=f"drawn by alikit, seed {seed}",
            checksum="",
            images=np.zeros((count, SIDE, SIDE, 3), np.uint8),  # untouched pages of zeros take no memory
            label_names=tuple("0123456789"),
        )
        self._digits = np.zeros(count, np.uint8)
        self._drawn = np.zeros(count, bool)
        text = f"alikit house numbers, seed {seed}, {self.first}..{self.first + count}: ".encode()
        self.checksum = hashlib.sha256(text + self.take(np.arange(_PROBE)).tobytes()).hexdigest()

    @property
    def array(self) -> np.ndarray | None:
        return self.images if self._drawn.all() else None

    def take(self, indices: ArrayLike) -> np.ndarray:
        self._draw(self._checked(indices))
        return super().take(indices)

    def labels_of(self, indices: ArrayLike) -> np.ndarray:
        self._draw(self._checked(indices))
        return self._digits[self._checked(indices)]

    def _draw(self, indices: np.ndarray) -> None:
        """Draw those of `indices` that have not been asked for before."""
        from alikit.data.synthetic import draw

        for index in np.unique(indices[~self._drawn[indices]]).tolist():
            self.images[index], self._digits[index] = draw(self.seed, self.first + index)
            self._drawn[index] = True
