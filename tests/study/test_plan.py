"""Which runs a study consists of, and that a run's constants are its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from alikit import train
from alikit.errors import UsageError
from alikit.study.plan import (
    BEST,
    MODELS,
    SEARCH,
    Job,
    arguments,
    check_models,
    configuration,
    first_stage,
    from_json,
    second_stage,
)


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_configurations_lie_in_their_ranges_and_differ() -> None:
    drawn = [configuration(SEARCH, number) for number in range(60)]
    for place, ends in enumerate((SEARCH.lr, SEARCH.beta1, SEARCH.init_std)):
        values = [constants[place] for constants in drawn]
        assert ends[0] <= min(values) < max(values) <= ends[1]
        assert len(set(values)) > 50
        assert all(value == float(f"{value:.4g}") for value in values)
    # log-uniform: the geometric middle divides the draws
    assert 15 < sum(constants[0] < (3e-5 * 1e-3) ** 0.5 for constants in drawn) < 45
    assert 15 < sum(constants[1] < 0.4 for constants in drawn) < 45


def test_a_larger_study_holds_the_smaller_one_unchanged() -> None:
    small, large = first_stage(SEARCH, 2, 1, MODELS), first_stage(SEARCH, 3, 2, MODELS)
    assert {job.name: job for job in small}.items() <= {job.name: job for job in large}.items()
    other = replace(SEARCH, seed=1)
    assert configuration(other, 0) != configuration(SEARCH, 0)


def test_a_fixed_value_changes_no_other() -> None:
    fixed = configuration(replace(SEARCH, beta1=(0.5, 0.5)), 3)
    free = configuration(SEARCH, 3)
    assert fixed == (free[0], 0.5, free[2])


def test_two_stages_of_a_search() -> None:
    first = first_stage(SEARCH, 2, 1, MODELS)
    assert names(first) == [f"{model}-{c:02d}-s0" for c in range(2) for model in ("ali", "gan", "vae")]
    second = second_stage(SEARCH, 2, 1, MODELS, lambda: "gan-01-s0")
    assert names(second) == [f"{m}-{c:02d}-s0-on-gan-01-s0" for c in range(2) for m in ("inverse", "posthoc")]
    assert {job.gan for job in second} == {"gan-01-s0"}
    assert (second[2].lr, second[2].beta1, second[2].init_std) == configuration(SEARCH, 1)
    assert second_stage(SEARCH, 2, 1, MODELS, lambda: None) == []


def test_with_best_inference_is_learned_for_the_gan_of_the_same_seed() -> None:
    first, second = first_stage(BEST, 1, 3, MODELS), second_stage(BEST, 1, 3, MODELS, lambda: 1 / 0)
    assert {(job.lr, job.beta1, job.init_std) for job in first + second} == {
        (BEST.lr[0], BEST.beta1[0], BEST.init_std[0])
    }
    assert [(job.seed, job.gan) for job in second if job.model == "posthoc"] == [(s, f"gan-00-s{s}") for s in range(3)]
    assert [job.seed for job in first_stage(replace(BEST, seed=7), 1, 2, ["ali"])] == [7, 8]


def test_models_wanted() -> None:
    assert check_models(["vae", "ali"]) == ["ali", "vae"]
    assert names(first_stage(SEARCH, 1, 1, ["vae"])) == ["vae-00-s0"]
    assert second_stage(SEARCH, 1, 1, ["gan", "vae"], lambda: 1 / 0) == []
    for models, message in (
        (["ali", "wgan"], "--models: there is no 'wgan': choose from ali, gan, inverse, posthoc, vae"),
        ([], "--models: there is no ''"),
        (["ali", "inverse"], "--models: inverse and posthoc build on a GAN: add gan"),
    ):
        with pytest.raises(UsageError, match=message):
            check_models(models)


def test_settings_go_through_json() -> None:
    assert from_json(BEST.to_json()) == BEST


@pytest.mark.parametrize("settings", [SEARCH, BEST], ids=["search", "best"])
def test_every_job_is_a_command_of_train(settings) -> None:
    job = Job("posthoc-00-s0-on-gan-00-s0", "posthoc", 3, 1.5e-5, 0.25, 0.07, "gan-00-s0")
    given = arguments(replace(settings, width=0.5, seed=2), job, lambda name: str(Path("out", name)), 500)
    options = train._parser().parse_args(given)
    assert (options.set, options.model, options.seed, options.data_seed) == ("mixture", "posthoc", 3, 2)
    assert (options.lr, options.beta1, options.init_std) == (1.5e-5, 0.25, 0.07)
    assert (options.steps, options.batch_size, options.width) == (settings.steps, settings.batch_size, 0.5)
    assert (str(options.out), options.decoder) == ("out/posthoc-00-s0-on-gan-00-s0", "out/gan-00-s0")
    assert (options.threads, options.device, options.ema, options.resume) == (1, "cpu", settings.ema, "auto")
    assert (options.checkpoint_every, options.sample_every, options.keep) == (500, settings.steps, 1)
