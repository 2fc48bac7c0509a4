"""Waiting that ends when nothing moves: a slow job passes, a stuck one fails, by a clock that the test turns."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from patience import IDLE_SHARE, Life, Patience, StuckError, cpu_seconds

QUIET = 60.0


@dataclass
class Job:
    """What is waited for; `second` lets one pass in which it uses so much processor time."""

    now: float = 0.0
    life: Life = field(default_factory=Life)

    def patience(self) -> Patience:
        return Patience(lambda: self.life, "The job does not end", QUIET, lambda: self.now)

    def second(self, cpu: float = 0.0, output: int = 0) -> None:
        self.now += 1.0
        self.life = Life(self.life.cpu_seconds + cpu, self.life.output + output)


def watch(job: Job, patience: Patience, seconds: int, cpu: float = 0.0) -> None:
    for _ in range(seconds):
        job.second(cpu)
        patience.check()


def test_a_stuck_job_is_given_up():
    job = Job()
    patience = job.patience()
    with pytest.raises(StuckError, match="The job does not end: nothing has moved for 61 s"):
        watch(job, patience, int(QUIET) + 2)
    assert job.now == QUIET + 1


def test_what_a_waiting_process_uses_is_no_sign_of_life():
    job = Job()
    patience = job.patience()
    with pytest.raises(StuckError):
        watch(job, patience, 10 * int(QUIET), cpu=IDLE_SHARE / 2)


@pytest.mark.parametrize("sign", [{"cpu": 0.02}, {"output": 1}])
def test_a_slow_job_that_moves_is_waited_for_without_end(sign: dict[str, float]):
    """One that gets a fiftieth of a core, or prints a letter now and then."""
    job = Job()
    patience = job.patience()
    for second in range(100 * int(QUIET)):
        job.second(**(sign if "cpu" in sign or second % 50 == 0 else {}))
        patience.check()


def test_a_message_is_a_sign_of_life():
    job = Job()
    patience = job.patience()
    for second in range(100 * int(QUIET)):
        job.second()
        if second % 50 == 0:
            patience.moved()
        patience.check()


def test_time_in_which_the_watcher_was_not_run_does_not_count():
    job = Job()
    patience = job.patience()
    for _ in range(10):
        job.now += 10 * QUIET
        patience.check()


def test_a_call_is_waited_for_while_something_moves():
    job, asked = Job(), threading.Event()

    def look() -> Life:
        job.second(cpu=1.0)
        if job.now > 10 * QUIET:
            asked.set()
        return job.life

    patience = Patience(look, "It does not answer", QUIET, lambda: job.now)
    assert patience.wait_for(lambda: asked.wait() and "answer", interval=1e-4) == "answer"
    with pytest.raises(ZeroDivisionError):
        patience.wait_for(lambda: 1 / 0)


def test_a_call_that_blocks_while_nothing_moves_is_given_up():
    job, never = Job(), threading.Event()

    def look() -> Life:
        job.second()
        return job.life

    patience = Patience(look, "It does not answer", QUIET, lambda: job.now)
    with pytest.raises(StuckError, match="It does not answer"):
        patience.wait_for(never.wait, interval=1e-4)
    never.set()


WORKS = "import sys\nwhile True: sum(range(10**5)); print(flush=True)"
PARENT = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child works: it prints a line after each piece of work."""
    process = subprocess.Popen([sys.executable, "-c", PARENT, WORKS], stdout=subprocess.PIPE)
    yield process
    assert process.stdout is not None
    process.stdout.close()  # the child ends at its next line
    process.wait()


def test_processor_time_of_children_counts(worker: subprocess.Popen[bytes]):
    assert worker.stdout is not None
    worker.stdout.readline()
    before = cpu_seconds(worker.pid)
    for _ in range(200):
        worker.stdout.readline()
    assert cpu_seconds(worker.pid) > before
    assert cpu_seconds(2**22 + 1) == 0.0
