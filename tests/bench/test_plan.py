"""The launches of a step, counted: few enough, nothing beside our kernels, and written down for the compiler."""

import re
from collections import Counter
from pathlib import Path

import pytest

from alikit.kernels import aot, plan
from bench.plan import LABELS, MOST, main, record_step


def test_an_svhn_step_has_few_launches_and_the_last_line_says_how_many(capsys) -> None:
    assert main(["svhn"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    count = len(table) - 1  # a line of headings
    assert re.match(rf"{count} launches, \d+ MB, 100\.7 GFLOP, floor \d+ us", last)
    assert count <= MOST == 95
    # four 1x1 layers normalise their input as they read it: two of the encoder's, two of the decoder's
    kernels = [line.split()[1] for line in table[1:]]
    assert kernels.count("pointwise_window") == kernels.count("pointwise_backward") == 4


@pytest.mark.parametrize("preset", ["cifar10", "mixture"])
def test_a_step_of_another_preset_is_planned_too(preset: str) -> None:
    """`record_step` refuses whatever is computed beside our kernels."""
    launches = record_step(preset, "tf32")
    assert {launch.name for launch in launches} >= {"adam_kernel", "adversarial_losses_kernel", "record_step_kernel"}
    assert [launch.name for launch in launches].count("adam_kernel") == 1  # of both players
    assert all(launch.work.read + launch.work.written > 0 for launch in launches)


@pytest.mark.parametrize("preset", LABELS)
def test_a_step_with_labels_is_planned_too(preset: str) -> None:
    """The same launches but for the losses', and three to gather and to join the labelled images; in the same code but
    for the last layer's."""
    plain, labelled = record_step(preset), record_step(preset, labels=LABELS[preset])
    extra = Counter(launch.name for launch in labelled) - Counter(launch.name for launch in plain)
    assert extra == {"class_losses_kernel": 1, "gather_batch_kernel": 2, "join_rows_kernel": 1}
    assert {launch.name for launch in plain} - {launch.name for launch in labelled} == {"adversarial_losses_kernel"}


@pytest.mark.parametrize("step", [plan.Step("svhn", "bf16", 90), plan.Step("mixture", "tf32", 80)], ids=str)
def test_the_file_for_the_compiler_is_up_to_date(step: plan.Step) -> None:
    """`python -m bench.plan --write` writes it."""
    written = plan.loads(plan.FILE.read_text())[step]
    assert plan.dumps({step: written}) == plan.dumps({step: record_step(step.preset, step.precision, arch=step.arch)})


def test_a_step_of_the_user_s_own_is_saved_for_the_compiler(tmp_path: Path, capsys) -> None:
    file = tmp_path / "plan.json"
    assert main(["mixture", "--precision", "fp32", "--batch-size", "37", "--save", str(file)]) == 0
    saved = plan.loads(file.read_text())
    assert {(step.preset, step.precision) for step in saved} == {("mixture", "fp32")}
    assert {step.arch for step in saved} == set(aot.ARCHS)
    wanted = plan.dumps({plan.Step("x", "x", 90): record_step("mixture", "fp32", 37)})
    (found,) = (launches for step, launches in saved.items() if step.arch == 90)
    assert plan.dumps({plan.Step("x", "x", 90): found}) == wanted
    assert f"{len(record_step('mixture', 'fp32', 37))} launches" in capsys.readouterr().out
