"""PyTorch's compiler filling its caches while correctness is checked: `python -m bench.gpu.warm`.

Compiling the peer's step takes most of a minute for each batch size. Nothing is timed meanwhile, and nothing that is
chosen by measuring is compiled here: those figures must not depend on what else the GPU does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.gpu.runner import stop
from bench.harness import ROOT

WAYS = (("compile bf16", 100), ("compile bf16", 512), ("compile tf32", 100))


class Background:
    """The process; `stop` before anything is timed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        with (folder / "warm.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.gpu.warm"],
                stdout=log,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ends it, finished or not."""
        stop(self.process, patience=0.0)


def main() -> None:
    """A step each."""
    import torch

    from bench.gpu import runs
    from bench.gpu.torch_steps import build

    images = torch.from_numpy(runs.images("svhn")).to("cuda")
    for way, batch in WAYS:
        _, step = build(way, "svhn", images, batch)
        step()
        print(f"{way}, batch {batch}: compiled", flush=True)


if __name__ == "__main__":
    main()
