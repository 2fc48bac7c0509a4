"""Follow an object through a clip: where what is inside a box goes, and when it can no longer be seen.

Its picture is looked for around its last place, a little turned and a little larger or smaller, by normalised
cross-correlation (`cv2.matchTemplate`). `benchmarks/following` measures it beside what else OpenCV offers without a
model to download: boxes sit closest on the demo world's sprites, and a loss is told most often. TrackerMIL keeps no
scale and never tells a loss, though over checks as strong as the sprites it stays on them a little better; optical flow
is the fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from .geometry import Box
from .track import FollowError, Loss, Track

SIDE = 32
"""Pixels of the square that the box is drawn to, whatever its size and shape: it is compared at this size."""
LIKE, ALIKE = 0.6, 0.75
"""Correlation below which an object is lost, and from which its picture is kept up with how it looks now."""
RATE = 0.1
"""Share of a new look in the recent picture."""
INSIDE = 1 / 3
"""Share of the box that must be inside the frame."""
REACH = 2.4
"""How large the area is that is searched, in boxes."""
ROUNDS = (
    (0.07, (-0.3, -0.15, 0.0, 0.15, 0.3), REACH),
    (0.03, (-0.07, 0.0, 0.07), 1.2),
    (0.015, (-0.03, 0.0, 0.03), 1.2),
)
"""How an object is looked for, ever more finely: the change of size, the turns (radians), the area in boxes."""
CONTRAST = 2.0
"""Standard deviation (of 0..255) below which there is nothing in a box to be found again."""


@dataclass(frozen=True)
class Pose:
    """A box on a picture, in pixels: its centre, size, and turn (radians)."""

    x: float
    y: float
    width: float
    height: float
    turn: float = 0.0

    def box(self, across: int, down: int) -> Box:
        """The upright box around the ellipse in this pose, cut at the frame's edges, as fractions of the frame."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        wide, high = math.hypot(self.width * cos, self.height * sin), math.hypot(self.width * sin, self.height * cos)
        left, right = (min(max((self.x + side * wide / 2) / across, 0.0), 1.0) for side in (-1, 1))
        top, bottom = (min(max((self.y + side * high / 2) / down, 0.0), 1.0) for side in (-1, 1))
        return left, top, right - left, bottom - top

    def inside(self, across: int, down: int) -> float:
        """Share of the box that is inside a frame of this size."""
        _, _, width, height = replace(self, turn=0.0).box(across, down)
        return width * across * height * down / (self.width * self.height)


def opencv() -> ModuleType:
    """OpenCV, asked for only when something is to be followed. Raises FollowError."""
    try:
        import cv2
    except ImportError as error:
        raise FollowError(
            "Following an object needs OpenCV, which is not installed or does not load "
            f"({error}). Install it into ComfyUI's Python with: pip install opencv-python"
        ) from error
    return cv2


def follow(frames: Sequence[UInt8[ndarray, "height width 3"]], start: int, box: Box) -> Track:
    """Follow what is in a box (fractions of the frame) at frame `start` to the clip's end and back to its beginning.

    Raises FollowError where there is nothing to follow.
    """
    opencv()
    if not 0 <= start < len(frames):
        raise FollowError(f"There are {len(frames)} frames to follow through; frame {start + 1} is none of them.")
    # At this scale the box is not much larger than the square that it is drawn to: nothing falls between its pixels.
    down, across = frames[start].shape[:2]
    x, y, width, height = box
    scale = min(1.0, 1.5 * SIDE / math.sqrt(max(1.0, width * across * height * down)))
    small = [shrunk(frame, scale) for frame in frames]
    down, across = small[start].shape[:2]
    pose = Pose((x + width / 2) * across, (y + height / 2) * down, width * across, height * down)
    if pose.inside(across, down) < INSIDE:
        raise FollowError("Most of the box is outside the frame. Move it onto the object, then follow it.")
    first = patch(small[start], pose)
    if float(first.std(axis=(0, 1)).max()) < CONTRAST:
        raise FollowError("There is nothing to follow in this box: it is all of one colour. Put it around an object.")
    later, after = way(small[start:], pose, first)
    earlier, before = way(small[start::-1], pose, first)
    boxes = (*reversed(earlier), pose.box(across, down), *later)
    return Track(start - len(earlier), boxes, before, after)


def way(
    frames: Sequence[Float[ndarray, "height width 3"]], pose: Pose, first: Float[ndarray, "side side 3"]
) -> tuple[list[Box], Loss]:
    """The boxes in the frames after the first, where the object is in `pose`, as far as it is seen; why no further."""
    boxes: list[Box] = []
    recent, pace = first, (0.0, 0.0)
    for frame in frames[1:]:
        down, across = frame.shape[:2]
        expected = replace(pose, x=pose.x + pace[0], y=pose.y + pace[1])
        found = find(frame, (first + recent) / 2, expected, pose)
        look = patch(frame, found)
        likeness = max(correlation(look, first), correlation(look, recent))
        if found.inside(across, down) < INSIDE:
            return boxes, "left"
        if likeness < LIKE:
            return boxes, "left" if found.inside(across, down) < 0.9 else "hidden"
        if likeness > ALIKE:
            recent = (1 - RATE) * recent + RATE * look
        pace = (pace[0] + found.x - pose.x) / 2, (pace[1] + found.y - pose.y) / 2
        pose = found
        boxes.append(pose.box(across, down))
    return boxes, ""


def find(
    frame: Float[ndarray, "height width 3"], template: Float[ndarray, "side side 3"], expected: Pose, last: Pose
) -> Pose:
    """Where a frame is most like the template: coarsely around the expected pose first, then twice more finely."""
    rounds = (
        (0.07, (-0.3, -0.15, 0.0, 0.15, 0.3), REACH),
        (0.03, (-0.07, 0.0, 0.07), 1.2),
        (0.015, (-0.03, 0.0, 0.03), 1.2),
    )
    pose = expected
    for growth, turns, reach in rounds:
        tried = [
            replace(pose, width=pose.width * size, height=pose.height * size, turn=pose.turn + turn)
            for size in (1 / (1 + growth), 1.0, 1 + growth)
            for turn in turns
        ]
        pose = max((best_place(frame, template, at, last, reach) for at in tried), key=lambda one: one[0])[1]
    return pose


def best_place(
    frame: Float[ndarray, "height width 3"],
    template: Float[ndarray, "side side 3"],
    pose: Pose,
    last: Pose,
    reach: float,
) -> tuple[float, Pose]:
    """How good the best place for a pose of this size and turn is, and it; of two alike the nearer one."""
    cv2 = opencv()
    area = patch(frame, pose, reach)
    weight = np.repeat(weights()[..., None], 3, axis=-1)
    # Where the area is of one colour the correlation is 0 / 0.
    match = cv2.matchTemplate(area, template, cv2.TM_CCOEFF_NORMED, mask=weight)
    match = np.where(np.isfinite(match) & (np.abs(match) <= 1.001), match, -1.0)
    steps = (np.arange(match.shape[0]) - (match.shape[0] - 1) / 2) / SIDE
    match = match - 0.02 * (steps[:, None] ** 2 + steps**2)
    row, column = divmod(int(match.argmax()), match.shape[1])
    across, down = steps[column] * pose.width, steps[row] * pose.height
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    place = replace(pose, x=pose.x + cos * across - sin * down, y=pose.y + sin * across + cos * down)
    change = 0.04 * abs(math.log(pose.width / last.width)) + 0.02 * abs(pose.turn - last.turn)
    return float(match[row, column]) - change, place


def shrunk(frame: UInt8[ndarray, "height width 3"], scale: float) -> Float[ndarray, "rows columns 3"]:
    """A frame at this scale, a little blurred: noise and compression are not what is followed."""
    cv2 = opencv()
    if scale < 1:
        down, across = (max(1, round(side * scale)) for side in frame.shape[:2])
        frame = cv2.resize(frame, (across, down), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(frame, (0, 0), 0.7).astype(np.float32)


def patch(frame: Float[ndarray, "height width 3"], pose: Pose, reach: float = 1.0) -> Float[ndarray, "side side 3"]:
    """What is in a box, or in one `reach` times as large, turned upright and drawn at SIDE pixels for a box."""
    cv2 = opencv()
    side = round(SIDE * reach)
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    turned = np.asarray([[cos * pose.width, -sin * pose.height], [sin * pose.width, cos * pose.height]]) / SIDE
    corner = np.asarray([pose.x, pose.y]) - 0.5 - turned @ np.full(2, (side - 1) / 2)
    return cv2.warpAffine(
        frame,
        np.column_stack([turned, corner]),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def weights() -> Float[ndarray, "side side"]:
    """What counts in a box: its middle most, and the corners, where the background is, least."""
    from_middle = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    return np.exp(-1.2 * (from_middle[:, None] ** 2 + from_middle**2)).astype(np.float32)


def correlation(one: Float[ndarray, "side side 3"], other: Float[ndarray, "side side 3"]) -> float:
    """Weighted normalised cross-correlation of two patches over all colours together, in -1..1."""
    weight = weights()[..., None] / (3 * weights().sum())
    one, other = one - (one * weight).sum(), other - (other * weight).sum()
    both = math.sqrt(float((one * one * weight).sum()) * float((other * other * weight).sum()))
    return float((one * other * weight).sum()) / max(both, 1e-6)
