"""What a study found: mean and deviation over the runs of each model, beside the paper's figures; JSON and Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from alikit.study.plan import MODELS, SECOND, Settings

TITLES = {
    "ali": "ALI",
    "gan": "GAN",
    "inverse": "GAN + learned inverse mapping",
    "posthoc": "GAN + post-hoc learned inference",
    "vae": "VAE",
}
#: number -> (head of its column, decimals)
COLUMNS = {
    "modes_nearest": ("modes, nearest", 1),
    "modes_covered": ("modes, 3 sd", 1),
    "share_covered": ("samples in 3 sd", 3),
    "reconstruction_error": ("reconstruction error", 4),
    "reconstruction_ratio": ("ratio to random pair", 4),
    "mmd": ("MMD of codes", 4),
}
#: paper, section 4.5: modes by the nearest component over ten random configurations (mean, deviation, least, most)
PAPER = {"ali": (13.4, 5.8, 8, 25), "gan": (10.4, 9.2, 1, 22)}
GOAL, GOAL_SHARE = 25, 0.6

Result = dict[str, Any]


class Spread(NamedTuple):
    """A number over runs; std: of a sample, None for a single run."""

    mean: float
    std: float | None
    least: float
    most: float


def numbers_of(results: Sequence[Result]) -> list[dict[str, float]]:
    """The numbers of the runs that did not diverge."""
    return [result["numbers"] for result in results if not result["diverged"]]


def spread(values: Sequence[float]) -> Spread:
    """Mean, deviation, least and most of at least one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), std, min(values), max(values))


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Of one model: runs, those that diverged, and for each number its spread."""
    found = numbers_of(results)
    names = [name for name in COLUMNS if found and name in found[0]]
    spreads = {name: spread([numbers[name] for numbers in found])._asdict() for name in names}
    return {"runs": len(results), "diverged": len(results) - len(found), "numbers": spreads}


def best(results: Sequence[Result]) -> Result | None:
    """The run shown in the figure: most modes by the paper's count, then within 3 sd, then most samples there, then
    the least reconstruction error; None where all diverged."""

    def merit(result: Result) -> tuple[float, ...]:
        n = result["numbers"]
        error = n.get("reconstruction_error", 0.0)
        return n["modes_nearest"], n["modes_covered"], n["share_covered"], -error if math.isfinite(error) else -math.inf

    sound = [result for result in results if not result["diverged"]]
    return max(sound, key=merit) if sound else None


def as_json(settings: Settings, by_model: dict[str, list[Result]], floor: dict[str, float]) -> dict[str, Any]:
    """Everything: settings, the floor, the paper's figures, a summary and all runs of each model."""
    return {
        "settings": settings.to_json(),
        "floor": floor,
        "paper": {model: dict(zip(("mean", "std", "least", "most"), row, strict=True)) for model, row in PAPER.items()},
        "models": {
            model: summary(results) | {"shown": (best(results) or {"job": {"name": None}})["job"]["name"]}
            for model, results in by_model.items()
        },
        "runs": [plain(result) for results in by_model.values() for result in results],
    }


def plain(result: Result) -> Result:
    """A result with null for what is not finite, which JSON lacks."""
    numbers = {k: v if math.isfinite(v) else None for k, v in result.get("numbers", {}).items()}
    return {**result, "numbers": numbers} if numbers else result


def markdown(settings: Settings, by_model: dict[str, list[Result]], floor: dict[str, float]) -> str:
    """The tables as text: models, then all runs."""
    parts = ["# The 25 Gaussians", _how(settings), _models(by_model, floor), _notes(by_model)]
    if settings.best:
        parts += [_goal(by_model["ali"])] if by_model.get("ali") else []
    parts += ["## All runs", _runs(by_model)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _how(s: Settings) -> str:
    def values(name: str) -> str:
        low, high = getattr(s, name)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    ema = f", averaged weights (rate {s.ema:g})" if s.ema else ""
    return (
        f"{s.steps:,} steps of batch {s.batch_size}; learning rate {values('lr')}, beta1 {values('beta1')}, "
        f"initial deviation {values('init_std')}{ema}; data seed {s.seed}. Mean ± standard deviation over runs (least "
        "to most)."
    )


def _models(by_model: dict[str, list[Result]], floor: dict[str, float]) -> str:
    rows = [["model", "runs", *(head for head, _ in COLUMNS.values())]]
    for model, results in by_model.items():
        found = summary(results)
        lost = f" ({found['diverged']} diverged)" if found["diverged"] else ""
        rows.append([TITLES[model], f"{found['runs']}{lost}", *_cells(found["numbers"])])
    for model, printed in PAPER.items():
        rows.append([f"*paper: {TITLES[model]}*", "10", *_cells({"modes_nearest": Spread(*printed)._asdict()})])
    single = {name: Spread(value, None, value, value)._asdict() for name, value in floor.items()}
    rows.append(["*held-out data, prior's own draws*", "", *_cells(single)])
    return table(rows)


def _cells(spreads: dict[str, dict[str, Any]]) -> list[str]:
    cells = []
    for name, (_, decimals) in COLUMNS.items():
        found = spreads.get(name)
        if found is None:
            cells.append("")
        elif found["std"] is None:
            cells.append(f"{found['mean']:.{decimals}f}")
        else:
            # counts of modes are whole numbers: the paper prints them so
            ends = [f"{found[k]:.{0 if decimals == 1 else decimals}f}" for k in ("least", "most")]
            cells.append(f"{found['mean']:.{decimals}f} ± {found['std']:.{decimals}f} ({ends[0]} to {ends[1]})")
    return cells


def _notes(by_model: dict[str, list[Result]]) -> str:
    notes = [
        "Modes of 25: *nearest* counts a mode that is the nearest one of any of 10,000 samples (the paper's count); *3 "
        "sd* one with a sample within three standard deviations. Error: mean squared, of 10,000 held-out points. MMD: "
        "of their codes from N(0, I)."
    ]
    gans = sorted({r["job"]["gan"] for model in SECOND for r in by_model.get(model, []) if r["job"]["gan"]})
    if gans:
        notes.append(f"The decoders of learned inference are frozen GANs: {', '.join(gans)}.")
    return " ".join(notes)


def _goal(results: Sequence[Result]) -> str:
    found, runs = numbers_of(results), len(results)
    nearest = sum(n["modes_nearest"] == GOAL for n in found)
    covered = sum(n["modes_covered"] == GOAL for n in found)
    share = sum(n["share_covered"] >= GOAL_SHARE for n in found)
    return (
        f"ALI covers {GOAL} of {GOAL} modes by the paper's count in {nearest} of {runs} runs, by samples within three "
        f"standard deviations in {covered}; at least {GOAL_SHARE:.0%} of the samples lie there in {share}."
    )


def _runs(by_model: dict[str, list[Result]]) -> str:
    rows = [["run", "lr", "beta1", "initial sd", "seed", *(head for head, _ in COLUMNS.values())]]
    for model in MODELS:
        shown = best(by_model.get(model, []))
        for result in by_model.get(model, []):
            job, numbers = result["job"], result.get("numbers", {})
            mark = " *" if result is shown else ""
            constants = [f"{job['lr']:g}", f"{job['beta1']:g}", f"{job['init_std']:g}", str(job["seed"])]
            cells = [
                ("diverged" if result["diverged"] and name == "modes_nearest" else "")
                if name not in numbers
                else f"{numbers[name]:.{0 if decimals == 1 else decimals}f}"
                for name, (_, decimals) in COLUMNS.items()
            ]
            rows.append([job["name"] + mark, *constants, *cells])
    return table(rows) + "\n\n(*) in the figure"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first the head, as a Markdown table whose columns stand under one another."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("-" * w for w in widths) + " |", *lines[1:]])
