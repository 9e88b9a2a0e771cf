"""The 2-D mixture of 25 Gaussians (method 2.6): dense layers as 1x1 convolutions of 1x1 images.

The encoder is no Gaussian but a network of [x, eps]; the discriminator sees [x, z] without towers. The paper prints no
table for this experiment: everything is the authors' code.

    mixture           as the code runs: dropout switched off
    mixture-dropout   with the rates that the code defines and does not use: 0.2 on D's input, 0.5 on its hidden layers
"""

from dataclasses import replace

from alikit.models.table import ModelSpec, Row

# fmt: off
ENCODER = (
    #    op      kernel stride maps size norm   dropout bias    nonlinearity
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     2,   1,   False, 0.0,    "tied", "linear"),
)
DECODER = (
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     400, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     2,   1,   False, 0.0,    "tied", "linear"),
)
DISC_XZ = (
    Row("conv",  1,     1,     1000, 1,  False, 0.0,    "tied", "maxout"),
    Row("conv",  1,     1,     1000, 1,  False, 0.0,    "tied", "maxout"),
    Row("conv",  1,     1,     1000, 1,  False, 0.0,    "tied", "maxout"),
    Row("conv",  1,     1,     1,   1,   False, 0.0,    "tied", "linear"),
)
# fmt: on

MIXTURE = ModelSpec("mixture", (1, 1, 2), 2, 0.0, ENCODER, DECODER, (), (), DISC_XZ, pieces=5, std=0.02, noise=2)
MIXTURE_DROPOUT = replace(
    MIXTURE,
    name="mixture-dropout",
    disc_xz=(DISC_XZ[0]._replace(dropout=0.2), *(row._replace(dropout=0.5) for row in DISC_XZ[1:])),
)
