""" "Tiny ImageNet", the whole of ImageNet at 64x64 (paper, appendix A; method 2.5)."""

from alikit.models.table import ModelSpec, Row

# fmt: off
ENCODER = (
    #    op      kernel stride maps size norm   dropout bias    nonlinearity
    Row("conv",  4,     2,     64,  31,  True,  0.0,    None,   "leaky"),
    Row("conv",  4,     1,     64,  28,  True,  0.0,    None,   "leaky"),
    Row("conv",  4,     2,     128, 13,  True,  0.0,    None,   "leaky"),
    Row("conv",  4,     1,     128, 10,  True,  0.0,    None,   "leaky"),
    Row("conv",  4,     2,     256, 4,   True,  0.0,    None,   "leaky"),
    Row("conv",  4,     1,     256, 1,   True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     2048, 1,  True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     2048, 1,  True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     512, 1,   False, 0.0,    "tied", "linear"),
)
DECODER = (
    Row("conv",  1,     1,     2048, 1,  True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     256, 1,   True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     1,     256, 4,   True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     2,     128, 10,  True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     1,     128, 13,  True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     2,     64,  28,  True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     1,     64,  31,  True,  0.0,    None,   "leaky"),
    Row("tconv", 4,     2,     64,  64,  True,  0.0,    None,   "leaky"),
    Row("conv",  1,     1,     3,   64,  False, 0.0,    "untied", "sigmoid"),
)
DISC_X = (
    Row("conv",  4,     2,     64,  31,  False, 0.2,    "tied", "leaky"),
    Row("conv",  4,     1,     64,  28,  True,  0.2,    None,   "leaky"),
    Row("conv",  4,     2,     128, 13,  True,  0.2,    None,   "leaky"),
    Row("conv",  4,     1,     128, 10,  True,  0.2,    None,   "leaky"),
    Row("conv",  4,     2,     256, 4,   True,  0.2,    None,   "leaky"),
    Row("conv",  4,     1,     256, 1,   True,  0.2,    None,   "leaky"),
)
DISC_Z = (
    Row("conv",  1,     1,     2048, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     2048, 1,  False, 0.2,    "tied", "leaky"),
)
DISC_XZ = (
    Row("conv",  1,     1,     4096, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     4096, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     1,   1,   False, 0.2,    "tied", "linear"),
)
# fmt: on

TINY_IMAGENET = ModelSpec("tiny-imagenet", (64, 64, 3), 256, 0.01, ENCODER, DECODER, DISC_X, DISC_Z, DISC_XZ)
