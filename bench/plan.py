"""`python -m bench.plan`: the launches of one training step, counted without a GPU.

The step is run on the planned device, where nothing is computed: what is launched, over how many programs, with how
many compulsory bytes and operations. Beside each launch stands its floor: the larger of bytes over bandwidth and
operations over the matrix rate (both assumed, see the options). The last line begins with "N launches".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alikit.data import Dataset
from alikit.kernels import aot, device, plan
from alikit.kernels.launch import Launch, recording
from alikit.training import config, state
from alikit.training.feed import Feed
from alikit.training.stepper import DeviceStepper

#: what the floors assume of a GPU: sustained bytes/s of memory and operations/s of each precision's products
BANDWIDTH = 4.3e12
RATES = {"bf16": 790e12, "tf32": 400e12, "fp32": 60e12}

#: presets whose kernels are compiled ahead
SHIPPED = ("svhn", "cifar10", "celeba", "tiny-imagenet", "mixture")

#: those that are also compiled with labels, by how many
LABELS = {"svhn": 1000, "cifar10": 4000}

#: launches that a step may have
MOST = 95


def record_step(
    preset: str, precision: str = "bf16", batch: int | None = None, arch: int = 90, labels: int | None = None
) -> list[Launch]:
    """The launches of one training step of a preset, planned for an architecture.

    preset      of `alikit.training.config`;  batch: images, the preset's by default;  arch: 90 for sm_90
    labels      of a D that learns classes as well
    """
    chosen = config.PRESETS[preset]
    settings = replace(chosen, device="cuda", precision=precision, batch_size=batch or chosen.batch_size, labels=labels)
    with device.use("plan", arch):
        trainer = state.build_trainer(settings)
        stepper = DeviceStepper(trainer, _blank_feed(settings, trainer), graph=False)
        stepper.step(0)  # the first step also lays out what later ones find
        with device.deferred_uploads(), recording() as launches:
            stepper.step(1)
    if launches.foreign:
        raise RuntimeError(f"the step computes with something else than kernels: {', '.join(launches.foreign)}")
    return launches


def _blank_feed(settings: config.Config, trainer: Any) -> Feed:
    """Images that nobody looks at, enough for two batches."""
    h, w, c = trainer.model.spec.image
    points = settings.dataset == "mixture"
    shape = (settings.batch_size, c) if points else (settings.batch_size, h, w, c)
    images = np.zeros((2 * shape[0], *shape[1:]), np.float32 if points else np.uint8)
    classes = config.CLASSES.get(settings.dataset, 1)
    labels = np.arange(len(images), dtype=np.uint8) % classes
    about = {"name": settings.dataset, "split": "train", "source": "nothing", "checksum": ""}
    blank = Dataset(**about, images=images, labels=labels, label_names=("",) * classes)
    labelled = Feed(blank, settings.batch_size, 1, conditions=True) if settings.labels else None
    return Feed(blank, settings.batch_size, 0, labelled=labelled)


def shapes() -> str:
    """The text of `kernels/shapes.json`: what a step of each preset launches on each architecture."""
    with_labels = [(f"{preset}-labels", preset, count) for preset, count in LABELS.items()]
    steps = {
        plan.Step(name, precision, arch): record_step(preset, precision, arch=arch, labels=labels)
        for name, preset, labels in [*((preset, preset, None) for preset in SHIPPED), *with_labels]
        for precision in ("bf16", "tf32")
        for arch in aot.ARCHS
    }
    return plan.dumps(steps)


def floor_seconds(launch: Launch, precision: str) -> float:
    """The least time the launch can take on the GPU that the constants describe."""
    work = launch.work
    return max((work.read + work.written) / BANDWIDTH, work.flops / RATES[precision])


def table(launches: Sequence[Launch], precision: str) -> list[str]:
    """A line for each launch, then the sums."""
    lines = [f"{'':>4} {'kernel':<34} {'programs':>9} {'MB':>8} {'MFLOP':>9} {'floor us':>9}"]
    for number, launch in enumerate(launches, 1):
        work, programs = launch.work, int(np.prod(launch.grid))
        lines.append(
            f"{number:4} {launch.name:<34} {programs:9} {(work.read + work.written) / 1e6:8.2f} "
            f"{work.flops / 1e6:9.1f} {floor_seconds(launch, precision) * 1e6:9.2f}"
        )
    return lines


def summary(launches: Sequence[Launch], precision: str) -> str:
    """The last line."""
    bytes_ = sum(launch.work.read + launch.work.written for launch in launches)
    flops = sum(launch.work.flops for launch in launches)
    floor = sum(floor_seconds(launch, precision) for launch in launches)
    return (
        f"{len(launches)} launches, {bytes_ / 1e6:.0f} MB, {flops / 1e9:.1f} GFLOP, floor {floor * 1e6:.0f} us at "
        f"{BANDWIDTH / 1e12:g} TB/s and {RATES[precision] / 1e12:g} TFLOP/s ({precision})"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the plan; 1 where an SVHN step has more launches than allowed."""
    cli = argparse.ArgumentParser(prog="python -m bench.plan", description=__doc__.split("\n\n")[1])
    cli.add_argument("preset", nargs="?", default="svhn", choices=sorted(config.PRESETS), help="default svhn")
    cli.add_argument("--precision", choices=sorted(RATES), default="bf16")
    cli.add_argument("--batch-size", type=int, metavar="N", help="images a step (the preset's)")
    cli.add_argument("--labels", type=int, metavar="N", help="D also learns the classes of N images (none)")
    cli.add_argument(
        "--save", type=Path, metavar="FILE", help="write this step's kernels on every architecture, for aot --plan FILE"
    )
    cli.add_argument("--write", action="store_true", help=f"write every preset's kernels to {plan.FILE.name}, for aot")
    options = cli.parse_args(argv)
    if options.write:
        plan.FILE.write_text(shapes())
        print(f"written: {plan.FILE}")
        return 0
    step = {"precision": options.precision, "batch": options.batch_size, "labels": options.labels}
    if options.save is not None:
        kinds = {plan.Step(options.preset, options.precision, arch): arch for arch in aot.ARCHS}
        options.save.write_text(
            plan.dumps({kind: record_step(options.preset, arch=arch, **step) for kind, arch in kinds.items()})
        )
    launches = record_step(options.preset, **step)
    print("\n".join(table(launches, options.precision)))
    print(summary(launches, options.precision))
    return 1 if options.preset == "svhn" and len(launches) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
