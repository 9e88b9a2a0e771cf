"""`python -m alikit.encode RUN IMAGES... -o codes.h5`: the codes themselves, for other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alikit import console, startup
from alikit.errors import UsageError

EXAMPLES = """\
  python -m alikit.encode runs/00000-svhn me.jpg ~/pictures -o codes.h5
  python -m alikit.encode runs/00000-svhn --split test --count 1000 --draws 5
  python -m alikit.encode runs/00000-svhn --split train --no-features

codes.h5 is an HDF5 file; N images in the order given, float32:
  mu, sigma   (N, nz)       of q(z | x) = N(mu, sigma^2)
  z           (N, D, nz)    D draws of it
  features    (N, F)        the encoder's last three hidden layers, before the leaky ReLU, end to end
  name        (N,)          the file, or data set/split/number
  label       (N,), (N, K)  with --split, where the set has labels
and as attributes of the file what made it: run, step, weights, seed, options.

  import h5py
  with h5py.File("codes.h5") as file:
      mu, names = file["mu"][:], file["name"].asstr()[:]
"""

BLOCK = 500  # images a piece: a multiple of the network's chunks


class Source(NamedTuple):
    """Images to come: their names, their labels or None, and a function that gives those of [start, stop)."""

    names: list[str]
    labels: Any
    take: Any


def _parser() -> argparse.ArgumentParser:
    whole = console.whole
    cli = console.parser("encode", "Write the codes of images to an HDF5 file.", EXAMPLES)
    cli.add_argument("run", metavar="RUN", type=Path, help="a run folder (its newest checkpoint) or a checkpoint")
    cli.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="picture files or folders of them")
    cli.add_argument("--split", metavar="NAME", help="instead of pictures: this split of the run's data set")
    cli.add_argument("--count", metavar="N", type=whole(1), help="--split: only the first N images")
    cli.add_argument("--data", metavar="DIR", help="--split: the data set's folder (default: where the run found it)")
    cli.add_argument("--draws", metavar="N", type=whole(1, 100), default=1, help="samples of each image's code (1)")
    cli.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the codes' noise (0)")
    cli.add_argument("--no-features", action="store_true", help="leave the hidden layers out: a file 20 times smaller")
    cli.add_argument("-o", "--out", metavar="FILE.h5", type=Path, default=Path("codes.h5"), help="default codes.h5")
    cli.add_argument("--threads", metavar="N", type=whole(1, 4096), help="CPU threads (default all cores)")
    cli.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    return cli


def _source(options: argparse.Namespace, model: Any) -> Source:
    from alikit.data import open_dataset
    from alikit.inference import warn_of_other_data
    from alikit.pictures import list_files, read_files
    from alikit.training.config import data_seed

    if bool(options.images) == bool(options.split):
        raise UsageError("name pictures or a --split of the run's data set, one of the two")
    if options.images:
        if options.count or options.data:
            raise UsageError("--count and --data go with --split; pictures were given")
        files = list_files(options.images)
        return Source([str(f) for f in files], None, lambda a, b: read_files(files[a:b], model.shape[0]))
    config = model.config
    data = options.data or config.data
    dataset = open_dataset(
        config.dataset, data=data, split=options.split, size=config.size, seed=data_seed(config), quiet=options.quiet
    )
    if options.split == config.split:
        warn_of_other_data(model, dataset, console.warn)
    count = min(options.count or len(dataset), len(dataset))
    names = [f"{dataset.name}/{dataset.split}/{number}" for number in range(count)]
    has_labels = dataset.labels_of([0]) is not None
    labels = (lambda a, b: dataset.labels_of(range(a, b))) if has_labels else None
    return Source(names, labels, lambda a, b: dataset.take(range(a, b)))


def _encode(options: argparse.Namespace) -> int:
    from alikit import backend, inference
    from alikit.pictures import check_name

    out = check_name("--out", options.out, (".h5", ".hdf5"))
    backend.set_threads(options.threads or startup.default_threads())
    model = inference.load(options.run, console.warn)
    inference.refuse_conditional(model, options.run, "encode")
    if model.config.dataset == "mixture":
        raise UsageError("encode takes images; the mixture has points, and its encoder no mu and sigma")
    if not model.gaussian:
        raise UsageError(f"{options.run}: has no Gaussian encoder, no mu and sigma (a GAN, or its inverse mapping)")
    source = _source(options, model)
    _write(out, options, model, source)
    if not options.quiet:
        console.tell(
            f"{out}: codes of {console.counted(len(source.names), 'image')}, {model.nz} dimensions, step {model.step}"
        )
    return 0


def _write(out: Path, options: argparse.Namespace, model: Any, source: Source) -> None:
    """All codes, piece by piece: the file appears when it is whole."""
    from alikit.data.hdf5 import whole_file
    from alikit.training.files import write_error

    try:
        with whole_file(out) as (file, check):
            file.attrs.update(_provenance(options, model))
            for start, columns in _pieces(options, model, source):
                for name, column in columns.items():
                    if start == 0:
                        shape = (len(source.names), *column.shape[1:])
                        file.create_dataset(name, shape, column.dtype)
                    file[name][start : start + len(column)] = column
                check()
            file.create_dataset("name", data=source.names, dtype=_text_type())
    except OSError as error:
        raise write_error(out, error) from None


def _pieces(options: argparse.Namespace, model: Any, source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(first image, data set's name -> its rows), piece by piece."""
    import numpy as np

    starts = range(0, len(source.names), BLOCK)
    for start in console.follow(starts, len(starts), f"encoding, {BLOCK} images at a time", options.quiet):
        stop = min(start + BLOCK, len(source.names))
        x = source.take(start, stop)
        found = [model.examine(x, options.seed + k, start) for k in range(options.draws)]
        columns = {"mu": found[0].mu, "sigma": found[0].sigma, "z": np.stack([f.z for f in found], axis=1)}
        if not options.no_features:
            columns["features"] = found[0].hidden
        if source.labels:
            columns["label"] = source.labels(start, stop)
        yield start, columns


def _text_type() -> Any:
    import h5py

    return h5py.string_dtype()


def _provenance(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    import json

    import alikit
    from alikit.training.classifier import weights_hash
    from alikit.training.config import to_json

    return {
        "format": "alikit codes 1",
        "alikit": alikit.__version__,
        "run": str(options.run),
        "step": model.step,
        "averaged": model.averaged,
        "encoder_sha256": weights_hash(model.networks.encoder),
        "seed": options.seed,
        "config": json.dumps(to_json(model.config)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(argv)
    startup.prepare()
    return console.run(lambda: _encode(options))


if __name__ == "__main__":
    sys.exit(main())
