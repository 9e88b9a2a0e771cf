"""One part in a process of its own: `python -m bench.gpu.worker PART START OPTIONS`, which writes JSON lines.

    {"items": [names]}                 once
    {"begin": i, "seconds": limit}     before an item
    {"row": {...}}                     whatever it found
    {"failed": "traceback"}            where it raised
    {"end": i}

START is the first item's number: the runner starts a new worker behind an item that killed one. What libraries print
goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from alikit import startup
from bench.gpu.part import Options
from bench.gpu.parts import PARTS

#: exit code after a failure that the device did not survive
DEAD = 3


def replies() -> Any:
    """The pipe to the runner; standard output is standard error from here on, for child processes too."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def serve(part: Any, start: int, options: Options, pipe: Any) -> None:
    """Runs the items from `start` on."""

    def say(**message: Any) -> None:
        pipe.write(json.dumps(message) + "\n")

    items = part.items(options)
    say(items=[item.name for item in items])
    for number, item in enumerate(items[start:], start):
        say(begin=number, seconds=item.seconds)
        try:
            for row in item.run():
                say(row={"item": item.name, **row})
        except Exception as error:
            say(failed=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
            if options.timed and not alive():
                os._exit(DEAD)  # nothing on the device can be cleaned up
        say(end=number)


def alive() -> bool:
    """Whether the device still answers: after an illegal access it answers nobody in this process."""
    from alikit.kernels import device

    try:
        device.module().cuda.runtime.deviceSynchronize()
        return True
    except Exception:
        return False


def main(name: str, start: str, options: str) -> None:
    """Serves one part, with BLAS and threads as alikit's commands have them."""
    pipe = replies()
    startup.prepare()
    from alikit import set_threads

    set_threads(startup.default_threads())
    serve(PARTS[name], int(start), Options(**json.loads(options)), pipe)


if __name__ == "__main__":
    main(*sys.argv[1:])
