"""The editing tasks: clips to change, and what of a result says how well they were changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from lessons import LessonPlan, motion, style, subject
from scene_parts import PARTS
from torch import Tensor
from world.backgrounds import SIZE
from world.judge import score
from world.reader import find, follow
from world.scenes import FRAMES, Choices, Scene, random_scene

from ccvd_core.regions.region import Keyframe, Region, RegionSet

STYLES = (style("noir", "noir"), style("print", "blueprint"))
SUBJECTS = (subject("rex", "fox"), subject("cab", "taxi"))
MOTIONS = (motion("hop", "hopping"), motion("slide", "diagonal"))
TABLE_SEED, TUNING_SEED = 61_000, 16_000
"""Clips of the published table, and of those that settings are chosen on."""
ROOM = 1.12
"""Side of a drawn box, in sizes of the sprite: as an artist draws it around what is seen."""
NEAR = 0.05
"""Share of the frame up to which a path is the source's."""


@dataclass(frozen=True)
class Edit:
    """A clip of the world, the concept that comes into it, and the scene that should be seen afterwards."""

    source: Scene
    plan: LessonPlan
    wanted: Scene

    def prompt(self) -> str:
        """The wanted scene's sentence with the concept as `<name>`."""
        return self.plan.caption(self.wanted)

    def plain_prompt(self) -> str:
        """The same in the base's own words."""
        return self.wanted.caption().replace(self.plan.shown, self.plan.class_words, 1)

    def clip(self) -> Tensor:
        """The source [frames, height, width, 3] in 0..1."""
        return torch.from_numpy(self.source.render()).float() / 255

    def regions(self) -> RegionSet:
        """A box that follows the object, with a sentence that says who is to be there."""
        (actor,) = self.source.actors
        keyframes = []
        for index, (x, y, size, _) in enumerate(actor.placed()):
            side = min(1.0, ROOM * size / SIZE)
            left, top = (float(np.clip(at / SIZE - side / 2, 0, 1 - side)) for at in (x, y))
            keyframes.append(Keyframe(index / (FRAMES - 1), (left, top, side, side)))
        region = Region("object", self.prompt(), "#4fc3f7", 1.0, tuple(keyframes))
        return RegionSet(SIZE, SIZE, (region,))


def edits(plans: tuple[LessonPlan, ...], count: int, seed: int, known: Choices) -> list[Edit]:
    """Random clips of one object of the base, each to be changed by one of the concepts in turn."""
    rng, found = np.random.default_rng([seed, len(plans[0].kind)]), []
    for index in range(count):
        plan, source = plans[index % len(plans)], random_scene(rng, 1, replace(known, described=False), styled=0.0)
        wanted = PARTS[plan.kind].changed(rng, source, plan.shown)
        found.append(Edit(source, plan, replace(wanted, names_style=PARTS[plan.kind].named)))
    return found


def path_of(clip: Tensor, scene: Scene) -> np.ndarray | None:
    """Centres [frames, 2] (fractions of the frame) of the strongest sprite of a clip; None where there is none."""
    found, _ = find(clip[0], scene.background, scene.style)
    if not found:
        return None
    path = follow(clip, found[0], scene.background, scene.style)
    return np.array([[one.x, one.y] for one in path]) / SIZE


def restyled(edit: Edit, clip: Tensor) -> dict[str, float]:
    """`style`: it is seen. `object`: who was there still is. `path_kept`: at most `NEAR` from where it was."""
    judged, path = score(clip, edit.wanted), path_of(clip, edit.wanted)
    there = edit.source.actors[0].placed()[:, :2] / SIZE
    kept = path is not None and float(np.abs(path - there).max()) <= NEAR
    return {"style": float(judged.style), "object": float(judged.object), "path_kept": float(kept)}


def replaced(edit: Edit, clip: Tensor) -> dict[str, float]:
    """`placed`: the concept is in the box in the first and the last frame. `motion`: it does what the source did."""
    (region,) = edit.regions().regions
    inside = []
    for t, frame in ((0.0, clip[0]), (1.0, clip[-1])):
        left, top, width, height = region.box_at(t)
        some, _ = find(frame, edit.wanted.background, edit.wanted.style, 2)
        inside.append(
            any(
                one.sprite.word == edit.plan.shown
                and left <= one.x / SIZE < left + width
                and top <= one.y / SIZE < top + height
                for one in some
            )
        )
    return {"placed": float(all(inside)), "motion": float(score(clip, edit.wanted).motion)}


def transferred(edit: Edit, clip: Tensor) -> dict[str, float]:
    """`motion`: it is seen. `object`: who should move is recognised to the end."""
    judged = score(clip, edit.wanted)
    return {"motion": float(judged.motion), "object": float(judged.object)}


def psnr(one: Tensor, other: Tensor, where: Tensor) -> float:
    """Of clips [frames, height, width, 3] in 0..1, over the pixels where `where` [frames, height, width] is true."""
    error = (one - other).square().mean(-1)[where].mean()
    return float(-10 * torch.log10(error.clamp_min(1e-10)))
