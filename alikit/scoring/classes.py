"""How well a run with labels classifies, beside the paper's rows (method 1.7)."""

from __future__ import annotations

import json
from pathlib import Path

from alikit.inference import Model
from alikit.nn import Pass
from alikit.scoring.report import describe, table
from alikit.training.labels import PAPER, Exam
from alikit.training.runs import METRICS

NOTES = {
    "svhn": "the official test set; by networks that were not published",
    "cifar10": "the official test set, +- three deviations; by networks that were not published",
}


def measured(model: Model, exam: Exam) -> float:
    """The test error, a share, of a run's model over all images that judge it: at its end the one in metrics.jsonl."""
    return exam.error(model.networks, Pass(seed=model.config.seed), exam.all)


def logged(run: Path) -> float | None:
    """The test error that a finished run has in metrics.jsonl; None where it is not there."""
    path = run / METRICS
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1]).get("test_error_all") if lines else None


def error_table(error: float, exam: Exam, step: int) -> str:
    """The test error, a share, after some steps, in percent beside chance and the paper's rows for all its numbers of
    labels."""
    config = exam.config
    about = f"{len(exam.all):,} images of {describe(exam.dataset)}"
    rows = [
        ["this run", f"{config.labels:,}", f"{step:,}", f"{100 * error:.2f}", about],
        ["always the commonest class", "", "", f"{100 * exam.chance(exam.all):.2f}", "the same images"],
    ]
    for count, (mean, spread) in PAPER[config.dataset].items():
        rows.append(
            ["paper: ALI with K + 1 classes", f"{count:,}", "", f"{mean:.2f} +- {spread:.2f}", NOTES[config.dataset]]
        )
    return table(["test error", "labels", "steps", "error %", "on"], rows)
