"""Times of calls that take turns, so that a busy moment of the machine meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

Row = tuple[str, str, float]
"""What was measured, what it is compared with (or the unit of an absolute value), ratio (or value)."""


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def take_turns(calls: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """What each call answers (its own seconds) in every turn; one turn before them warms up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            seconds = call()
            if turn:
                found[name].append(seconds)
    return found


def least_seconds(calls: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """The best time of each call."""
    timed = {name: partial(seconds_of, call) for name, call in calls.items()}
    return {name: min(seconds) for name, seconds in take_turns(timed, turns).items()}


def median_ratio(mine: list[float], theirs: list[float]) -> float:
    """Median over the turns of the ratio within a turn."""
    return median(a / b for a, b in zip(mine, theirs, strict=True))
