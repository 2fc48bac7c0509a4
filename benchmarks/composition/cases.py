"""Scenes that put several learned concepts together, and how their sentences name some of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from lessons import LessonPlan, motion, style, subject
from scene_parts import PARTS
from world.backgrounds import SIZE
from world.motions import course, motion_named
from world.scenes import FRAMES, Actor, Choices, Scene, random_scene
from world.subjects import held_out_subject

from ccvd_core.concepts.kinds import Kind
from ccvd_core.regions.geometry import Box
from ccvd_core.regions.region import Keyframe, Region, RegionSet

PLANS = (
    subject("rex", "fox"),
    motion("hop", "hopping"),
    style("noir", "noir"),
    subject("cab", "taxi"),
    motion("slide", "diagonal"),
    style("print", "blueprint"),
)
"""In learning order: two of each kind, so that every combination has members to choose from."""
TABLE_SEED, TUNING_SEED = 97_000, 79_000
"""Scenes of the published table, and of those that settings are chosen on."""


@dataclass(frozen=True)
class Combination:
    """Which kinds of concept meet: in one object or scene, or in two objects, each in its own region or in none."""

    kinds: tuple[Kind, ...]
    second: bool = False
    """A second subject stands beside the first."""
    in_regions: bool = False


COMBINATIONS = {
    "subject + motion": Combination(("subject", "motion")),
    "subject + style": Combination(("subject", "style")),
    "motion + style": Combination(("motion", "style")),
    "subject + motion + style": Combination(("subject", "motion", "style")),
    "subject + subject": Combination(("subject",), second=True),
    "subject + motion in a region, subject beside": Combination(("subject", "motion"), second=True, in_regions=True),
}


@dataclass(frozen=True)
class Case:
    """One scene and the concepts in it: those of the first object or of the whole scene, then the second object's."""

    scene: Scene
    plans: tuple[LessonPlan, ...]
    boxes: tuple[Box, ...] = ()
    """Where each object is drawn (fractions of the frame); without them there are no regions."""

    def prompt(self, named: Collection[LessonPlan]) -> str:
        """The whole sentence, in which the concepts of `named` stand as `<name>` and the others as their class."""
        return self._said(self.scene.caption(), named)

    def regions(self, named: Collection[LessonPlan]) -> RegionSet:
        """A region for each object, whose sentence says where it is too."""
        texts = [f"{actor.caption()} on {self.scene.background}" for actor in self.scene.actors]
        drawn = [
            Region(f"region {number}", self._said(text, named), "#4fc3f7", 1.0, (Keyframe(0.0, box),))
            for number, (text, box) in enumerate(zip(texts, self.boxes, strict=True))
        ]
        return RegionSet(SIZE, SIZE, tuple(drawn))

    def _said(self, text: str, named: Collection[LessonPlan]) -> str:
        for plan in self.plans:
            text = text.replace(plan.shown, f"<{plan.name}>" if plan in named else plan.class_words, 1)
        return text


def random_cases(combination: Combination, count: int, seed: int, known: Choices) -> list[Case]:
    """The same scenes for all methods."""
    rng = np.random.default_rng([seed, len(combination.kinds), combination.second, combination.in_regions])
    return [random_case(rng, combination, known) for _ in range(count)]


def random_case(rng: np.random.Generator, combination: Combination, known: Choices) -> Case:
    plans = [one_of(rng, kind) for kind in combination.kinds]
    if not combination.second:
        scene = random_scene(rng, 1, known, styled=0.0)
        for plan in plans:
            scene = PARTS[plan.kind].changed(rng, scene, plan.shown)
        named = any(PARTS[kind].named for kind in combination.kinds)
        return Case(replace(scene, names_style=named), tuple(plans))
    other = one_of(rng, "subject", without=plans[0])
    if combination.in_regions:
        return in_regions(rng, plans, other, str(rng.choice(known.backgrounds)))
    scene = random_scene(rng, 2, known, styled=0.0)
    cast = zip(scene.actors, (plans[0], other), strict=True)
    actors = tuple(replace(actor, subject=held_out_subject(plan.shown), words=()) for actor, plan in cast)
    return Case(replace(scene, actors=actors), (plans[0], other))


def one_of(rng: np.random.Generator, kind: Kind, without: LessonPlan | None = None) -> LessonPlan:
    some = [plan for plan in PLANS if plan.kind == kind and plan != without]
    return some[int(rng.integers(len(some)))]


def in_regions(rng: np.random.Generator, plans: Sequence[LessonPlan], other: LessonPlan, background: str) -> Case:
    """The first subject moves in one half of the frame while the second one stands in the other."""
    first, moving = plans
    amount = float(rng.uniform(*motion_named(moving.shown).amounts[""]))
    moves, size = course(moving.shown, amount, FRAMES), 46.0
    left = bool(rng.random() < 0.5)
    middles = [SIZE * share for share in ((0.25, 0.75) if left else (0.75, 0.25))]
    # A motion's course is laid around the middle of its half.
    x, y = (middle - (axis.min() + axis.max()) / 2 for middle, axis in ((middles[0], moves.x), (SIZE / 2, moves.y)))
    actors = (
        Actor(held_out_subject(first.shown), moving.shown, size, (float(x), float(y)), amount),
        Actor(held_out_subject(other.shown), "still", size, (middles[1], SIZE / 2), 0.0),
    )
    halves: tuple[Box, Box] = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))
    return Case(Scene(actors, background), (first, moving, other), halves if left else halves[::-1])
