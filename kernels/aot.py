"""Compiles every kernel of the training steps for every architecture, without a GPU, and reads what came out.

    python -m alikit.kernels.aot [--arch sm_90 ...] [--preset svhn ...] [--precision bf16 ...] [--write] [--ship]
                                 [--jobs N]

prints a row for each kernel, its sizes and architecture: registers of a thread, bytes of local memory, shared memory
against the limit, tensor-core instructions, and how many bytes copies to shared memory, loads and stores move at once.
What must not be (`sass.faults`) is named below the table, and the exit code is 1. What was read is kept in the cache
folder, so that a second run only compiles what changed. --write also writes it into `findings.json`, which the tests
judge; --ship writes the cubins into `cubins/`, where `launch` looks for them first.

Which launches there are is read from `shapes.json` (see `plan.py`), or from another such file with --plan.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from . import binary, findings, launch, plan, sass
from .binary import Binary
from .record import Launch
from .source import fields_of, launch_key

ARCHS = (80, 86, 89, 90, 120)
#: constant, argument, and where the constant says how far the argument's pixels are apart
OPERANDS = (
    ("G", "a_ptr", "pitch"),
    ("G", "w_ptr", "w_pitch"),
    ("WG", "big_ptr", "pitch"),
    ("WG", "small_ptr", "gy_pitch"),
)
READER = 4  # raised when sass.py reads more or otherwise


class Row(NamedTuple):
    """A piece of code on an architecture, what was found in it, and what is wrong with it."""

    kernel: str
    sizes: str
    arch: int
    facts: sass.Facts
    faults: list[str]


def examine(record: Launch, arch: int) -> sass.Facts:
    """Compiles a launch for an architecture and reads its machine code; from the cache where that was done before."""
    made = launch.compiled(record, arch, lines=False, shipped=False)
    name = hashlib.sha256(made.cubin).hexdigest()
    path = launch.cache_folder() / f"{name}-read-{READER}.json"
    try:
        return findings.facts(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        facts = _read(made)
        binary.write(path, json.dumps(facts).encode())
        return facts


def _read(made: Binary) -> sass.Facts:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.cubin"
        path.write_bytes(made.cubin)
        command = [launch.tool("cuobjdump"), "--dump-resource-usage", "--dump-sass", str(path)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sass.read(text, made.shared, len(made.cubin))


def row(record: Launch, arch: int) -> Row:
    """Examines a launch and judges it."""
    return judged(record, arch, examine(record, arch))


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


def widths_of(record: Launch) -> set[int]:
    """Bytes by which a convolution's operands may come: 16, or what divides 16 and the bytes from one pixel to the
    next, where a wider load could not begin at every pixel: unrounded weights of two or three channels, the gradient
    of a single logit. Activations and rounded weights are padded. What a 1x1 layer normalises its input by, float32
    vectors, Triton may copy ahead with the operands, 4 bytes at once. Of other kernels nothing is asked."""
    if not record.name.startswith(("conv", "pointwise")):
        return set()
    kinds, constants = dict(record.signature), dict(record.constants)
    bytes_apart = [
        getattr(constants.get(name), pitch, 16) * (2 if kinds.get(pointer) == "*bf16" else 4)
        for name, pointer, pitch in OPERANDS
    ]
    vectors = {4} if record.name == "pointwise_window" else set()
    return {16, *(math.gcd(16, apart) for apart in bytes_apart)} | vectors


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


def _row_of_code(item: Mapping[str, Any], arch: int) -> Row:
    """`row` in another process: a launch travels as data."""
    return row(plan.decode(item), arch)


def examine_all(todo: Sequence[tuple[Launch, int]], jobs: int) -> list[Row]:
    """A row for each launch and architecture, in order."""
    if jobs == 1:
        return [row(record, arch) for record, arch in todo]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(_row_of_code, [plan.encode(r) for r, _ in todo], [arch for _, arch in todo]))


def distinct(steps: Mapping[plan.Step, Iterable[Launch]]) -> list[tuple[Launch, int]]:
    """Each piece of code once for each architecture it is used on, by kernel."""
    found = {(launch_key(record, step.arch), step.arch): record for step in steps for record in steps[step]}
    return sorted(
        ((record, arch) for (_, arch), record in found.items()), key=lambda x: (x[0].name, sizes_of(x[0]), x[1])
    )


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
    lines: list[Sequence[str]] = [head, ["---"] * len(head)]
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
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ship(todo: Iterable[tuple[Launch, int]], folder: Path = binary.SHIPPED) -> dict[int, int]:
    """Writes the archives; returns bytes by architecture."""
    archives: dict[int, dict[str, Binary]] = {}
    for record, arch in todo:
        made = launch.compiled(record, arch, lines=False, shipped=False)
        archives.setdefault(arch, {})[launch_key(record, arch)] = made
    return {arch: binary.ship(binaries, arch, folder) for arch, binaries in archives.items()}


def keep(steps: Mapping[plan.Step, Iterable[Launch]], todo: Sequence[tuple[Launch, int]], rows: Sequence[Row]) -> None:
    """Writes what was found into the file of findings."""
    code = {findings.key(*item): row.facts for item, row in zip(todo, rows, strict=True)}
    path = findings.FILE
    before = findings.loads(path.read_text()) if path.exists() else findings.Findings("", [], {})
    found = findings.renewed(before, code, launch.triton_version(), findings.planned(steps))
    path.write_text(findings.dumps(found))
    print(f"written: {path}; all code of {', '.join(found.complete) or 'no preset'}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m alikit.kernels.aot", description="compile every kernel without a GPU")
    parser.add_argument("--arch", nargs="+", metavar="sm_NN", help="default: all of the plan")
    parser.add_argument("--preset", nargs="+", help="default: all of the plan")
    parser.add_argument("--precision", nargs="+", help="bf16, tf32, fp32; default: all of the plan")
    parser.add_argument("--write", action="store_true", help=f"write what was found into {findings.FILE.name}")
    parser.add_argument("--ship", action="store_true", help=f"write the cubins into {binary.SHIPPED}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all processors)")
    parser.add_argument("--plan", type=Path, default=plan.FILE, help="launches as `plan.dumps` writes them")
    return parser.parse_args(argv)


def chosen(steps: Mapping[plan.Step, list[Launch]], args: argparse.Namespace) -> dict[plan.Step, list[Launch]]:
    """The steps asked for."""
    archs = args.arch and {int(name.removeprefix("sm_")) for name in args.arch}
    wanted = ((args.preset, "preset"), (archs, "arch"), (args.precision, "precision"))
    return {s: found for s, found in steps.items() if all(not w or getattr(s, field) in w for w, field in wanted)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 where a kernel is not as it must be, 2 where there is nothing to do."""
    args = parse(argv)
    if not args.plan.exists():
        print(f"{args.plan} is not there", file=sys.stderr)
        return 2
    steps = plan.loads(args.plan.read_text())
    todo = distinct(chosen(steps, args))
    if not todo:
        print("the plan holds no such step", file=sys.stderr)
        return 2
    rows = examine_all(todo, args.jobs)
    print(table(rows))
    wrong = [r for r in rows if r.faults]
    print(f"\n{summary(rows)}\n\n{len(rows)} kernels, {len(wrong)} with faults")
    for r in wrong:
        print(f"  {r.kernel} sm_{r.arch}: {'; '.join(r.faults)}    {r.sizes}")
    if args.write:
        keep(steps, todo, rows)
    if args.ship:
        sizes = ship(todo)
        print(", ".join(f"sm_{arch}: {size / 1e6:.2f} MB" for arch, size in sorted(sizes.items())))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
