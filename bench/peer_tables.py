"""The peer's layer tables, typed from spec 2.2 and 2.6 apart from `alikit.models`, so that one can check the other."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A line of the tables.

    op: conv, tconv or dense;  bias: none, tied or untied;  act: leaky, relu, maxout, sigmoid or linear
    """

    op: str
    kernel: int
    stride: int
    maps: int
    norm: bool = False
    dropout: float = 0.0
    bias: str = "none"
    act: str = "leaky"


class Tables(NamedTuple):
    """A model: the shape of x, (H, W, C) or (features,), the size of z, and a table for each network."""

    x: tuple[int, ...]
    nz: int
    networks: dict[str, tuple[Row, ...]]
    beta1: float = 0.5
    #: the encoder gives mu and log sigma; otherwise it sees [x, eps] and gives z
    gaussian: bool = True


LEAK = 0.01
PIECES = 5
TOWER = (("conv", 4, 2, 64), ("conv", 4, 1, 128), ("conv", 4, 2, 256), ("conv", 4, 1, 512))
SVHN = Tables(
    x=(32, 32, 3),
    nz=256,
    networks={
        "encoder": (
            Row("conv", 5, 1, 32, norm=True),
            *(Row(*row, norm=True) for row in TOWER),
            Row("conv", 1, 1, 512, norm=True),
            Row("conv", 1, 1, 512, bias="tied", act="linear"),
        ),
        "decoder": (
            Row("tconv", 4, 1, 256, norm=True),
            Row("tconv", 4, 2, 128, norm=True),
            Row("tconv", 4, 1, 64, norm=True),
            Row("tconv", 4, 2, 32, norm=True),
            Row("tconv", 5, 1, 32, norm=True),
            Row("tconv", 1, 1, 32, norm=True),
            Row("conv", 1, 1, 3, bias="untied", act="sigmoid"),
        ),
        "image_tower": (
            Row("conv", 5, 1, 32, dropout=0.2, bias="tied"),
            *(Row(*row, norm=True, dropout=0.2) for row in TOWER),
        ),
        "code_tower": (Row("conv", 1, 1, 512, dropout=0.2),) * 2,
        "head": (
            *(Row("conv", 1, 1, 1024, dropout=0.2, bias="tied"),) * 2,
            Row("conv", 1, 1, 1, dropout=0.2, bias="tied", act="linear"),
        ),
    },
)
MIXTURE = Tables(
    x=(2,),
    nz=2,
    beta1=0.2,
    gaussian=False,
    networks={
        "encoder": (
            *(Row("dense", 1, 1, 400, norm=True, act="relu"),) * 2,
            Row("dense", 1, 1, 2, bias="tied", act="linear"),
        ),
        "decoder": (
            *(Row("dense", 1, 1, 400, norm=True, act="relu"),) * 4,
            Row("dense", 1, 1, 2, bias="tied", act="linear"),
        ),
        "image_tower": (),
        "code_tower": (),
        "head": (
            *(Row("dense", 1, 1, 1000, bias="tied", act="maxout"),) * 3,
            Row("dense", 1, 1, 1, bias="tied", act="linear"),
        ),
    },
)
TABLES = {"svhn": SVHN, "mixture": MIXTURE}
