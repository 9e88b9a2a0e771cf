"""SVHN, 32x32 (paper, appendix A; method 2.2)."""

from alikit.models.table import ModelSpec, Row

# fmt: off
ENCODER = (
    #    op      kernel stride maps size norm   dropout bias  nonlinearity
    Row("conv",  5,     1,     32,  28,  True,  0.0,    None, "leaky"),
    Row("conv",  4,     2,     64,  13,  True,  0.0,    None, "leaky"),
    Row("conv",  4,     1,     128, 10,  True,  0.0,    None, "leaky"),
    Row("conv",  4,     2,     256, 4,   True,  0.0,    None, "leaky"),
    Row("conv",  4,     1,     512, 1,   True,  0.0,    None, "leaky"),
    Row("conv",  1,     1,     512, 1,   True,  0.0,    None, "leaky"),
    Row("conv",  1,     1,     512, 1,   False, 0.0,    "tied", "linear"),
)
DECODER = (
    Row("tconv", 4,     1,     256, 4,   True,  0.0,    None, "leaky"),
    Row("tconv", 4,     2,     128, 10,  True,  0.0,    None, "leaky"),
    Row("tconv", 4,     1,     64,  13,  True,  0.0,    None, "leaky"),
    Row("tconv", 4,     2,     32,  28,  True,  0.0,    None, "leaky"),
    Row("tconv", 5,     1,     32,  32,  True,  0.0,    None, "leaky"),
    Row("tconv", 1,     1,     32,  32,  True,  0.0,    None, "leaky"),
    Row("conv",  1,     1,     3,   32,  False, 0.0,    "untied", "sigmoid"),
)
DISC_X = (
    Row("conv",  5,     1,     32,  28,  False, 0.2,    "tied", "leaky"),
    Row("conv",  4,     2,     64,  13,  True,  0.2,    None, "leaky"),
    Row("conv",  4,     1,     128, 10,  True,  0.2,    None, "leaky"),
    Row("conv",  4,     2,     256, 4,   True,  0.2,    None, "leaky"),
    Row("conv",  4,     1,     512, 1,   True,  0.2,    None, "leaky"),
)
DISC_Z = (
    Row("conv",  1,     1,     512, 1,   False, 0.2,    None, "leaky"),
    Row("conv",  1,     1,     512, 1,   False, 0.2,    None, "leaky"),
)
DISC_XZ = (
    Row("conv",  1,     1,     1024, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     1024, 1,  False, 0.2,    "tied", "leaky"),
    Row("conv",  1,     1,     1,   1,   False, 0.2,    "tied", "linear"),
)
# fmt: on

SVHN = ModelSpec("svhn", (32, 32, 3), 256, 0.01, ENCODER, DECODER, DISC_X, DISC_Z, DISC_XZ)
