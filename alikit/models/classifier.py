"""The small classifier on whose features samples are judged. Not the paper's: a convolutional network of five layers.

Scores need features of some network that knows the data. The usual one is a downloaded Inception; alikit trains its own
on the labels of the same data instead (`training/classifier.py`), so that scores need no download, and are comparable
wherever the hash of its weights is the same. It shares no weights and no code path with ALI's encoder and D: a network
must not be judged by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alikit.autograd import Tensor
from alikit.models.table import ModelSpec, Row, Table, build_network
from alikit.nn import Module, Pass

#: size of the features: small, because the Frechet distance's bias grows with its square
FEATURES = 128

# fmt: off
_DEEP = (
    #   op      kernel stride maps size norm  dropout bias  nonlinearity
    Row("conv", 3,     1,     64,  13,  True, 0.0,    None, "leaky"),
    Row("conv", 3,     2,     128, 6,   True, 0.0,    None, "leaky"),
    Row("conv", 3,     1,     128, 4,   True, 0.0,    None, "leaky"),
    Row("conv", 4,     1,     FEATURES, 1, True, 0.0, None, "leaky"),
)
#: by the side of the images: from their pixels to 15x15
STEMS: dict[int, Table] = {
    32: (Row("conv", 4, 2, 48, 15, True, 0.0, None, "leaky"),),
    64: (
        Row("conv", 4, 2, 24, 31, True, 0.0, None, "leaky"),
        Row("conv", 3, 2, 48, 15, True, 0.0, None, "leaky"),
    ),
}
# fmt: on


class Classifier(Module):
    """Images to logits, and to the features before them.

    image   (H, W, C), H = W = 32 or 64;  classes: number of logits;  seed: of the initial weights

    ValueError for images of another size.
    """

    def __init__(self, image: tuple[int, int, int], classes: int, *, seed: int = 0, dtype: type = np.float32):
        super().__init__()
        if image[0] not in STEMS or image[0] != image[1]:
            sides = " or ".join(str(side) for side in STEMS)
            raise ValueError(f"classifier: images are {image}; wanted sides of {sides}")
        spec = ModelSpec("classifier", image, 0, 0.1, (), (), (), (), (), std=0.05)
        table = (*STEMS[image[0]], *_DEEP)
        self.body, width = build_network("classifier.body", spec, table, image, seed, dtype)
        head = (Row("conv", 1, 1, classes, 1, False, 0.0, "tied", "linear"),)
        self.head, _ = build_network("classifier.head", spec, head, (1, 1, width), seed, dtype)

    def features(self, x: Tensor, how: Pass) -> Tensor:
        """x: (N, H, W, C) in [0, 1] -> (N, 1, 1, FEATURES), the last hidden layer."""
        return self.body(x, how)

    def __call__(self, x: Tensor, how: Pass) -> tuple[Any, Any]:
        """x: (N, H, W, C) in [0, 1] -> features (N, 1, 1, FEATURES) and logits (N, 1, 1, classes)."""
        features = self.features(x, how)
        return features, self.head(features, how)
