"""Where and with what: the commit, the libraries' versions, the GPU, its driver and its clocks. No names of hosts or
people."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from bench import report

#: of nvidia-smi; clocks in MHz, temperature in C, power in W
FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "temperature.gpu",
    "power.draw",
    "clocks_throttle_reasons.active",
)


def gpu() -> dict[str, str]:
    """What nvidia-smi tells just now of the first GPU; {} without it."""
    words = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in done.stdout.strip().splitlines()[0].split(",")]
    return dict(zip(FIELDS, values, strict=False))


def versions() -> dict[str, str]:
    """Of what alikit and its extras ask for, as far as it is installed."""
    try:
        asked = requires("alikit") or []
    except PackageNotFoundError:
        asked = []
    names = dict.fromkeys(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in asked)
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def place() -> dict[str, Any]:
    """The head of every row."""
    return {**report.place(), "versions": versions(), "gpu": gpu()}


def line(where: dict[str, Any]) -> str:
    """For people."""
    card = where["gpu"]
    device = f"{card['name']}, driver {card['driver_version']}" if card else "no GPU that nvidia-smi knows of"
    wanted = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "torch")
    libraries = ", ".join(f"{name} {where['versions'][name]}" for name in wanted if name in where["versions"])
    changed = " with changes" if where["changed"] else ""
    return f"{device}; {libraries}; commit {(where['commit'] or 'unknown')[:12]}{changed}"
