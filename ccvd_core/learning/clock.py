"""How long a lesson still takes."""

from __future__ import annotations

import time


class Clock:
    """Time left, from the pace of the steps of this run."""

    def __init__(self, done: int, total: int) -> None:
        self._began, self._first, self._total = time.monotonic(), done, total

    def left(self, done: int) -> float:
        steps = max(1, done - self._first)
        return (time.monotonic() - self._began) / steps * (self._total - done)


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
