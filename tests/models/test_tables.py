"""The tables against counts made by hand from the paper's appendix and the authors' code, and against slips."""

from dataclasses import replace

import numpy as np
import pytest

from alikit.models import ALI, SPECS, ModelSpec, build
from alikit.models.table import Table
from alikit.nn import layers as nn_layers

#: trainable numbers, running statistics not among them; in celeba-paper's Dx a bias of 64 gives way to batch norm
PARAMETERS = {
    #                  encoder    decoder     Dx         Dz         Dxz
    "svhn":            (3_315_488, 1_767_584, 2_789_632, 393_216, 2_100_225),
    "cifar10":         (3_118_496, 981_152, 1_396_032, 163_840, 1_051_137),
    "cifar10-untied":  (3_118_496, 981_152, 1_448_352, 163_840, 1_051_137),
    "cifar10-paper":   (3_118_496, 981_152, 5_577_344, 589_824, 4_199_425),
    "celeba":          (6_794_880, 11_811_392, 6_532_160, 1_310_720, 7_346_177),
    "celeba-paper":    (6_794_880, 11_811_392, 6_532_224, 1_310_720, 7_346_177),
    "tiny-imagenet":   (7_812_352, 3_164_224, 2_036_416, 4_722_688, 26_226_689),
    "mixture":         (164_002, 484_802, 0, 0, 407_201),
    "mixture-dropout": (164_002, 484_802, 0, 0, 407_201),
}  # fmt: skip

#: forward work of one image in 10^6 FLOP: 2 for each multiplication of a (transposed) convolution
MFLOP = {
    "svhn":            ("63.07", "98.60", "62.02", "0.79", "4.20"),
    "cifar10":         ("62.68", "97.03", "32.89", "0.33", "2.10"),
    "cifar10-untied":  ("62.68", "97.03", "32.89", "0.33", "2.10"),
    "cifar10-paper":   ("62.68", "97.03", "124.05", "1.18", "8.39"),
    "celeba":          ("1065.63", "3725.85", "1065.11", "2.62", "14.68"),
    "celeba-paper":    ("1065.63", "3725.85", "1065.11", "2.62", "14.68"),
    "tiny-imagenet":   ("235.80", "348.00", "224.27", "9.44", "52.44"),
    "mixture":         ("0.325", "0.963", "0.000", "0.000", "0.808"),
    "mixture-dropout": ("0.325", "0.963", "0.000", "0.000", "0.808"),
}  # fmt: skip

#: dropout rates of Dx, Dz, Dxz, row by row
DROPOUT = {
    "svhn": ([0.2] * 5, [0.2] * 2, [0.2] * 3),
    "cifar10": ([0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5], [0.5] * 3),
    "cifar10-untied": ([0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5], [0.5] * 3),
    "cifar10-paper": ([0.2, 0.5, 0.5, 0.5, 0.5], [0.2, 0.5], [0.5] * 3),
    "celeba": ([0.2] * 5, [0.2] * 2, [0.2] * 3),
    "celeba-paper": ([0.0] * 5, [0.2] * 2, [0.2] * 3),
    "tiny-imagenet": ([0.2] * 6, [0.2] * 2, [0.2] * 3),
    "mixture": ([], [], [0.0] * 4),
    "mixture-dropout": ([], [], [0.2, 0.5, 0.5, 0.5]),
}

#: code size, slope of leaky ReLU, pieces of maxout in D (1: none), deviation of the initial weights (method 2.1, 3.2)
CONSTANTS = {
    "svhn": (256, 0.01, 1, 0.01),
    "cifar10": (64, 0.1, 2, 0.01),
    "cifar10-untied": (64, 0.1, 2, 0.01),
    "cifar10-paper": (64, 0.1, 2, 0.01),
    "celeba": (256, 0.02, 1, 0.01),
    "celeba-paper": (256, 0.02, 1, 0.01),
    "tiny-imagenet": (256, 0.01, 1, 0.01),
    "mixture": (2, 0.0, 5, 0.02),
    "mixture-dropout": (2, 0.0, 5, 0.02),
}


@pytest.fixture
def zero_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of 40 million weights at once: what is counted need not be drawn."""
    monkeypatch.setattr(nn_layers, "init_normal", lambda name, shape, std, seed, dtype: np.zeros(shape, dtype))


def networks(model: ALI) -> tuple:
    return (model.encoder, model.decoder, *(getattr(model.discriminator, part) for part in ("x", "z", "xz")))


def tables(spec: ModelSpec) -> tuple[Table, ...]:
    return spec.encoder, spec.decoder, spec.disc_x, spec.disc_z, spec.disc_xz


def outputs(spec: ModelSpec, table: Table) -> int:
    """Channels behind the last row of a table, after maxout."""
    return table[-1].maps // spec.activation(table[-1]).pieces if table else 0


def inputs(spec: ModelSpec) -> tuple[tuple[int, int], ...]:
    """(size, channels) at the entrance of each network."""
    towers = outputs(spec, spec.disc_x) + outputs(spec, spec.disc_z)
    head = towers or spec.image[2] + spec.nz  # without towers the head sees x and z themselves
    image = spec.image[0]
    return (image, spec.image[2] + spec.noise), (1, spec.nz), (image, spec.image[2]), (1, spec.nz), (1, head)


def mflop(spec: ModelSpec, table: Table, size: int, channels: int) -> float:
    """2 x multiplications of the (transposed) convolutions: each weight meets every position of the smaller image."""
    total = 0
    for row in table:
        positions = (row.size if row.op == "conv" else size) ** 2
        total += 2 * row.kernel**2 * channels * row.maps * positions
        size, channels = row.size, row.maps // spec.activation(row).pieces
    return total / 1e6


def test_every_published_network_is_counted() -> None:
    """`small` is our own: nobody has published its counts."""
    assert SPECS.keys() - {"small"} == PARAMETERS.keys() == MFLOP.keys() == DROPOUT.keys() == CONSTANTS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_counted(name: str, zero_weights: None) -> None:
    model = build(name)
    assert tuple(sum(p.data.size for p in net.parameters()) for net in networks(model)) == PARAMETERS[name]
    assert sum(p.data.size for p in model.parameters()) == sum(PARAMETERS[name])


@pytest.mark.parametrize("name", MFLOP)
def test_the_work_of_a_forward_pass_is_as_counted(name: str) -> None:
    spec = SPECS[name]
    found = [mflop(spec, table, *entrance) for table, entrance in zip(tables(spec), inputs(spec), strict=True)]
    digits = [len(text.partition(".")[2]) for text in MFLOP[name]]
    assert tuple(f"{work:.{k}f}" for work, k in zip(found, digits, strict=True)) == MFLOP[name]


@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_stands_on_the_inputs_of_d_alone(name: str) -> None:
    spec = SPECS[name]
    assert tuple([row.dropout for row in table] for table in tables(spec)[2:]) == DROPOUT[name]
    assert not any(row.dropout for table in tables(spec)[:2] for row in table)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name: str) -> None:
    spec = SPECS[name]
    pieces = max(spec.activation(row).pieces for table in tables(spec) for row in table)
    assert (spec.nz, spec.slope, pieces, spec.std) == CONSTANTS[name]


def test_the_paper_s_features_have_5376_numbers() -> None:
    """Shapes alone: the last three hidden layers of the tables, and z."""
    rows = SPECS["svhn"].encoder[-4:-1]
    assert sum(row.maps * row.size**2 for row in rows) + SPECS["svhn"].nz == 5376


@pytest.mark.parametrize("name", SPECS)
def test_nothing_that_sees_z_in_d_has_batch_norm_and_outputs_have_none(name: str) -> None:
    spec = SPECS[name]
    assert not any(row.norm for row in (*spec.disc_z, *spec.disc_xz, spec.encoder[-1], spec.decoder[-1]))
    assert all(row.norm and row.bias is None for row in (*spec.encoder[:-1], *spec.decoder[:-1]))
    assert spec.disc_xz[-1].nonlinearity == spec.encoder[-1].nonlinearity == "linear"


@pytest.mark.parametrize("network", ["encoder", "decoder", "disc_x", "disc_z", "disc_xz"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_wrong_size_names_the_layer(network: str, place: int, zero_weights: None) -> None:
    spec = SPECS["svhn"]
    table = list(getattr(spec, network))
    number = len(table) if place else 1
    table[place] = table[place]._replace(size=table[place].size + 1)
    part = network.replace("disc_", "discriminator.")
    with pytest.raises(
        ValueError, match=rf"svhn: layer {part}.{number} \(t?conv .*the table says {table[place].size}$"
    ):
        ALI(replace(spec, **{network: tuple(table)}))


@pytest.mark.parametrize("name", SPECS)
def test_a_narrow_network_keeps_what_the_game_fixes(name: str) -> None:
    spec = SPECS[name].resized(0.03, 4)
    assert spec.nz == 4
    assert spec.encoder[-1].maps == (4 if spec.noise else 8)
    assert spec.decoder[-1].maps == spec.image[2]
    assert spec.disc_xz[-1].maps == 1
    for full, narrow in zip(tables(SPECS[name]), tables(spec), strict=True):
        assert [row._replace(maps=0) for row in narrow] == [row._replace(maps=0) for row in full]
        assert all(row.maps % spec.activation(row).pieces == 0 and row.maps >= 1 for row in narrow)
    assert spec.encoder[0].maps == max(1, round(0.03 * SPECS[name].encoder[0].maps))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'mnist'; there are svhn, cifar10, .*mixture-dropout"):
        build("mnist")
