"""Which of the concepts in a scene are seen in a clip of it."""

from __future__ import annotations

import numpy as np
from cases import Case
from lessons import LessonPlan
from scene_parts import PARTS
from torch import Tensor
from world.backgrounds import SIZE
from world.judge import score
from world.reader import Found, find, follow, name_motion


def seen(case: Case, clip: Tensor) -> dict[LessonPlan, bool]:
    """For a clip [frames, height, width, 3] in 0..1: is each concept of the case there?

    With one object the judge's own answers. With two, a subject is seen when it is found in the first and in the last
    frame, inside its box where there is one; a motion when it is what the object in the first box does.
    """
    if len(case.scene.actors) == 1:
        found = score(clip, case.scene)
        answers = {"subject": found.object, "motion": found.motion, "style": found.style}
        return {plan: answers[plan.kind] for plan in case.plans}
    first, last = (sprites(frame, case) for frame in (clip[0], clip[-1]))
    objects = [plan for plan in case.plans if PARTS[plan.kind].is_object]
    result = {}
    for number, plan in enumerate(objects):
        inside = [[one for one in some if in_box(case, number, one)] for some in (first, last)]
        result[plan] = all(any(one.sprite.word == plan.shown for one in some) for some in inside)
    for plan in case.plans:
        if not PARTS[plan.kind].seen_in_frames:
            moving = [one for one in first if in_box(case, 0, one)]
            result[plan] = bool(moving) and motion_of(clip, moving[0], case) == plan.shown
    return result


def sprites(frame: Tensor, case: Case) -> list[Found]:
    """The strongest sprites of a frame, one more than there should be."""
    return find(frame, case.scene.background, case.scene.style, len(case.scene.actors) + 1)[0]


def in_box(case: Case, number: int, found: Found) -> bool:
    """Whether a sprite's centre lies in the box of an object; everywhere does where there are no boxes."""
    if not case.boxes:
        return True
    left, top, width, height = case.boxes[number]
    return left <= found.x / SIZE < left + width and top <= found.y / SIZE < top + height


def motion_of(clip: Tensor, first: Found, case: Case) -> str:
    """What a sprite does from the first frame on."""
    path = follow(clip, first, case.scene.background, case.scene.style)
    return name_motion(np.stack([one.pose() for one in path]))[0]
