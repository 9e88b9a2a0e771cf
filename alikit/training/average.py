"""Looking at averaged weights: the moving average of encoder and decoder, with batch statistics that go with it.

Running statistics describe the weights as they are, not their average: with the one under the other, pictures lose
contrast or burn out. So the statistics of the averaged weights are taken afresh, over fixed images and fixed codes, as
the mean of the batch statistics of a few passes in training mode: what the running ones are to the current weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from alikit.autograd import Tensor, no_grad
from alikit.backend import array_module, from_host
from alikit.models import Generative
from alikit.nn import BatchNormLeakyReLU, Pass
from alikit.training.step import Trainer

BATCH = 100


@contextmanager
def for_looking(trainer: Trainer) -> Iterator[None]:
    """Inside, the model is as it should be looked at: averaged if the trainer averages, else as it is; no graph."""
    with no_grad():
        if trainer.ema is None:
            yield
            return
        norms = _norms(trainer.model)
        before = [norm.buffers for norm in norms.values()]
        with trainer.ema.applied():
            if trainer.reference is not None:  # else the running statistics have to do
                found = _statistics(trainer.model, trainer.reference, trainer.precision, trainer.reference_y)
                for norm, buffers in zip(norms.values(), found, strict=True):
                    norm.buffers = buffers
            try:
                yield
            finally:
                for norm, buffers in zip(norms.values(), before, strict=True):
                    norm.buffers = buffers


def statistics(trainer: Trainer) -> dict[str, Any]:
    """Name -> array of encoder's and decoder's population statistics as they are looked at, for a checkpoint."""
    with for_looking(trainer):
        norms = _norms(trainer.model).items()
        return {f"{name}.{key}": array for name, norm in norms for key, array in norm.buffers.items()}


def settle(model: Generative, images: Any) -> None:
    """Gives encoder and decoder of a model that was never trained the population statistics of its own activations.

    Without them every layer shrinks its input by a factor of ten or more. images: as in `_statistics`
    """
    with no_grad():
        for norm, buffers in zip(_norms(model).values(), _statistics(model, images), strict=True):
            norm.buffers = buffers


def place(model: Generative, x: np.ndarray) -> Tensor:
    """Images, codes or conditions in host memory as the model takes them: where its parameters lie, of its dtype."""
    if array_module(model.decoder.layers[0].conv.weight.data) is np:
        return Tensor(x)
    return Tensor(from_host(x, model.dtype, activation=True))


def given(model: Generative, y: np.ndarray | None, start: int, stop: int) -> tuple[Any, ...]:
    """The further argument of a conditional model's methods for rows [start, stop); none for another model."""
    return () if y is None else (place(model, y[start:stop]),)


def _norms(model: Generative) -> dict[str, BatchNormLeakyReLU]:
    """Batch norms of the averaged networks by the names of their buffers."""
    return {
        f"{network}.{name}": module
        for network in model.trained
        for name, module in getattr(model, network).named_modules()
        if isinstance(module, BatchNormLeakyReLU)
    }


def _statistics(
    model: Generative, images: Any, precision: str = "fp32", conditions: Any = None
) -> list[dict[str, Any]]:
    """For each batch norm, the mean over batches of its batch statistics.

    images   (N, H, W, C) training images in host memory, N at least 2;  conditions: (N, 1, 1, A), if there are any
    """
    norms = list(_norms(model).values())
    starts = range(0, max(len(images) - BATCH, 0) + 1, BATCH)
    sums: list[tuple[Any, Any]] = [(0.0, 0.0)] * len(norms)
    for start in starts:
        how = Pass(training=True, step=start, precision=precision)
        part = place(model, images[start : start + BATCH])
        model.see(part, how, *given(model, conditions, start, start + BATCH))
        sums = [(m + norm.seen[0], s + 1 / norm.seen[1]) for (m, s), norm in zip(sums, norms, strict=True) if norm.seen]
        for norm in norms:
            norm.seen = None
    return [{"running_mean": m / len(starts), "running_std": s / len(starts)} for m, s in sums]
