"""A small ALI for 32x32 images, to be watched from beginning to end on a laptop (`--demo`).

Not the paper's: fewer maps, strides instead of stride-1 layers, a leakier ReLU and larger initial weights, all of which
bring the first legible samples within minutes. The discriminator is much the smaller player: one as wide as the encoder
wins within a hundred steps, after which neither the samples nor the codes improve. Kernels of the decoder's strided
layers are multiples of the stride, so that no checkerboard is built in. The game is the same.
"""

from alikit.models.table import ModelSpec, Row

# fmt: off
ENCODER = (
    #    op      kernel stride maps size norm   dropout bias  nonlinearity
    Row("conv",  4,     2,     32,  15,  True,  0.0,    None, "leaky"),
    Row("conv",  5,     2,     64,  6,   True,  0.0,    None, "leaky"),
    Row("conv",  6,     1,     256, 1,   True,  0.0,    None, "leaky"),
    Row("conv",  1,     1,     64,  1,   False, 0.0,    "tied", "linear"),
)
DECODER = (
    Row("tconv", 6,     1,     96,  6,   True,  0.0,    None, "leaky"),
    Row("tconv", 4,     2,     64,  14,  True,  0.0,    None, "leaky"),
    Row("tconv", 4,     2,     32,  30,  True,  0.0,    None, "leaky"),
    Row("tconv", 3,     1,     16,  32,  True,  0.0,    None, "leaky"),
    Row("conv",  1,     1,     3,   32,  False, 0.0,    "untied", "sigmoid"),
)
DISC_X = (
    Row("conv",  4,     2,     16,  15,  False, 0.0,    "tied", "leaky"),
    Row("conv",  5,     2,     32,  6,   True,  0.3,    None, "leaky"),
    Row("conv",  6,     1,     128, 1,   True,  0.3,    None, "leaky"),
)
DISC_Z = (
    Row("conv",  1,     1,     64,  1,   False, 0.0,    "tied", "leaky"),
    Row("conv",  1,     1,     64,  1,   False, 0.3,    "tied", "leaky"),
)
DISC_XZ = (
    Row("conv",  1,     1,     128, 1,   False, 0.3,    "tied", "leaky"),
    Row("conv",  1,     1,     1,   1,   False, 0.3,    "tied", "linear"),
)
# fmt: on

SMALL = ModelSpec("small", (32, 32, 3), 32, 0.2, ENCODER, DECODER, DISC_X, DISC_Z, DISC_XZ, std=0.05)
