"""What the data room tells the user while it works: lines and progress on stderr, never on stdout.

stdout belongs to the commands' results. `quiet` drops progress and remarks; warnings are always printed, because
they say that something is used which the user may not have meant. On a terminal progress is a tqdm bar; in a log file
it is a plain line every ten seconds: a long preparation is never silent, and never floods.
"""

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np

from alikit import console

_SILENCE = 10.0  # seconds


class Report:
    """Prints to stderr: `say` a remark, `warn` of something, follow `blocks` of images as they are made."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @property
    def shows_bars(self) -> bool:
        """Whether a moving progress bar makes sense: somebody is looking at a terminal."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        if not self.quiet:
            console.complain(text)

    def warn(self, text: str) -> None:
        console.warn(text)

    def blocks(self, blocks: Iterable[np.ndarray], total: int, what: str) -> Iterator[np.ndarray]:
        """Pass arrays of images through and show how many of `total` have gone by."""
        if self.shows_bars:
            from tqdm import tqdm

            with tqdm(total=total, desc=what, unit=" images", file=sys.stderr) as bar:
                for block in blocks:
                    yield block
                    bar.update(len(block))
            return
        done, told = 0, time.monotonic()
        for block in blocks:
            yield block
            done += len(block)
            if time.monotonic() - told > _SILENCE:
                told = time.monotonic()
                self.say(f"{what}: {done:,} of {total:,} images")
