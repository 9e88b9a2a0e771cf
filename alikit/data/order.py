"""The order in which an epoch visits the images: a fresh permutation each time, known from (seed, epoch) alone.

Nothing has to be stored to resume: the batch of any step follows from the seed and the step. The permutation sorts
64-bit numbers of the counter-based generator Philox (Salmon et al., SC 2011), seeded by (seed, epoch). NumPy promises
that its raw bits never change, which it does not promise for `Generator.permutation`: a run continued after an
upgrade of NumPy sees the same batches. Ties, of probability n^2 / 2^65, are settled by the stable sort.
"""

import numpy as np

from alikit.errors import DataError, UsageError


class EpochOrder:
    """Shuffled mini-batches of `n` images; the last, smaller batch of an epoch is used as it is.

    >>> order = EpochOrder(n=250, batch_size=100, seed=0)
    >>> [len(order.batch_indices(step)) for step in range(4)]
    [100, 100, 50, 100]
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        """`seed` is any integer from 0 up. UsageError where the batch is larger than the data."""
        if n < 1 or batch_size < 1 or seed < 0:
            raise ValueError(f"EpochOrder: n and batch_size from 1, seed from 0, found {n}, {batch_size} and {seed}")
        if batch_size > n:
            raise UsageError(
                f"a batch of {batch_size:,} is larger than the data ({n:,}): choose a smaller --batch-size"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.steps_per_epoch = -(-n // batch_size)
        self._epoch = -1
        self._permutation = np.empty(0, np.int64)

    def batch_indices(self, step: int) -> np.ndarray:
        """The images of global step 0, 1, ...: (B,) int64, B = batch_size but for the last batch of an epoch."""
        if step < 0:
            raise ValueError(f"batch_indices: step from 0, found {step}")
        epoch, batch = divmod(step, self.steps_per_epoch)
        return self.permutation(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size].copy()

    def permutation(self, epoch: int) -> np.ndarray:
        """All images in the order of epoch 0, 1, ...: (n,) int64, kept until another epoch is asked for."""
        if epoch != self._epoch:
            bits = np.random.Philox(np.random.SeedSequence([self.seed, epoch])).random_raw(self.n)
            self._epoch, self._permutation = epoch, np.argsort(bits, kind="stable")
        return self._permutation


def balanced_set(labels: np.ndarray, count: int, number: int, seed: int) -> np.ndarray:
    """Set 0, 1, ... of `count` images, as many of each class: (count,) indices into labels: (n,), class by class.

    The same for a seed. DataError where a class has too few images; `count` is a multiple of the classes.
    """
    classes = np.unique(labels)
    each, picked = count // len(classes), []
    for label in classes:
        rows = np.flatnonzero(labels == label)
        if len(rows) < each:
            raise DataError(f"class {label} has {len(rows)} images to choose from; {each} are wanted")
        order = EpochOrder(len(rows), each, seed)
        picked.append(rows[order.batch_indices(number * order.steps_per_epoch)])
    return np.concatenate(picked)
