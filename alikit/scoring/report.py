"""What an evaluation prints: tables for people, with everything that a number needs to be understood above them."""

from __future__ import annotations

from collections.abc import Sequence

from alikit.data import Dataset
from alikit.scoring.scores import Score
from alikit.scoring.svm import GRID, TEST_SETS, Outcome, Protocol

TITLES = {
    "frechet": "Frechet distance of features",
    "kernel": "kernel distance of features",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "two_sample": "1-NN two-sample accuracy",
    "two_sample_real": "  of the real images",
    "two_sample_fake": "  of the samples",
    "reconstruction_error": "reconstruction, mean squared error",
    "reconstruction_ratio": "  over that of a random image's",
    "label_agreement": "labels of image and reconstruction agree",
    "reconstruction_accuracy": "labels of reconstructions are right",
    "latent_mean_abs": "codes, |mean|",
    "latent_std_mean": "  standard deviation",
    "latent_std_min": "  smallest of a dimension",
    "latent_std_max": "  largest of a dimension",
    "latent_ks_mean": "  mean KS distance to N(0, 1)",
    "latent_ks_max": "  largest of a dimension",
    "latent_sigma_mean": "  mean posterior sigma",
    "latent_dead": "  share of dead dimensions",
}
#: the paper's table 1: test error in % with 1,000 labels, on the official test set, ALI trained on `extra`
PAPER = "19.14 +- 0.50"


def describe(dataset: Dataset) -> str:
    """A split in a few words that say whether it is the published one."""
    note = {True: "the published file", False: "NOT the published file", None: ""}[dataset.published]
    drawn = "drawn by alikit" if not note and dataset.source.startswith(("drawn by alikit", "drawn: ")) else note
    return f"{dataset.name} {dataset.split}" + (f" ({drawn})" if drawn else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side: the first to the left, numbers to the right, the last to the left."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    last = len(head) - 1
    lines = []
    for row in [head, *rows]:
        cells = [c.ljust(w) if k in (0, last) else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def score_table(scores: Sequence[Score]) -> str:
    """Value and floor of every score, by what it is judged against."""
    rows = []
    for score in scores:
        spread = "" if score.std is None else f" +- {score.std:.4f}"
        floor = "" if score.floor is None else f"{score.floor:.4f}"
        title = TITLES.get(score.name, score.name)
        rows.append([title, score.against, f"{score.images:,}", f"{score.value:.4f}{spread}", floor, score.best])
    return table(["score", "against", "images", "model", "floor", "best"], rows)


def svm_table(outcomes: Sequence[tuple[str, Outcome]], paper: bool) -> str:
    """Errors in % of every kind of features; `paper`: with the paper's row."""
    rows = []
    for title, o in outcomes:
        checked, tested = (f"{100 * e.mean():.2f} +- {100 * e.std():.2f}" for e in (o.validation, o.test))
        stopped = f"{o.unfinished} of {o.fits}"
        rows.append([title, f"{o.width:,}", f"{o.c:.3g}", checked, tested, stopped])
    if paper:
        rows.append(["paper: ALI, trained on extra, official test", "5,376", "", "", PAPER, ""])
    return table(["features", "size", "C", "validation error %", "test error %", "fits stopped at 1,000 rounds"], rows)


def protocol_lines(protocol: Protocol, pool: int, checked: int, train: str, test: str, tested: int) -> str:
    """What was done, and where it is less than the paper's."""
    short = []
    if protocol.repeats != TEST_SETS:
        short.append(f"{protocol.repeats} test sets, not {TEST_SETS}")
    if protocol.grid != GRID[2]:
        short.append(f"{protocol.grid} values of C, not {GRID[2]}")
    lines = [
        f"labelled sets: {protocol.labels:,} images each, as many of each class, from the first {pool:,} of {train}",
        f"C: exp of {protocol.grid} points from {GRID[0]:g} to {GRID[1]:g}, by the last {checked:,} images of {train}",
        f"test: {tested:,} images of {test}; {protocol.repeats} labelled sets, mean and population deviation; "
        f"seed {protocol.seed}",
    ]
    return "\n".join([*lines, f"SHORTENED: {', '.join(short)}"] if short else lines)
