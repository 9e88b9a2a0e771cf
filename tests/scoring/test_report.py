from dataclasses import replace

import numpy as np
import pytest

from alikit.data import Dataset
from alikit.scoring import report
from alikit.scoring.scores import _BEST, Score
from alikit.scoring.svm import Outcome, Protocol


@pytest.mark.parametrize(
    ("published", "source", "wanted"),
    [
        (True, "/data/x.mat", "toy train (the published file)"),
        (False, "/data/x.mat", "toy train (NOT the published file)"),
        (None, "drawn by alikit, seed 0", "toy train (drawn by alikit)"),
        (None, "/my/pictures", "toy train"),
    ],
)
def test_data_are_called_what_they_are(published: bool | None, source: str, wanted: str, train: Dataset) -> None:
    assert report.describe(replace(train, published=published, source=source)) == wanted


def test_scores_stand_beside_their_floors() -> None:
    text = report.score_table(
        [
            Score("frechet", "toy train", 1234, 12.34567, 0.5, 1.5, "the floor"),
            Score("latent_dead", "toy test", 7, 0.25, None, None, "0"),
        ]
    )
    head, rule, first, second = text.splitlines()
    assert head.split() == ["score", "against", "images", "model", "floor", "best"]
    assert set(rule) == {"-", " "}
    for part in ("Frechet distance of features", "toy train", "1,234", "12.3457 +- 0.5000", "1.5000", "the floor"):
        assert part in first
    assert second.split() == ["share", "of", "dead", "dimensions", "toy", "test", "7", "0.2500", "0"]


def test_every_score_has_a_title() -> None:
    assert set(_BEST) <= set(report.TITLES)


def test_errors_in_per_cent_with_the_paper_s() -> None:
    outcome = Outcome(5376, np.exp(-8), np.array([0.5, 0.3]), np.array([0.3, 0.32]), np.array([0.25, 0.27]), 3, 6)
    rows = report.svm_table([("encoder", outcome)], paper=True).splitlines()
    for part in ("encoder", "5,376", "0.000335", "31.00 +- 1.00", "26.00 +- 1.00", "3 of 6"):
        assert part in rows[2]
    assert "19.14 +- 0.50" in rows[3]
    assert "extra, official test" in rows[3]
    assert "19.14" not in report.svm_table([("encoder", outcome)], paper=False)


def test_what_is_shorter_than_the_paper_s_protocol_is_said() -> None:
    arguments = (63_257, 10_000, "svhn train", "svhn test", 26_032)
    text = report.protocol_lines(Protocol(), *arguments)
    assert "SHORTENED" not in text
    for part in (
        "1,000 images each",
        "first 63,257 of svhn train",
        "50 points from -20 to 20",
        "last 10,000",
        "26,032",
    ):
        assert part in text
    short = report.protocol_lines(Protocol(repeats=5, grid=9), *arguments)
    assert "SHORTENED: 5 test sets, not 100, 9 values of C, not 50" in short
