"""Jobs as processes: how many at a time, what a signal does, what is said of one that failed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alikit.errors import AlikitError
from alikit.study import pool
from alikit.study.place import Place
from alikit.study.plan import SEARCH, Job
from alikit.study.pool import Pool
from alikit.study.progress import Watch

WAIT_FOR_A_SIGNAL = """
import signal, sys, time
def end(number, frame):
    print("saved", flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""


def job(name: str) -> Job:
    return Job(name, "ali", 0, 1e-4, 0.2, 0.02)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "study")
    found.prepare(SEARCH)
    return found


@pytest.fixture
def pool_of(place: Place, monkeypatch) -> Callable[..., Pool]:
    """pool_of({name: Python source}, parallel): a pool whose jobs run that source."""
    monkeypatch.setattr(pool, "LOOK", 0.02)

    def make(sources: dict[str, str], parallel: int = 2) -> Pool:
        def start(wanted: Job) -> subprocess.Popen:
            with place.log(wanted.name).open("ab") as log:
                command = [sys.executable, "-c", sources[wanted.name]]
                return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)

        return Pool(place, parallel, start, Watch(len(sources), 10, quiet=True))

    return make


def test_all_jobs_run_and_not_more_at_a_time_than_told(pool_of, place: Place) -> None:
    source = "import time; print(time.time()); time.sleep(0.3); print(time.time())"
    found = pool_of(dict.fromkeys("abcd", source), parallel=2)
    assert found.run([job(name) for name in "abcd"]) == 0
    spans = [[float(line) for line in place.log(name).read_text().split()] for name in "abcd"]
    together = [sum(start <= a < end for start, end in spans) for a, _ in spans]
    assert max(together) == 2
    assert found.running == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_handed_on_once_and_waited_for(number: int, code: int, pool_of, place: Place) -> None:
    def send() -> None:
        while not all(place.log(n).exists() and "ready" in place.log(n).read_text() for n in "ab"):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    assert pool_of(dict.fromkeys("abc", WAIT_FOR_A_SIGNAL)).run([job(name) for name in "abc"]) == code
    assert [place.log(name).read_text().count("saved") for name in "ab"] == [1, 1]
    assert not place.log("c").exists()  # not begun any more


def test_a_failed_job_stops_the_others_and_is_named_with_its_last_words(pool_of, place: Place) -> None:
    fails = "import time; time.sleep(0.8); raise SystemExit('alikit: error: the disk is full')"
    found = pool_of({"a": WAIT_FOR_A_SIGNAL, "b": fails, "c": "pass"})
    with pytest.raises(AlikitError, match=r"^the run b failed: the disk is full \(all of it: .*b\.txt\)$"):
        found.run([job(name) for name in "abc"])
    assert "saved" in place.log("a").read_text()
    assert not place.log("c").exists()


def test_a_job_that_was_killed(pool_of) -> None:
    with pytest.raises(AlikitError, match=r"^the run a failed: ended by signal 9 "):
        pool_of({"a": "import os; os.kill(os.getpid(), 9)"}).run([job("a")])


def test_steps_are_read_from_the_end_of_a_run_s_log(place: Place) -> None:
    assert pool.steps_done(place, "a") == 0
    place.run("a").mkdir()
    path = place.run("a") / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": n, "x": "y" * 90}) + "\n" for n in range(300)))
    assert pool.steps_done(place, "a") == 299
    path.write_text('{"step": 7}\n{"st')
    assert pool.steps_done(place, "a") == 0  # a line in the making; the next look sees it whole


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_shown(capsys) -> None:
    clock = Clock()
    watch = Watch(4, 100, quiet=False, clock=clock)
    watch.skip(1)
    watch.look({"a": 40})  # 40 steps are an earlier process's doing
    clock.now = 10.0
    watch.look({"a": 60})
    watch.done("a")
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "1/4 runs  no time known yet  now a 40 of 100"
    assert out[1] == "1/4 runs  about 2m00s left  now a 60 of 100"  # 240 of 400 steps to go, 2 a second
    assert out[2] == "a is done, 2 of 4"
    Watch(4, 100, quiet=True, clock=clock).look({"a": 1})
    assert capsys.readouterr().out == ""
