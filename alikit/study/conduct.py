"""A study from its first run to its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from alikit import console
from alikit.errors import DataError
from alikit.study import measure
from alikit.study import report as reporting
from alikit.study.place import Place
from alikit.study.plan import MODELS, Job, Settings, arguments, first_stage, second_stage
from alikit.study.pool import Pool, starter
from alikit.study.progress import Watch
from alikit.training import checkpoint, runs
from alikit.training.files import write_atomic


class Scope(NamedTuple):
    """How much of a study is wanted."""

    configs: int
    seeds: int
    models: Sequence[str]

    @property
    def jobs(self) -> int:
        """How many runs that is."""
        return self.configs * self.seeds * len(self.models)


def conduct(place: Place, settings: Settings, scope: Scope, parallel: int, checkpoint_every: int, quiet: bool) -> int:
    """Runs what is not finished; returns the exit code."""
    watch = Watch(scope.jobs, settings.steps, quiet)
    pool = Pool(place, parallel, starter(place, settings, checkpoint_every), watch)
    try:
        for stage in (_first, _second):
            jobs = stage(place, settings, scope)
            open_jobs = [job for job in jobs if place.finished(job.name) is None]
            watch.skip(len(jobs) - len(open_jobs))
            if code := pool.run(open_jobs):
                return code
    finally:
        watch.close()
    return 0


def _first(place: Place, settings: Settings, scope: Scope) -> list[Job]:
    return first_stage(settings, *scope)


def _second(place: Place, settings: Settings, scope: Scope) -> list[Job]:
    """The runs on GANs; none on one that diverged."""

    def best_gan() -> str | None:
        names = [job.name for job in _first(place, settings, scope) if job.model == "gan"]
        found = reporting.best([result for name in names if (result := place.finished(name))])
        return found["job"]["name"] if found else None

    def sound(job: Job) -> bool:
        gan = place.finished(job.gan or "")
        return gan is None or not gan["diverged"]

    return [job for job in second_stage(settings, *scope, best_gan) if sound(job)]


def report(place: Place, settings: Settings, scope: Scope, *, figure: bool, quiet: bool) -> None:
    """Writes and prints the tables of the finished runs in scope, and draws the figure."""
    by_model = _results(place, settings, scope)
    if not any(by_model.values()):
        raise DataError(f"{place.folder}: no run is finished yet")
    floor = measure.floor(settings.seed)
    runs.write_json(place.folder / "table.json", reporting.as_json(settings, by_model, floor))
    text = reporting.markdown(settings, by_model, floor)
    write_atomic(place.folder / "table.md", [text.encode()])
    if figure:
        _figure(place, settings, by_model)
    if not quiet:
        console.tell(text)
        console.tell(f"{place.folder}: table.md, table.json" + (", figure.png" if figure else ""))


def _results(place: Place, settings: Settings, scope: Scope) -> dict[str, list[reporting.Result]]:
    jobs = _first(place, settings, scope) + _second(place, settings, scope)
    found = [result for job in jobs if (result := place.finished(job.name))]
    return {m: [r for r in found if r["job"]["model"] == m] for m in MODELS if m in scope.models}


def _figure(place: Place, settings: Settings, by_model: dict[str, list[reporting.Result]]) -> None:
    from alikit.study import figure

    x, modes = measure.held_out(settings.seed)
    columns, captions = {}, []
    for model, results in by_model.items():
        shown = reporting.best(results)
        if shown is None or model == "gan":  # a GAN alone has no codes; its samples are those of (b) and (c)
            continue
        points, _ = checkpoint.load(place.points(shown["job"]["name"]))
        columns[model] = points | {"points": x[: measure.DRAWN]}
        n = shown["numbers"]
        captions.append(f"{n['modes_covered']} modes, {n['share_covered']:.0%} in 3 sd, MMD {n['mmd']:.3f}")
    if columns:
        figure.draw(place.folder / "figure.png", columns, modes[: measure.DRAWN], captions)


def announce(place: Place, settings: Settings, scope: Scope, checkpoint_every: int) -> int:
    """Prints the settings and every run's command; writes nothing."""
    console.tell(json.dumps(settings.to_json() | {"folder": str(place.folder), "runs": scope.jobs}, indent=2))
    jobs = first_stage(settings, *scope) + second_stage(settings, *scope, lambda: "BEST-GAN")
    for job in jobs:
        line = arguments(settings, job, lambda name: str(place.run(name)), checkpoint_every)
        console.tell(" ".join(["python -m alikit.train", *line]))
    return 0
