"""Launches as data: what a training step launches, kept in a file so that its kernels can be compiled, looked at and
shipped without what records it.

The file names each piece of code once, a line a piece, and each step as the pieces it uses on an architecture:

    {"code": [{"kernel": ".gpu.norm:grad_kernel", "signature": [["gy_ptr", "*bf16"], ...], "constants": {...},
               "unaligned": [], "warps": 4, "stages": 2}, ...],
     "steps": [{"preset": "svhn", "precision": "bf16", "arch": 90, "code": [0, 3, ...]}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .record import Launch
from .source import fields_of, plain

HOME = __name__.rpartition(".")[0]
FILE = Path(__file__).parent / "shapes.json"


class Step(NamedTuple):
    """Whose launches they are."""

    preset: str
    precision: str
    arch: int


def dumps(steps: Mapping[Step, Iterable[Launch]]) -> str:
    """The file's text; the same launches give the same text."""
    used = {step: sorted({json.dumps(encode(launch)) for launch in launches}) for step, launches in steps.items()}
    code = sorted({text for texts in used.values() for text in texts})
    place = {text: index for index, text in enumerate(code)}
    lines = [
        json.dumps({**step._asdict(), "code": [place[text] for text in texts]}) for step, texts in sorted(used.items())
    ]
    return '{"code": [\n' + ",\n".join(code) + '\n],\n"steps": [\n' + ",\n".join(lines) + "\n]}\n"


def loads(text: str) -> dict[Step, list[Launch]]:
    """What `dumps` was given, each piece of code once a step, on a grid of one program."""
    found = json.loads(text)
    code = [decode(item) for item in found["code"]]
    return {
        Step(item["preset"], item["precision"], item["arch"]): [code[i] for i in item["code"]]
        for item in found["steps"]
    }


def encode(launch: Launch) -> dict[str, Any]:
    """What decides a launch's code, as JSON has it."""
    return {
        "kernel": _name(launch.kernel.fn),
        "signature": [list(item) for item in launch.signature],
        "constants": {name: _encoded(value) for name, value in launch.constants},
        "unaligned": list(launch.unaligned),
        "warps": launch.warps,
        "stages": launch.stages,
    }


def decode(item: Mapping[str, Any]) -> Launch:
    """The launch, on one program."""
    signature = tuple((name, kind) for name, kind in item["signature"])
    constants = tuple((name, _decoded(value)) for name, value in item["constants"].items())
    unaligned, numbers = tuple(item["unaligned"]), (item["warps"], item["stages"])
    return Launch(_find(item["kernel"]), (1, 1, 1), signature, constants, unaligned, *numbers)


def _encoded(value: Any) -> Any:
    fields = fields_of(value)
    if fields is not None:
        return {"record": _name(type(value)), **{name: _encoded(getattr(value, name)) for name in fields}}
    return [_encoded(item) for item in value] if isinstance(value, tuple) else plain(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decoded, value))
    if isinstance(value, dict):
        return _find(value["record"])(**{name: _decoded(item) for name, item in value.items() if name != "record"})
    return value


def _name(thing: Any) -> str:
    """`.gpu.norm:grad_kernel` of what stands in alikit.kernels; with the whole name of the module elsewhere."""
    return f"{thing.__module__.removeprefix(HOME)}:{thing.__qualname__}"


def _find(name: str) -> Any:
    module, _, found = name.partition(":")
    return getattr(import_module(module, HOME), found)
