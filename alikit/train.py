"""`python -m alikit.train SET`: train ALI, or a model it is compared with; watch it, stop it, go on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alikit import console, startup
from alikit.errors import UsageError
from alikit.training.allowed import CHOICES, NUMBERS

if TYPE_CHECKING:  # NumPy must not be imported before BLAS is set up
    from alikit.training.config import Config
    from alikit.training.labels import Exam
    from alikit.training.loop import Run
    from alikit.training.state import Saved

SETS = ("svhn", "cifar10", "celeba", "tiny-imagenet", "mixture", "folder")

EXAMPLES = """\
  python -m alikit.train svhn --demo                   three minutes, nothing to download
  python -m alikit.train svhn                          the paper's networks and constants on the train split
  python -m alikit.train svhn --split extra            ... on the split the paper used (1.3 GB)
  python -m alikit.train svhn --model vae              a GAN (gan) or a VAE with the same decoder
  python -m alikit.train celeba --conditional          given the 40 attributes of each face; svhn, cifar10: the class
  python -m alikit.train mixture --model posthoc --decoder runs/00003-mixture
  python -m alikit.train svhn --labels 1000            D also learns the classes of 1000 images; the test error
  python -m alikit.train folder --data ~/pictures --size 64 --steps 20000
  python -m alikit.train svhn --resume                 go on with the newest svhn run under runs/

A run is a folder, runs/00000-svhn by default: config.json, metrics.jsonl, pictures (samples, reconstructions: odd
columns the originals, even columns their reconstructions; latents: codes against the prior) and checkpoints.
Ctrl-C and SIGTERM save a checkpoint first. Exit codes: 0 done, 1 failure, 2 usage, 3 data missing or damaged,
4 device unusable, 5 training diverged, 130 and 143 stopped by a signal.
"""

#: options that override a field of the configuration of the same name
OVERRIDES = (
    *("data", "split", "images", "size", "data_seed", "model", "decoder", "width", "nz", "init_std"),
    "conditional",
    *("epochs", "steps", "batch_size", "lr", "beta1", "beta2", "adam_eps", "seed", "ema", "reconstruction"),
    *("instance_noise", "instance_noise_steps", "kl_warm_up"),
    *("labels", "labelled_batch"),
    *("device", "precision", "graph", "log_every", "sample_every", "checkpoint_every", "keep"),
)


def _number(group: argparse._ActionsContainer, name: str, metavar: str, explained: str) -> None:
    group.add_argument(f"--{name}", metavar=metavar, type=NUMBERS[name.replace("-", "_")], help=explained)


def _parser() -> argparse.ArgumentParser:
    cli = console.parser("train", "Train Adversarially Learned Inference (Dumoulin et al. 2016).", EXAMPLES)
    cli.add_argument("set", choices=SETS, help="the data set, with its preset of networks and constants")

    data = cli.add_argument_group("data")
    data.add_argument(
        "--data", metavar="DIR", help="its folder (default $ALIKIT_DATA, else the user's cache); svhn also: synthetic"
    )
    data.add_argument("--split", metavar="NAME", help="what to train on (default train)")
    _number(data, "images", "N", "use only the first N of the split")
    _number(data, "size", "N", "folder: side of the images, 32 or 64 (default 64)")
    _number(data, "data-seed", "N", "of data that are drawn (the seed)")

    game = cli.add_argument_group("training (defaults: the paper's, by set)")
    length = game.add_mutually_exclusive_group()
    _number(length, "steps", "N", "length in steps")
    _number(length, "epochs", "X", "length in passes over the split")
    _number(game, "batch-size", "N", "images a step (100; tiny-imagenet 128)")
    _number(game, "lr", "X", "Adam's step size (1e-4)")
    _number(game, "beta1", "X", "Adam's beta1 (0.5; mixture 0.2)")
    _number(game, "beta2", "X", "Adam's beta2 (0.999)")
    _number(game, "adam-eps", "X", "Adam's eps, beside sqrt(v) (1e-8)")
    _number(game, "seed", "N", "of weights, batches, noise (0)")
    _number(game, "ema", "RATE", "average encoder and decoder weights at this rate")
    _number(
        game,
        "reconstruction",
        "X",
        "add X times the squared error of decode(encode(x)) to the generators' loss, as ALICE does (0: ALI)",
    )
    _number(
        game,
        "instance-noise",
        "X",
        "add normal noise of this deviation to every image that D sees, less from step to step (0: none)",
    )
    _number(game, "instance-noise-steps", "N", "steps in which it falls to 0 (10,000)")
    _number(game, "kl-warm-up", "N", "vae: steps in which the KL term's weight rises from 0 to 1 (1000)")
    game.add_argument(
        "--conditional",
        action="store_true",
        default=None,
        help="give all networks the image's class (svhn, cifar10) or attributes (celeba)",
    )
    _number(game, "labels", "N", "D also learns the classes of N images, svhn and cifar10 (none)")
    _number(game, "labelled-batch", "N", "labelled images a step (as many as others, or all)")
    game.add_argument(
        "--model",
        metavar="NAME",
        help="ali (default), gan, vae, or inverse or posthoc: inference learned for a finished GAN; other networks: "
        "cifar10-paper, cifar10-untied, celeba-paper, mixture-dropout, ...; both: gan:celeba-paper",
    )
    game.add_argument("--decoder", metavar="RUN", help="inverse, posthoc: the run whose decoder they take, frozen")
    _number(game, "width", "X", "factor on the maps of hidden layers (1)")
    _number(game, "nz", "N", "size of the code z")
    _number(game, "init-std", "X", "of initial weights (0.01; mixture 0.02)")

    machine = cli.add_argument_group("machine")
    machine.add_argument("--device", choices=CHOICES["device"], help="default auto")
    machine.add_argument("--precision", choices=CHOICES["precision"], help="default fp32; the CPU knows no other")
    machine.add_argument(
        "--no-graph", dest="graph", action="store_false", default=None, help="on a GPU: launch kernel by kernel"
    )
    _number(machine, "threads", "N", "CPU threads (default all cores)")

    run = cli.add_argument_group("run")
    run.add_argument("-o", "--out", metavar="DIR", type=Path, help="run folder (default runs/<number>-<set>)")
    run.add_argument(
        "--resume",
        metavar="PATH",
        nargs="?",
        const="auto",
        help="go on from a run folder or checkpoint; auto: the newest run of this set, or --out, or a new run",
    )
    _number(run, "log-every", "N", "steps between log lines (10; GPU 100)")
    _number(run, "sample-every", "N", "steps between pictures (500; GPU 10000)")
    _number(run, "checkpoint-every", "N", "steps between checkpoints (the same)")
    _number(run, "keep", "N", "newest checkpoints to keep (3)")
    run.add_argument(
        "--demo",
        action="store_true",
        help="svhn: drawn house numbers and a narrow network, three minutes; mixture: a short run",
    )
    run.add_argument("--dry-run", action="store_true", help="print what would run, write nothing")
    run.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    return cli


def _train(options: argparse.Namespace) -> int:
    from alikit import backend
    from alikit.training import loop, session

    folder, saved, config = _what_to_run(options)
    backend.set_threads(config.threads)
    config, reason = session.settle(config)
    session.check(config, saved)
    if options.dry_run:
        return _dry_run(config, folder, reason)
    say = (lambda _: None) if options.quiet else console.tell
    threads = console.counted(config.threads, "thread")
    say(f"device: {config.device} ({reason}), {threads}, {config.precision}{_cpu_note(config, options)}")
    dataset = session.open_training_data(config, options.quiet)
    run, held = session.start(config, dataset, folder, saved, options.quiet)
    say(f"data: {run.feed.order.n:,} of {dataset.name} {dataset.split} ({dataset.source}); held out: {held}")
    if config.images and config.images > len(dataset):
        console.warn(f"--images {config.images:,}: more than {dataset.name} {dataset.split} has ({len(dataset):,})")
    say(_beginning(run, saved, options.resume))
    code = loop.train(run, quiet=options.quiet)
    if run.monitor.exam is not None and not code:
        say(_test_error(run, run.monitor.exam))
    say(f"{'stopped' if code else 'done'} after {console.counted(run.step, 'step')}: {run.folder}")
    return code


def _what_to_run(options: argparse.Namespace) -> tuple[Path | None, Saved | None, Config]:
    """(run folder or None for a new one, checkpoint to go on from or None, configuration)."""
    from alikit.training import config, session, state

    overrides = config.split_model(console.given(options, OVERRIDES))
    if options.data not in (None, "synthetic"):  # whole, to be found again from elsewhere
        overrides["data"] = str(Path(options.data).expanduser().absolute())
    threads = options.threads or startup.default_threads()
    if options.resume is None:
        if options.out is not None and options.out.exists() and (options.out.is_file() or any(options.out.iterdir())):
            raise UsageError(f"--out {options.out}: exists already; --resume goes on with a run there")
        return options.out, None, replace(config.resolve(options.set, overrides, options.demo), threads=threads)
    conditional = bool(overrides.get("conditional"))
    label = session.label(options.set, overrides.get("game", "ali"), conditional, options.labels)
    folder, checkpoint = session.resume_point(options.resume, options.out, label)
    saved = state.read(checkpoint) if checkpoint else None
    earlier = saved.config if saved else session.saved_config(folder) if folder else None
    if earlier is None:
        settings = config.resolve(options.set, overrides, options.demo)
        return folder or options.out, None, replace(settings, threads=threads)
    if options.demo:  # the run goes on with its own settings; a set without a demo is refused
        config.demo_settings(options.set, overrides)
    earlier = session.with_decoder_at(options.decoder, earlier, folder, saved)
    settings = config.continued(earlier, {**overrides, "dataset": options.set})
    # other sums in another order: a run goes on byte for byte only with as many threads as it had
    settings = replace(settings, threads=options.threads or earlier.threads)
    return folder, saved, settings if options.device else replace(settings, device="auto")


def _test_error(run: Run, exam: Exam) -> str:
    """The table of a finished run with labels."""
    from alikit.scoring import classes

    error = classes.logged(run.folder)
    return "" if error is None else classes.error_table(error, exam, run.step)


def _cpu_note(config: Config, options: argparse.Namespace) -> str:
    """What makes this CPU fast, or could: compiled passes, the BLAS kernels chosen."""
    from alikit import backend

    if config.device != "cpu":
        return ""
    passes = "compiled by Numba" if backend.CPU_PASSES == "fused" else 'on NumPy (faster: pip install "alikit[fast]")'
    blas = f", OPENBLAS_CORETYPE={options.coretype} set for this AMD processor" if options.coretype else ""
    return f", elementwise passes {passes}{blas}"


def _beginning(run: Run, saved: Saved | None, resume: str | None) -> str:
    parameters = sum(p.data.size for p in run.trainer.model.parameters())
    begins = "begins (no earlier one to go on with)" if resume else "begins"
    origin = f"goes on from {saved.path.name}" if saved else "begins again" if run.continued else begins
    if run.step >= run.total_steps:
        origin = f"has {console.counted(run.step, 'step')} already"
    length = console.counted(run.total_steps, "step")
    return f"run: {run.folder} {origin}; {_label(run.config)}, {parameters:,} parameters, {length}"


def _label(config: Config) -> str:
    name = config.model if config.game == "ali" else f"{config.game}:{config.model}"
    return f"conditional {name}" if config.conditional else name


def _dry_run(config: Config, folder: Path | None, reason: str) -> int:
    """Prints the resolved configuration and the networks."""
    from alikit.training import state
    from alikit.training.config import to_json

    model = state.build_model(config)
    console.tell(json.dumps(to_json(config), indent=2))
    console.tell(f"device: {config.device} ({reason})")
    console.tell(f"run folder: {folder or 'a new one under runs/'}")
    for name, network in model.children():
        console.tell(f"{name}: {sum(p.data.size for p in network.parameters()):,} parameters")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    options.coretype = startup.prepare()
    return console.run(lambda: _train(options))


if __name__ == "__main__":
    sys.exit(main())
