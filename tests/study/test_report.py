"""The tables, the run that the figure shows, and the goal."""

import json
import math
from typing import Any

import pytest

from alikit.study import report
from alikit.study.plan import BEST, SEARCH

FLOOR = {"modes_nearest": 25, "modes_covered": 25, "share_covered": 0.987, "mmd": 0.001}


def result(
    name: str, modes: float, covered: float = 20, share: float = 0.5, error: float | None = 0.1
) -> dict[str, Any]:
    model = name.partition("-")[0]
    numbers = {"modes_nearest": modes, "modes_covered": covered, "share_covered": share}
    if error is not None:
        numbers |= {"reconstruction_error": error, "reconstruction_ratio": error / 8, "mmd": 0.05}
    gan = name.partition("-on-")[2] or None
    job = {"name": name, "model": model, "seed": 0, "lr": 1e-4, "beta1": 0.2, "init_std": 0.02, "gan": gan}
    return {"job": job, "diverged": False, "numbers": numbers}


def lost(name: str) -> dict[str, Any]:
    return {"job": result(name, 0)["job"], "diverged": True}


def cells(text: str, start: str) -> list[str]:
    """The row of a table that begins with a cell, perhaps marked."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (row,) = [row for row in rows if row[0] in (start, f"{start} *")]
    return row


def test_mean_and_deviation_of_a_sample() -> None:
    assert report.spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)), 1.0, 6.0)
    assert report.spread([4.0]) == (4.0, None, 4.0, 4.0)


def test_a_summary_counts_what_diverged_apart() -> None:
    found = report.summary([result("ali-00-s0", 10), lost("ali-01-s0"), result("ali-02-s0", 20)])
    assert (found["runs"], found["diverged"]) == (3, 1)
    assert found["numbers"]["modes_nearest"] == {
        "mean": 15,
        "std": pytest.approx(math.sqrt(50)),
        "least": 10,
        "most": 20,
    }
    assert report.summary([lost("ali-00-s0")]) == {"runs": 1, "diverged": 1, "numbers": {}}


@pytest.mark.parametrize(
    "better",
    [
        result("ali-1", 21, covered=1, share=0.0, error=9.0),
        result("ali-1", 20, covered=21, share=0.0, error=9.0),
        result("ali-1", 20, share=0.6, error=9.0),
        result("ali-1", 20, error=0.05),
    ],
)
def test_the_best_run_by_modes_then_share_then_error(better: dict) -> None:
    others = [result("ali-0", 20), lost("ali-2"), result("ali-3", 20, error=math.nan)]
    assert report.best([*others, better]) is better
    assert report.best([better, *others]) is better
    assert report.best([lost("ali-0")]) is None


BY_MODEL = {
    "ali": [result("ali-00-s0", 25, 25, 0.7), result("ali-00-s1", 24, 23, 0.61), lost("ali-00-s2")],
    "gan": [result("gan-00-s0", 9, error=None)],
    "posthoc": [result("posthoc-00-s0-on-gan-00-s0", 9)],
}


def test_the_table_of_models_stands_beside_the_paper() -> None:
    text = report.markdown(SEARCH, BY_MODEL, FLOOR)
    assert cells(text, "ALI")[:3] == ["ALI", "3 (1 diverged)", "24.5 ± 0.7 (24 to 25)"]
    assert cells(text, "ALI")[4] == "0.655 ± 0.064 (0.610 to 0.700)"
    assert cells(text, "GAN") == ["GAN", "1", "9.0", "20.0", "0.500", "", "", ""]
    assert cells(text, "*paper: ALI*")[1:4] == ["10", "13.4 ± 5.8 (8 to 25)", ""]
    assert cells(text, "*paper: GAN*")[2] == "10.4 ± 9.2 (1 to 22)"
    assert cells(text, "*held-out data, prior's own draws*")[-1] == "0.0010"
    assert "frozen GANs: gan-00-s0." in text
    assert "learning rate 3e-05 to 0.001, beta1 0 to 0.8" in text
    assert "by the paper's count in" not in text  # a search has no goal


def test_all_runs_are_listed_and_those_in_the_figure_marked() -> None:
    text = report.markdown(SEARCH, BY_MODEL, FLOOR)
    assert cells(text, "ali-00-s0")[:6] == ["ali-00-s0 *", "0.0001", "0.2", "0.02", "0", "25"]
    assert cells(text, "ali-00-s1")[0] == "ali-00-s1"
    assert cells(text, "ali-00-s2")[5:7] == ["diverged", ""]
    assert cells(text, "posthoc-00-s0-on-gan-00-s0")[0].endswith(" *")


def test_the_goal_counts_a_diverged_run_as_missed() -> None:
    text = report.markdown(BEST, BY_MODEL, FLOOR)
    assert "ALI covers 25 of 25 modes by the paper's count in 1 of 3 runs, by samples within three" in text
    assert "deviations in 1; at least 60% of the samples lie there in 2." in text


def test_as_json_what_is_not_finite_is_null() -> None:
    spoilt = result("ali-00-s0", 3, error=math.inf)
    found = report.as_json(SEARCH, {"ali": [spoilt, lost("ali-01-s0")]}, FLOOR)
    text = json.dumps(found["runs"], allow_nan=False)
    assert json.loads(text)[0]["numbers"]["reconstruction_error"] is None
    assert found["models"]["ali"]["shown"] == "ali-00-s0"
    assert found["paper"]["gan"] == {"mean": 10.4, "std": 9.2, "least": 1, "most": 22}


def test_columns_stand_under_one_another() -> None:
    text = report.table([["a", "longer"], ["much longer", "b"]])
    assert text == "| a           | longer |\n| ----------- | ------ |\n| much longer | b      |"
