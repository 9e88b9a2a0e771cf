"""Data sets behind one interface: `open_dataset` finds, fetches and prepares, `Dataset` hands out batches.

    from alikit.data import EpochOrder, open_dataset

    train = open_dataset("svhn")
    order = EpochOrder(len(train), batch_size=100, seed=0)
    images = train.take(order.batch_indices(step=0))   # (100, 32, 32, 3) uint8

The room knows arrays and files, no Tensors and no kernels. Only NumPy is imported until a set is opened.
"""

from alikit.data.catalogue import SPLITS, TERMS, check_options, held_out_split, judging_split, open_dataset
from alikit.data.dataset import Dataset
from alikit.data.labels import CLASSED, LABELS
from alikit.data.order import EpochOrder, balanced_set

__all__ = [
    "CLASSED",
    "LABELS",
    "SPLITS",
    "TERMS",
    "Dataset",
    "EpochOrder",
    "balanced_set",
    "check_options",
    "held_out_split",
    "judging_split",
    "open_dataset",
]
