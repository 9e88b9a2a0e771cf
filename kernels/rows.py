"""Pieces of code in tables: what each is, what was found in it, what it must be and is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from . import sass
from .record import Launch
from .source import fields_of

#: constant, argument, and where the constant says how far the argument's pixels are apart
OPERANDS = (
    ("G", "a_ptr", "pitch"),
    ("G", "w_ptr", "w_pitch"),
    ("WG", "big_ptr", "pitch"),
    ("WG", "small_ptr", "gy_pitch"),
)


class Row(NamedTuple):
    """A piece of code on an architecture, what was found in it, and what is wrong with it."""

    kernel: str
    sizes: str
    arch: int
    facts: sass.Facts
    faults: list[str]


def judged(record: Launch, arch: int, facts: sass.Facts) -> Row:
    """What was found in a launch's code, and what is wrong with it."""
    wrong = sass.faults(facts, arch, dot_of(record), widths_of(record))
    return Row(record.name, sizes_of(record), arch, facts, wrong)


def dot_of(record: Launch) -> str:
    """How a kernel multiplies matrices, "bf16", "tf32" or "fp32": its constant `DOT`, or the field `dot` of one; else
    ""."""
    for name, value in record.constants:
        found = value if name == "DOT" else getattr(value, "dot", None)
        if isinstance(found, str):
            return found
    return ""


def widths_of(record: Launch) -> dict[str, int]:
    """A convolution's operands and the bytes by which these may come beside 16: what divides 16 and the bytes from one
    pixel to the next, where a wider load could not begin at every pixel (unrounded weights of two or three channels,
    the gradient of a single logit), else 16. Activations and rounded weights are padded. Of other kernels nothing is
    asked."""
    if not record.name.startswith(("conv", "pointwise")):
        return {}
    kinds, constants = dict(record.signature), dict(record.constants)
    return {
        pointer: math.gcd(16, getattr(constants[name], pitch) * (2 if kinds[pointer] == "*bf16" else 4))
        for name, pointer, pitch in OPERANDS
        if name in constants
    }


def sizes_of(record: Launch) -> str:
    """Types, constants, warps and stages in a line; a record among the constants may have a `label` that says it."""
    words = ["/".join(dict.fromkeys(kind[1:] for _, kind in record.signature if kind[0] == "*"))]
    for name, value in record.constants:
        label = getattr(value, "label", None)
        if label is None and fields_of(value) is not None:
            label = " ".join(f"{field}={inner}" for field, inner in _told(value))
        words.append(f"{name}={value}" if label is None else f"{name}({label})")
    return " ".join([*words, *(f"unaligned:{name}" for name in record.unaligned), f"w{record.warps}s{record.stages}"])


def _told(value: Any) -> Iterable[tuple[str, Any]]:
    """Fields of a record that differ from what they are by default."""
    defaults = {f.name: f.default for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else {}
    for field in fields_of(value) or ():
        if getattr(value, field) != defaults.get(field, dataclasses.MISSING):
            yield field, getattr(value, field)


def table(rows: Sequence[Row]) -> str:
    """The rows in columns."""
    head = ("kernel", "sm", "reg", "local", "shared KB", "tensor", "copies", "loads", "stores", "KB", "sizes")
    lines: list[tuple[str, ...]] = [head]
    for kernel, sizes, arch, facts, wrong in rows:
        limit = sass.SHARED[arch] >> 10
        numbers = (facts.registers, facts.stack, f"{facts.shared / 1024:.1f}/{limit}")
        tensor = " ".join(f"{name}:{n}" for name, n in sorted(facts.tensor.items()))
        moved = [" ".join(f"{width}B:{n}" for width, n in w.items()) for w in (facts.copies, facts.loads, facts.stores)]
        mark = "! " if wrong else ""
        lines.append((mark + kernel, str(arch), *map(str, numbers), tensor, *moved, str(facts.size >> 10), sizes))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]) for line in lines)


def summary(rows: Sequence[Row]) -> str:
    """A line for each architecture, as docs/kernels.md has it."""
    head = (
        "",
        "pieces of code",
        "convolutions, on",
        "most registers",
        "most shared memory",
        "in local memory",
        "faults",
    )
    lines: list[Sequence[str]] = [head]
    for arch in sorted({row.arch for row in rows}):
        of_arch = [row for row in rows if row.arch == arch]
        products = [row.facts.tensor for row in of_arch if row.facts.tensor]
        shared = max(row.facts.shared for row in of_arch)
        numbers = (
            len(of_arch),
            f"{len(products)}, {'/'.join(sorted(set().union(*products)))}",
            max(row.facts.registers for row in of_arch),
            f"{shared / 1024:.0f} of {sass.SHARED[arch] >> 10} KB",
            sum(row.facts.stack > 0 for row in of_arch),
            sum(bool(row.faults) for row in of_arch),
        )
        lines.append([f"sm_{arch}", *map(str, numbers)])
    return _markdown(lines)


def by_step(steps: Mapping[str, Iterable[Row]]) -> str:
    """A line for each preset and precision: pieces of code on all architectures, and how many have faults."""
    lines: list[Sequence[str]] = [("", "pieces of code", "convolutions", "faults")]
    for step in sorted(steps):
        rows = list(steps[step])
        products = sum(bool(row.facts.tensor) for row in rows)
        lines.append([step, *map(str, (len(rows), products, sum(bool(row.faults) for row in rows)))])
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(lines[0]), *lines[1:]))
