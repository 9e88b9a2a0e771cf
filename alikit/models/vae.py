"""A variational autoencoder with ALI's encoder and decoder (Kingma & Welling 2014; method 5.3).

The encoder is Gaussian on every data set. ALI's encoder of the mixture, a network of [x, eps], has no density that the
bound could use; here its hidden layers read x alone and emit mu and log sigma.
"""

from __future__ import annotations

import numpy as np

from alikit.autograd import Tensor
from alikit.models.generative import Generative, gaussian
from alikit.models.table import ModelSpec
from alikit.nn import Pass


class VAE(Generative):
    """Encoder and decoder of one data set; arguments as for `ALI`."""

    def __init__(self, spec: ModelSpec, *, seed: int = 0, dtype: type = np.float32):
        super().__init__(gaussian(spec), seed=seed, dtype=dtype)

    def see(self, x: Tensor, how: Pass) -> None:
        """As in training, the decoder sees the encoder's codes, none of the prior's."""
        self.decode(self.encode(x, how), how)
