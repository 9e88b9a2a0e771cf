"""One run of a study in a process of its own: train (or go on), measure, write the result.

    python -m alikit.study.job '{"job": {...}, "settings": {...}, "folder": "study", "checkpoint_every": 1000}'

It ends, with a checkpoint, when its standard input does: so no run outlives a study that was killed.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alikit import console, startup
from alikit.errors import DivergedError

if TYPE_CHECKING:  # NumPy must not be imported before BLAS is set up
    from alikit.study.place import Place
    from alikit.study.plan import Job, Settings


def perform(place: Place, job: Job, settings: Settings, checkpoint_every: int) -> int:
    """Brings a job to its result; returns the exit code. A run that diverged is a result too, and so is one of which
    a number is not finite."""
    import alikit
    from alikit import train
    from alikit.study.measure import measure
    from alikit.study.plan import arguments
    from alikit.training import checkpoint, runs

    command = arguments(settings, job, lambda name: str(place.run(name)), checkpoint_every)
    code = train.main([*command, "--quiet"])
    if code not in (0, DivergedError.exit_code):
        return code
    record: dict[str, Any] = {"job": job.__dict__, "diverged": bool(code), "steps": settings.steps}
    record |= {"command": ["python", "-m", "alikit.train", *command], "alikit": alikit.__version__}
    if not code:
        numbers, points = measure(place.run(job.name), settings.seed)
        if all(math.isfinite(number) for number in numbers.values()):
            checkpoint.save(place.points(job.name), points, {"job": job.name})
            record |= {"numbers": numbers, "seconds_a_step": _seconds(place.run(job.name) / runs.TIMING)}
        else:
            record["diverged"] = True
    runs.write_json(place.result(job.name), record)  # last: where it is, all is
    return 0


def _seconds(timing: Path) -> float:
    """The median over the run's log of a step's time."""
    import statistics

    return statistics.median(json.loads(line)["seconds"] for line in timing.read_text().splitlines())


def _end_with_parent() -> None:
    """A signal to ourselves once nobody holds the other end of standard input."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin, whose lock a waiting thread would hold when the process ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_predecessor() -> None:
    """Waits for a process that a killed study left behind in the midst of saving; both have the job's log open."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(sys.stderr.fileno(), fcntl.LOCK_EX)


def main(argv: Sequence[str] | None = None) -> int:
    """Performs the job given as JSON; returns its exit code."""
    startup.prepare()
    given = json.loads((argv or sys.argv[1:])[0])

    def work() -> int:
        from alikit.study.place import Place
        from alikit.study.plan import Job, from_json

        _wait_for_predecessor()
        return perform(
            Place(Path(given["folder"])), Job(**given["job"]), from_json(given["settings"]), given["checkpoint_every"]
        )

    _end_with_parent()
    return console.run(work)


if __name__ == "__main__":
    sys.exit(main())
