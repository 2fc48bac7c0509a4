"""Random region layouts: which held-out concept goes into which box, standing or moving."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from base import KNOWN
from lessons import LessonPlan, subject
from world.backgrounds import SIZE

from ccvd_core.regions.geometry import Box
from ccvd_core.regions.region import Keyframe, Region, RegionSet

PLANS = (subject("rex", "fox"), subject("cab", "taxi"), subject("hoops", "basketball"), subject("coon", "raccoon"))
"""The concepts that are placed, in learning order."""

TABLE_SEED, TUNING_SEED = 83_000, 29_000
"""Layouts of the published table, and those that settings are chosen on."""


@dataclass(frozen=True)
class Case:
    """One layout: region k shows `plans[k]`, moving as `motions[k]` says."""

    plans: tuple[LessonPlan, ...]
    motions: tuple[str, ...]
    regions: RegionSet
    background: str
    moving: bool

    @property
    def surroundings(self) -> str:
        """What is outside the regions."""
        return f"on {self.background}"

    @property
    def clauses(self) -> RegionSet:
        """The regions with prompts that say only who is in them: the rest is in `surroundings`."""
        drawn = zip(self.regions.regions, self.plans, self.motions, strict=True)
        regions = tuple(replace(region, prompt=f"a <{plan.name}> {motion}") for region, plan, motion in drawn)  # type: ignore[type-var]
        return replace(self.regions, regions=regions)

    @property
    def prompt(self) -> str:
        """The whole scene, every concept named."""
        who = " and ".join(f"a <{p.name}> {motion}" for p, motion in zip(self.plans, self.motions, strict=True))
        return f"{who} on {self.background}"


def random_cases(count: int, regions: int, seed: int) -> list[Case]:
    """Every second layout moves."""
    rng = np.random.default_rng([seed, regions])
    return [random_case(rng, regions, moving=bool(index % 2)) for index in range(count)]


def random_case(rng: np.random.Generator, regions: int, moving: bool) -> Case:
    plans = tuple(PLANS[index] for index in rng.permutation(len(PLANS))[:regions])
    background = str(rng.choice(KNOWN.backgrounds))
    motions = tuple(str(rng.choice(["moving up", "moving down"])) if moving else "still" for _ in plans)
    cells = columns(regions) if moving and regions < 4 else quadrants(rng, regions)
    drawn = []
    for plan, motion, cell in zip(plans, motions, cells, strict=True):
        keyframes = keyframes_in(rng, cell, motion)
        drawn.append(Region(plan.name, f"a <{plan.name}> {motion} on {background}", "#4fc3f7", 1.0, keyframes))
    return Case(plans, motions, RegionSet(SIZE, SIZE, tuple(drawn)), background, moving)


def columns(count: int) -> list[Box]:
    """Upright strips, in which a box can travel."""
    return [(index / count, 0.0, 1 / count, 1.0) for index in range(count)]


def quadrants(rng: np.random.Generator, count: int) -> list[Box]:
    corners = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]
    return [(*corners[index], 0.5, 0.5) for index in rng.permutation(4)[:count]]


def keyframes_in(rng: np.random.Generator, cell: Box, motion: str) -> tuple[Keyframe, ...]:
    """A box at a random place of its cell, or travelling up or down in it."""
    x, y, width, height = cell
    side = float(rng.uniform(0.42, 0.48)) if motion == "still" else 0.38
    wide, high = min(side, width), min(side, height)
    left = x + float(rng.uniform(0, width - wide))
    if motion == "still":
        return (Keyframe(0.0, (left, y + float(rng.uniform(0, height - high)), wide, high)),)
    travel = min(0.25, height - high)
    top = y + float(rng.uniform(0, height - high - travel))
    start, end = (top + travel, top) if motion == "moving up" else (top, top + travel)
    return Keyframe(0.0, (left, start, wide, high)), Keyframe(1.0, (left, end, wide, high))
