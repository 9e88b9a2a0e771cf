"""Every convolution of a model's step with what rides on it, read from the model's tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.kernels import Shape
from bench.step import layers as tables


class Layer(NamedTuple):
    """A convolution of the step.

    activation   behind it, where no batch norm follows;  bias: None, "tied" or "untied"
    norm         whether a batch norm follows: then it takes moments
    dropout      rate on its result: the next layer's
    before       slope of the leaky ReLU that made its input, None where none did;  normed: whether behind a batch norm
    rate         of the dropout on its input
    last         whether its result stays float32: logits, the encoder's output
    cotangents   stacked in the backward pass
    """

    shape: Shape
    activation: Any
    bias: str | None
    norm: bool
    dropout: float
    before: float | None
    rate: float
    last: bool
    cotangents: int
    normed: bool = True

    @property
    def deferred(self) -> bool:
        """Whether it normalises its input itself."""
        s = self.shape
        return self.before is not None and self.normed and not self.rate and (s.kernel, s.stride) == (1, 1)

    @property
    def title(self) -> str:
        """Shape, and what rides along."""
        riders = ["norm"] if self.norm else [self.activation.name]
        riders += [self.bias] if self.bias else []
        riders += [f"dropout {self.dropout}"] if self.dropout else []
        riders += ["deferred"] if self.deferred else []
        return f"{self.shape.title} {' '.join(riders)}"


def convolutions(model: str, batch: int, width: float = 1.0, nz: int | None = None) -> list[Layer]:
    """All different ones, in the order of the step."""
    from alikit.models import SPECS

    spec = SPECS[model]
    spec = spec if width == 1.0 and nz is None else spec.resized(width, nz)
    found = [layer for name, rows in tables(spec).items() for layer in network(name, rows, spec, batch)]
    return list(dict.fromkeys(found))


def network(name: str, rows: list[tuple[Any, tuple[int, int, int]]], spec: Any, batch: int) -> list[Layer]:
    """The layers of one network. D sees pairs stacked along the batch; with batch norm two cotangents walk back."""
    judged = name.startswith("discriminator")
    normed = any(row.norm for table in (spec.disc_x, spec.disc_z, spec.disc_xz) for row in table)
    found = []
    for place, (row, (size, _, channels)) in enumerate(rows):
        following = rows[place + 1][0].dropout if place + 1 < len(rows) else 0.0
        previous = rows[place - 1][0] if place else None
        made = None if previous is None else spec.activation(previous)
        n = 2 * batch if judged else batch
        shape = Shape(row.op, n, size, channels, row.kernel, row.stride, row.maps, row.size)
        found.append(
            Layer(
                shape,
                spec.activation(row),
                row.bias,
                row.norm,
                0.0 if row.norm else following,
                made.value if made is not None and made.name == "leaky_relu" else None,
                row.dropout,
                place + 1 == len(rows) and name in ("encoder", "discriminator.xz"),
                2 if judged and normed else 1,
                previous is not None and previous.norm,
            )
        )
    return found
