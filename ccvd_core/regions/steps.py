"""In which steps regions are merged, see a plain colour, or are contrasted: by noise level (DESIGN 2.3).

A sampler may run only a part of a schedule: the first half of a split, the second of two experts, a video to change.
All it knows is its own noise levels. A share of the steps is therefore a noise level, the one that the model's schedule
has reached after that share of its steps, and a step takes part when it begins above it. So every split of a schedule
decides as the whole schedule does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .merging import RegionSettings

MARGIN = 1.01e-3
"""Schedules are picked from a thousand noise levels, so a step may begin that share of the schedule too early."""
SAME_LEVEL = 1e-6


@dataclass(frozen=True)
class StepParts:
    """What a step does about regions beside region attention (see `RegionSettings`)."""

    merged: bool
    bootstrapped: bool
    contrasted: bool


@dataclass(frozen=True)
class RegionSchedule:
    """Above which noise levels a step must begin to take part."""

    merged_above: float
    bootstrapped_above: float
    contrasted_above: float

    def step(self, level: float, levels: Sequence[float] = ()) -> StepParts:
        """What happens in the step in which a sampler asks at `level`; `levels` are those of its own steps."""
        begun = min((start for start in levels if start >= level - SAME_LEVEL), default=level)
        return StepParts(begun > self.merged_above, begun > self.bootstrapped_above, begun > self.contrasted_above)


def region_schedule(settings: RegionSettings, level_after: Callable[[float], float]) -> RegionSchedule:
    """`level_after(share)` is the noise level at which the model's whole schedule is after that share of its steps."""
    shares = settings.merged_share, settings.bootstrapped_share, settings.contrast_steps
    return RegionSchedule(*(lowest_level(share, level_after) for share in shares))


def lowest_level(share: float, level_after: Callable[[float], float]) -> float:
    """Above which level a step must begin to lie in the first `share` of a schedule; any share has the first step."""
    if share <= 0:
        return math.inf
    return 0.0 if share >= 1 else float(level_after(share - min(MARGIN, share / 2)))
