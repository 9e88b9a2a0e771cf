"""`python -m alikit.evaluate RUN`: scores of samples, reconstructions and codes; with --svm, of features."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alikit import console, startup
from alikit.errors import UsageError

if TYPE_CHECKING:  # NumPy must not be imported before BLAS is set up
    from alikit.data import Dataset
    from alikit.inference import Model
    from alikit.scoring.svm import Outcome, Protocol
    from alikit.training.classifier import Origin

KINDS = ("encoder", "pixels", "untrained", "discriminator")

EXAMPLES = """\
  python -m alikit.evaluate runs/00000-svhn                     scores, with a classifier that alikit trains once
  python -m alikit.evaluate runs/00000-svhn --count 2000 --draws 1        ... in a hurry
  python -m alikit.evaluate runs/00000-svhn --svm 1000          linear SVMs on 1000 labels: the paper's protocol
  python -m alikit.evaluate runs/00000-svhn --svm 1000 --repeats 10 --grid 20 --features encoder

Scores compare samples with real images, trained on and held out, on features of the classifier; the floor beside each
is what real images get in the samples' place. They are comparable where the classifier's hash is the same, and are no
FID. --svm compares the encoder's features with raw pixels, an untrained encoder's and D's.

Results go to RUN/scores.jsonl and RUN/svm.jsonl, one JSON object a line; what --svm has found, and features, are kept
there, so that a stopped evaluation goes on and a repeated one is done at once. Needs the extra: pip install
"alikit[eval]" for --svm and --plot.
"""


def _parser() -> argparse.ArgumentParser:
    whole = console.whole
    cli = console.parser("evaluate", "Measure a trained model.", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of all choices and draws (0)")
    cli.add_argument("--data", metavar="DIR", help="the data set's folder (default: where the run found it)")
    cli.add_argument(
        "-o", "--out", metavar="DIR", type=Path, help="folder for results and features (default: the run's)"
    )
    cli.add_argument("--threads", metavar="N", type=whole(1, 4096), help="CPU threads (default all cores)")
    cli.add_argument("--quiet", action="store_true", help="no progress")

    scores = cli.add_argument_group("scores")
    scores.add_argument("--count", metavar="N", type=whole(10), help="images on each side (10,000, or what there is)")
    scores.add_argument("--draws", metavar="N", type=whole(1, 100), help="sets of samples (3)")
    scores.add_argument(
        "--classifier", metavar="FILE.h5", type=Path, help="read from there, or left there (default: the cache folder)"
    )

    svm = cli.add_argument_group("features for few labels")
    svm.add_argument("--svm", metavar="N", type=whole(2), help="instead of scores: SVMs on N labels (the paper: 1000)")
    svm.add_argument("--repeats", metavar="N", type=whole(1, 10_000), help="labelled sets for the test error (100)")
    svm.add_argument("--grid", metavar="N", type=whole(2, 1000), help="values of C to choose from (50)")
    svm.add_argument("--features", metavar="NAME", nargs="+", choices=KINDS, help=f"only these of {', '.join(KINDS)}")
    svm.add_argument(
        "--code",
        choices=("sample", "mu"),
        help="the encoder's output as a feature: sample as in the authors' code, or mu",
    )
    svm.add_argument("--plot", metavar="FILE.png", type=Path, help="validation error against C, by matplotlib")
    return cli


def _check(options: argparse.Namespace) -> None:
    groups = {True: ("count", "draws", "classifier"), False: ("repeats", "grid", "features", "code", "plot")}
    odd = console.given(options, groups[bool(options.svm)])
    if odd:
        names = " and ".join(f"--{name}" for name in odd)
        raise UsageError(f"{names}: {'for scores, not with --svm' if options.svm else 'goes with --svm'}")


def _check_svm(options: argparse.Namespace, model: Model) -> None:
    """UsageError before any data are read, for those without classes and for features that the run has not."""
    from alikit.training.config import CLASSES

    name = model.config.dataset
    if name not in CLASSES:
        raise UsageError(f"--svm needs classes, as {' and '.join(CLASSES)} have; {name} has none")
    if options.svm % CLASSES[name]:
        raise UsageError(f"--svm {options.svm}: a multiple of the {CLASSES[name]} classes is wanted")
    _kinds(options, model)


def _evaluate(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.data import judging_split, open_dataset
    from alikit.pictures import check_png
    from alikit.training.config import data_seed

    _check(options)
    if options.plot:
        check_png("--plot", options.plot)
    options.threads = options.threads or startup.default_threads()
    backend.set_threads(options.threads)
    model = inference.load(options.run, console.warn)
    inference.refuse_conditional(model, options.run, "evaluate")
    if model.config.dataset == "mixture":
        raise UsageError("evaluate measures images; a mixture run counts its modes as it trains (metrics.jsonl)")
    if options.svm:
        _check_svm(options, model)
    options.out = options.out or (options.run if options.run.is_dir() else options.run.parent)
    config = replace(model.config, data=options.data or model.config.data)
    splits = (config.split, judging_split(config.dataset, config.split))
    train, held_out = (
        open_dataset(
            config.dataset, data=config.data, split=s, size=config.size, seed=data_seed(config), quiet=options.quiet
        )
        for s in splits
    )
    inference.warn_of_other_data(model, train, console.warn)
    weights = "averaged weights" if model.averaged else "weights"
    console.tell(
        f"{options.run}: {config.model}, {weights} of step {model.step:,}, trained on {_described(train, model)}"
    )
    if model.config.labels:
        console.tell(_test_error(model, held_out))
    return _svm(options, model, train, held_out) if options.svm else _scores(options, model, train, held_out)


def _test_error(model: Model, held_out: Dataset) -> str:
    """The table of a run with labels."""
    from alikit.scoring import classes
    from alikit.training.labels import Exam

    exam = Exam(held_out, model.config)
    return classes.error_table(classes.measured(model, exam), exam, model.step)


def _described(train: Dataset, model: Model) -> str:
    from alikit.scoring.report import describe

    return f"{_used(train, model):,} images of {describe(train)}"


def _used(train: Dataset, model: Model) -> int:
    return min(model.config.images or len(train), len(train))


def _scores(options: argparse.Namespace, model: Model, train: Dataset, held_out: Dataset) -> int:
    from alikit.scoring import records, report, scores
    from alikit.training.classifier import weights_hash

    network, origin, labelled = _classifier(options, model, train)
    real = scores.choose(train, _used(train, model), held_out, options.count or scores.COUNT, options.seed)
    about: dict[str, Any] = {
        "classifier_sha256": weights_hash(network),
        "classifier_accuracy": None,
        "classifier_key": origin.key,
        "classifier_recipe": origin.recipe,
    }
    if labelled and real.labels is not None:
        about["classifier_accuracy"] = scores.accuracy(network, real.held_out, real.labels)
    else:
        real = real._replace(labels=None)  # random weights have no answers to compare
    names = report.describe(train), report.describe(held_out)
    console.tell(_about_classifier(about, len(real.held_out), names[1]))
    draws = options.draws or 3
    found = scores.of_samples(model, network, real, names, draws, options.seed, options.quiet)
    if model.networks.encodes:
        found += scores.of_codes(model, network, real, names[1], options.seed, options.quiet)
    about |= {
        "run": str(options.run),
        "step": model.step,
        "averaged": model.averaged,
        "draws": draws,
        "seed": options.seed,
    }
    about |= {"train_sha256": train.checksum, "held_out_sha256": held_out.checksum}
    console.tell(
        f"{console.counted(draws, 'set')} of samples, seed {options.seed}; +-: population deviation over the sets"
    )
    console.tell(report.score_table(found))  # whether or not they can be written
    for score in found:
        records.append(options.out / "scores.jsonl", {**score._asdict(), **about})
    console.tell(f"written to {options.out / 'scores.jsonl'}")
    return 0


def _classifier(options: argparse.Namespace, model: Model, train: Dataset) -> tuple[Any, Origin, bool]:
    """The classifier of the run's data, trained where it is not at hand; its origin; whether it knows labels."""
    from alikit.data.files import user_cache
    from alikit.training import classifier

    used = _used(train, model)
    name = f"{train.name}-{train.split}-{classifier.key(train, used)}.h5"
    path = options.classifier or user_cache() / "classifiers" / name

    def follow(steps: Any, total: int) -> Any:
        return console.follow(steps, total, "training the classifier, once", options.quiet)

    network, origin = classifier.train(train, used, path, follow, classifier.RECIPE)
    return network, origin, classifier.class_count(train) > 0


def _about_classifier(about: dict[str, Any], count: int, name: str) -> str:
    accuracy = about["classifier_accuracy"]
    line = f"classifier: weights SHA-256 {about['classifier_sha256'][:16]}, "
    if accuracy is None:
        return line + "random weights (the data have no labels)"
    return line + f"accuracy {accuracy:.4f} on {count:,} images of {name}"


def _svm(options: argparse.Namespace, model: Model, train: Dataset, held_out: Dataset) -> int:
    from alikit.scoring import features, few_labels, report
    from alikit.scoring.svm import GRID, TEST_SETS, Protocol, validation_count

    labelled, count = _labelled(options, model, train)
    pool = count - validation_count(count)
    splits = few_labels.Splits(labelled, count, pool, held_out)
    protocol = Protocol(options.svm, options.repeats or TEST_SETS, options.grid or GRID[2], options.seed)
    console.tell(
        report.protocol_lines(
            protocol, pool, count - pool, report.describe(labelled), report.describe(held_out), len(held_out)
        ),
    )
    outcomes = []
    for kind in _kinds(options, model):
        chosen = features.build(kind, model, train, _used(train, model), options.code or "sample", options.seed)
        outcomes.append(
            (chosen.title, few_labels.measure(chosen, protocol, splits, options.out, options.threads, options.quiet))
        )
        console.tell(report.svm_table(outcomes[-1:], paper=False).splitlines()[-1])
    console.tell(report.svm_table(outcomes, paper=train.name == "svhn" and options.svm == 1000))
    if options.plot:
        _plot(options.plot, protocol, outcomes)
    return 0


def _labelled(options: argparse.Namespace, model: Model, train: Dataset) -> tuple[Dataset, int]:
    """The images that may have labels, and how many of them: those that the run was trained on; but SVHN's `train`, as
    in the paper, where that was `extra` (method 6.1)."""
    from alikit.data import open_dataset
    from alikit.training.config import data_seed

    config = model.config
    if (config.dataset, config.split) != ("svhn", "extra"):
        return train, _used(train, model)
    data = options.data or config.data
    labelled = open_dataset("svhn", data=data, split="train", seed=data_seed(config), quiet=options.quiet)
    return labelled, len(labelled)


def _kinds(options: argparse.Namespace, model: Model) -> Sequence[str]:
    """The features asked for, or all that the run has. UsageError for one that it has not."""
    from alikit.scoring.features import available

    have = available(model)
    odd = [kind for kind in options.features or [] if kind not in have]
    if odd:
        raise UsageError(f"--features {odd[0]}: this run has {', '.join(have)}")
    return options.features or have


def _plot(path: Path, protocol: Protocol, outcomes: list[tuple[str, Outcome]]) -> None:
    from alikit.scoring.curve import validation_curve
    from alikit.training.images import save_png

    save_png(path, validation_curve(protocol.exponents(), [(title, o.curve, o.c) for title, o in outcomes]))
    console.tell(f"{path}: validation error against C")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _evaluate(options))


if __name__ == "__main__":
    sys.exit(main())
