"""CelebA, 64x64 (paper, appendix A; method 2.4).

celeba         the authors' code: D(x)'s first layer has a bias and no batch norm, dropout 0.2 throughout D(x)
celeba-paper   the paper's table: batch norm on D(x)'s first layer, no dropout in D(x)
"""

from dataclasses import replace

from alikit.models.table import ModelSpec, Row

# fmt: off
ENCODER = (
    #    op      kernel stride maps size norm   dropout bias    nonlinearity
    Row("conv",  2,     1,     64,  63,  True,  0.0,    None,   "leaky"),
    Row("conv",  7,     2,     128, 29,  True,  0.0,    None,   "leaky"),
    Row("conv",  5,     2,     256, 13,  True,  0.0,    None,   "leaky"),
    Row("conv",  7,     2,     256, 4,   True,  0.0,    None,   "leaky"),
    Row("conv",  4,     1,     512, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     512, 1,   False, 0.0,    "tied", "linear"),
)
DECODER = (
    Row("tconv", 4,     1,     512, 4,   True,  0.0,    None,   "leaky"),
    Row("tconv", 7,     2,     256, 13,  True,  0.0,    None,   "leaky"),
    Row("tconv", 5,     2,     256, 29,  True,  0.0,    None,   "leaky"),
    Row("tconv", 7,     2,     128, 63,  True,  0.0,    None,   "leaky"),
    Row("tconv", 2,     1,     64,  64,  True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     3,   64,  False, 0.0,    "untied", "sigmoid"),
)
DISC_X = (
    Row("conv",  2,     1,     64,  63,  False, 0.2,    "tied", "leaky"),
    Row("conv",  7,     2,     128, 29,  True,  0.2,    None,   "leaky"),
    Row("conv",  5,     2,     256, 13,  True,  0.2,    None,   "leaky"),
    Row("conv",  7,     2,     256, 4,   True,  0.2,    None,   "leaky"),
    Row("conv",  4,     1,     512, 1,   True,  0.2,    None,   "leaky"),
)
DISC_Z = (
    Row("conv",  1,     1,     1024, 1,  False, 0.2,    None,   "leaky"),
    Row("conv",  1,     1,     1024, 1,  False, 0.2,    None,   "leaky"),
)
DISC_XZ = (
    Row("conv",  1,     1,     2048, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     2048, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     1,   1,   False, 0.2,    "tied", "linear"),
)
# fmt: on

CELEBA = ModelSpec("celeba", (64, 64, 3), 256, 0.02, ENCODER, DECODER, DISC_X, DISC_Z, DISC_XZ)
CELEBA_PAPER = replace(
    CELEBA,
    name="celeba-paper",
    disc_x=(
        DISC_X[0]._replace(norm=True, bias=None, dropout=0.0),
        *(row._replace(dropout=0.0) for row in DISC_X[1:]),
    ),
)
