"""What is where: is every region's concept in its own box, and is another's there?"""

from __future__ import annotations

from dataclasses import dataclass

from layouts import Case
from torch import Tensor
from world.backgrounds import SIZE
from world.reader import Found, find

from ccvd_core.regions.geometry import Box


@dataclass(frozen=True)
class Placement:
    """One region of one clip, judged on its first and last frame."""

    placed: bool
    leaked: bool


def placements(clip: Tensor, case: Case) -> list[Placement]:
    """`placed`: the region's concept is found once, its centre in the box. `leaked`: another region's is found there.

    `clip` is [frames, height, width, 3] in 0..1. `placed` must hold in the first frame and in the last one; `leaked` is
    enough in either.
    """
    shown = [plan.shown for plan in case.plans]
    outer = [(0.0, clip[0]), (1.0, clip[-1])]
    found = [(t, find(frame, case.background, "plain", len(shown) + 1)[0]) for t, frame in outer]
    result = []
    for subject, region in zip(shown, case.regions.regions, strict=True):
        boxes = [(region.box_at(t), sprites) for t, sprites in found]
        placed = all(
            [is_inside(sprite, box) for sprite in sprites if sprite.sprite.word == subject] == [True]
            for box, sprites in boxes
        )
        others = set(shown) - {subject}
        leaked = any(
            sprite.sprite.word in others and is_inside(sprite, box) for box, sprites in boxes for sprite in sprites
        )
        result.append(Placement(placed, leaked))
    return result


def is_inside(sprite: Found, box: Box) -> bool:
    """True when the sprite's centre (pixels) lies in the box (fractions of the frame)."""
    x, y = sprite.x / SIZE, sprite.y / SIZE
    left, top, width, height = box
    return left <= x < left + width and top <= y < top + height
