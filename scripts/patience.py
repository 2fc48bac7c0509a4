"""Waiting that ends when nothing moves any more, never after a total time: a busy machine is slow, not stuck."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import psutil

Answer = TypeVar("Answer")

QUIET = 60.0
"""Seconds without any sign of life after which nothing is expected any more."""
IDLE_SHARE = 0.005
"""What a process that only waits may use of one core; an idle ComfyUI uses nothing that can be measured."""
INTERVAL = 0.5
"""Seconds between two looks."""


class StuckError(TimeoutError):
    """Nothing has moved for long."""


@dataclass(frozen=True)
class Life:
    """What a group of processes has done since it began."""

    cpu_seconds: float = 0.0
    output: int = 0
    """Bytes printed, or any number that grows with what is to be seen."""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and what it has started, which falls when one of those ends."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
    return total


@dataclass
class Patience:
    """Raises StuckError from `check` once nothing has moved for `quiet` seconds.

    A sign of life is whatever `moved` is told, a change of the output, or processor time above that of idling. Time in
    which nobody looked does not count: a machine that kept the watcher waiting kept the others waiting too.
    """

    look: Callable[[], Life]
    what: str
    """What the message says that was waited for."""
    quiet: float = QUIET
    clock: Callable[[], float] = time.monotonic
    _silent: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._seen, self._looked = self.look(), self.clock()

    def moved(self) -> None:
        """Something was heard."""
        self._silent, self._seen, self._looked = 0.0, self.look(), self.clock()

    def check(self) -> None:
        """Look once; StuckError if that was in vain for too long."""
        now, life = self.clock(), self.look()
        worked = abs(life.cpu_seconds - self._seen.cpu_seconds)
        if life.output != self._seen.output or worked > IDLE_SHARE * self.quiet:
            self._silent, self._seen = 0.0, life
        else:
            self._silent += min(now - self._looked, 2 * INTERVAL)
        self._looked = now
        if self._silent > self.quiet:
            raise StuckError(
                f"{self.what}: nothing has moved for {self._silent:.0f} s (no message, no output, and "
                f"{worked:.2f} s of processor time)"
            )

    def wait_for(self, call: Callable[[], Answer], interval: float = INTERVAL) -> Answer:
        """The answer of a call that may block, given up when nothing moves."""
        answers: queue.Queue[tuple[bool, Answer | BaseException]] = queue.Queue()

        def work() -> None:
            try:
                answers.put((True, call()))
            except BaseException as error:
                answers.put((False, error))

        threading.Thread(target=work, daemon=True).start()
        while True:
            try:
                succeeded, answer = answers.get(timeout=interval)
            except queue.Empty:
                self.check()
                continue
            if succeeded:
                return answer  # type: ignore[return-value]
            raise answer  # type: ignore[misc]
