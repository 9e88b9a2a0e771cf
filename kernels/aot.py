"""Compiles every kernel of the training steps for every architecture, without a GPU, and reads what came out.

    python -m alikit.kernels.aot [--arch sm_90 ...] [--preset svhn ...] [--precision bf16 ...] [--write] [--ship]
                                 [--jobs N]

prints a row for each kernel, its sizes and architecture: registers of a thread, bytes of local memory, shared memory
against the limit, tensor-core instructions, and how many bytes copies to shared memory, loads and stores move at once.
What must not be (`sass.faults`) is named below the table, and the exit code is 1. What was read is kept in the cache
folder, so that a second run only compiles what changed. --write also writes it into `findings.json`, which the tests
judge, and compiles only what that file does not know; --ship writes the cubins into `cubins/`, where `launch` looks for
them first.

Which launches there are is read from `shapes.json` (see `plan.py`), or from another such file with --plan.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import binary, disassembly, elf, findings, launch, plan, sass
from .binary import Binary
from .record import Launch
from .rows import Row, by_step, judged, sizes_of, summary, table
from .source import launch_key

ARCHS = (80, 86, 89, 90, 120)
PART = 20  # launches that a process takes at a time


def examine(records: Sequence[Launch], arch: int) -> list[sass.Facts]:
    """Compiles launches for an architecture and reads their machine code; from the cache where that was done before."""
    made = [launch.compiled(record, arch, lines=False, shipped=False) for record in records]
    kept = {name: _kept(name) for name in map(_name, made)}
    missing = {name: (one, record) for record, one in zip(records, made, strict=True) if not kept[name := _name(one)]}
    texts = disassembly.listings([one for one, _ in missing.values()], arch)
    for (name, (one, record)), text in zip(missing.items(), texts, strict=True):
        kept[name] = found = _read(text, one, record)
        binary.write(_path(name), json.dumps(found).encode())
    return [facts for facts in (kept[_name(one)] for one in made) if facts is not None]


def _name(made: Binary) -> str:
    return hashlib.sha256(made.cubin).hexdigest()


def _path(name: str) -> Path:
    return launch.cache_folder() / f"{name}-read-{sass.READER}.json"


def _kept(name: str) -> sass.Facts | None:
    try:
        return findings.facts(json.loads(_path(name).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _read(text: str, made: Binary, record: Launch) -> sass.Facts:
    parameters = zip(record.runtime, elf.parameter_places(made.cubin, made.name), strict=False)
    places = {place: name for (name, kind), place in parameters if kind[0] == "*"}
    return sass.read(text, made.shared, len(made.cubin), places)


def row(record: Launch, arch: int) -> Row:
    """Examines a launch and judges it."""
    return judged(record, arch, *examine([record], arch))


def _examine_code(items: Sequence[Mapping[str, Any]], arch: int) -> list[sass.Facts]:
    """`examine` in another process: launches travel as data."""
    return examine([plan.decode(item) for item in items], arch)


def examine_all(todo: Sequence[tuple[Launch, int]], jobs: int) -> list[Row]:
    """A row for each launch and architecture, in order."""
    of_arch: dict[int, list[int]] = defaultdict(list)
    for place, (_, arch) in enumerate(todo):
        of_arch[arch].append(place)
    parts = [(places[n : n + PART], arch) for arch, places in of_arch.items() for n in range(0, len(places), PART)]
    found: dict[int, sass.Facts] = {}
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        code = [[plan.encode(todo[place][0]) for place in places] for places, _ in parts]
        read = (map if pool is None else pool.map)(_examine_code, code, [arch for _, arch in parts])
        for (places, _), facts in zip(parts, read, strict=True):
            found.update(zip(places, facts, strict=True))
    return [judged(*item, found[place]) for place, item in enumerate(todo)]


def examine_missing(todo: Sequence[tuple[Launch, int]], known: findings.Code, jobs: int) -> list[Row]:
    """The same, where what is known is not compiled again."""
    keys = [findings.key(*item) for item in todo]
    new = iter(examine_all([item for item, key in zip(todo, keys, strict=True) if key not in known], jobs))
    return [judged(*item, known[key]) if key in known else next(new) for item, key in zip(todo, keys, strict=True)]


def distinct(steps: Mapping[plan.Step, Iterable[Launch]]) -> list[tuple[Launch, int]]:
    """Each piece of code once for each architecture it is used on, by kernel."""
    found = {(launch_key(record, step.arch), step.arch): record for step in steps for record in steps[step]}
    return sorted(
        ((record, arch) for (_, arch), record in found.items()), key=lambda x: (x[0].name, sizes_of(x[0]), x[1])
    )


def ship(todo: Iterable[tuple[Launch, int]], folder: Path = binary.SHIPPED) -> dict[int, int]:
    """Writes the archives; returns bytes by architecture."""
    archives: dict[int, dict[str, Binary]] = {}
    for record, arch in todo:
        made = launch.compiled(record, arch, lines=False, shipped=False)
        archives.setdefault(arch, {})[launch_key(record, arch)] = made
    return {arch: binary.ship(binaries, arch, folder) for arch, binaries in archives.items()}


def known() -> findings.Findings:
    """The file of findings, empty where there is none or another compiler made it."""
    path, version = findings.FILE, launch.triton_version()
    found = findings.loads(path.read_text()) if path.exists() else None
    return found if found is not None and found.triton == version else findings.Findings(version, [], {})


def keep(steps: Mapping[plan.Step, Iterable[Launch]], todo: Sequence[tuple[Launch, int]], found: Sequence[Row]) -> None:
    """Writes what was found into the file of findings."""
    code = {findings.key(*item): row.facts for item, row in zip(todo, found, strict=True)}
    new = findings.renewed(known(), code, launch.triton_version(), findings.planned(steps))
    findings.FILE.write_text(findings.dumps(new))
    print(f"written: {findings.FILE}; all code of {', '.join(new.complete) or 'no preset'}")


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
    wanted = chosen(steps, args)
    todo = distinct(wanted)
    if not todo:
        print("the plan holds no such step", file=sys.stderr)
        return 2
    # what is shipped must be there, so that it is compiled by all processes
    rows = examine_missing(todo, known().code if args.write and not args.ship else {}, args.jobs)
    print(table(rows))
    wrong = [r for r in rows if r.faults]
    of_key = dict(zip((findings.key(*item) for item in todo), rows, strict=True))
    of_step = {step: [of_key[key] for key in keys] for step, keys in findings.planned(wanted).items()}
    print(f"\n{by_step(of_step)}\n\n{summary(rows)}\n\n{len(rows)} kernels, {len(wrong)} with faults")
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
