"""CIFAR-10, 32x32 (paper, appendix A; method 2.3): SVHN's encoder and decoder, D of maxout without batch norm.

Readings of the discriminator, of which nobody knows which one the published figures come from:

    cifar10          the authors' code: maps are counted before maxout, biases of D(x) are tied
    cifar10-untied   the same with a bias for each map and position in D(x), as an older Blocks made them
    cifar10-paper    the paper's table: maps are counted after maxout, so that the head receives 1024

The code's slipped dropout slice (it misses the inputs of D(x)'s third and fourth layers) is not reproduced: the rates
are the paper's.
"""

from dataclasses import replace

from alikit.models.svhn import DECODER, ENCODER
from alikit.models.table import ModelSpec, Row, Table

# fmt: off
DISC_X = (
    #    op      kernel stride maps size norm   dropout bias    nonlinearity
    Row("conv",  5,     1,     32,  28,  False, 0.2,    "tied", "maxout"),
    Row("conv",  4,     2,     64,  13,  False, 0.5,    "tied", "maxout"),
    Row("conv",  4,     1,     128, 10,  False, 0.5,    "tied", "maxout"),
    Row("conv",  4,     2,     256, 4,   False, 0.5,    "tied", "maxout"),
    Row("conv",  4,     1,     512, 1,   False, 0.5,    "tied", "maxout"),
)
DISC_Z = (
    Row("conv",  1,     1,     512, 1,   False, 0.2,    None,   "maxout"),
    Row("conv",  1,     1,     512, 1,   False, 0.5,    None,   "maxout"),
)
DISC_XZ = (
    Row("conv",  1,     1,     1024, 1,  False, 0.5,    "tied", "maxout"),
    Row("conv",  1,     1,     1024, 1,  False, 0.5,    "tied", "maxout"),
    Row("conv",  1,     1,     1,   1,   False, 0.5,    "tied", "linear"),
)
# fmt: on


def _doubled(table: Table) -> Table:
    """The table's maps read as counts after maxout."""
    return tuple(row._replace(maps=2 * row.maps) if row.nonlinearity == "maxout" else row for row in table)


CIFAR10 = ModelSpec(
    "cifar10",
    (32, 32, 3),
    64,
    0.1,
    (*ENCODER[:-1], ENCODER[-1]._replace(maps=128)),
    DECODER,
    DISC_X,
    DISC_Z,
    DISC_XZ,
    pieces=2,
)
CIFAR10_UNTIED = replace(CIFAR10, name="cifar10-untied", disc_x=tuple(row._replace(bias="untied") for row in DISC_X))
CIFAR10_PAPER = replace(
    CIFAR10, name="cifar10-paper", disc_x=_doubled(DISC_X), disc_z=_doubled(DISC_Z), disc_xz=_doubled(DISC_XZ)
)
