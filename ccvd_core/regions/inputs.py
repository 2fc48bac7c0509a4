"""Regions from what other nodes make: painted masks, and boxes in pixels, frame by frame (DESIGN 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor

from .geometry import Box
from .layout import MAX_KEYFRAMES
from .region import MAX_REGIONS, Keyframe, PaintedRegion, Region, RegionError

TOLERANCE = 0.25
"""How far mask values may lie outside 0..1: resizing overshoots a little; the rest is clipped."""
COLOURS = ("#4fc3f7", "#ffb74d", "#aed581", "#f06292", "#ba68c8", "#4db6ac", "#fff176", "#e57373")
"""Of regions that come without one."""


def painted_regions(
    masks: Float[Tensor, "masks height width"], prompts: Sequence[str], per_frame: bool
) -> list[PaintedRegion]:
    """A region of each mask; or, `per_frame`, one region whose shape over the clip is that of the masks, one by one.

    `prompts` are taken in order; a region without one gets an empty prompt. Raises RegionError for masks that are not
    [masks, height, width] of numbers in 0..1, or on which nothing is painted.
    """
    if masks.ndim == 2:
        masks = masks.unsqueeze(0)
    if masks.ndim != 3 or not masks.numel():
        raise RegionError(f"`mask` must be masks of [masks, height, width]; got {list(masks.shape)}.")
    if not per_frame and masks.shape[0] > MAX_REGIONS:
        raise RegionError(
            f"{masks.shape[0]} masks are connected and each is a region: there can be at most {MAX_REGIONS}. "
            "If they are the frames of one moving region, set `mask_batch` to frames."
        )
    masks = masks.float()
    if float(masks.min()) >= -TOLERANCE and float(masks.max()) <= 1 + TOLERANCE:
        masks = masks.clamp(0, 1)
    parts = [masks] if per_frame else list(masks.split(1))
    regions = []
    for number, part in enumerate(parts, 1):
        # PaintedRegion says what is wrong with values that are not numbers.
        region = PaintedRegion(f"painted {number}", line(prompts, number), 1.0, part)
        if not bool((part > 0).any()):
            raise RegionError(f"On mask {number} nothing is painted. Paint the region in white, or disconnect `mask`.")
        regions.append(region)
    return regions


def spread_note(masks: Tensor, per_frame: bool, frames: int) -> str:
    """What an artist should know of masks of another number than the clip's `frames`; else empty."""
    count = masks.shape[0] if masks.ndim == 3 else 1
    if not per_frame or count in (1, frames):
        return ""
    return (
        f"{count} masks for {frames} frames: they are spread evenly over the clip, the first mask at its beginning and "
        "the last at its end."
    )


def boxes_as_regions(boxes: Any, prompts: Sequence[str], width: int, height: int) -> list[Region]:
    """Regions from boxes in pixels, as ComfyUI's BOUNDING_BOX has them: frames -> boxes {x, y, width, height}.

    The k-th box of each frame belongs to region k; frames are spread evenly over the clip and become keyframes. One
    frame, or a single box, is taken as it is. A box's `label`, if it has one, names its region.
    """
    frames = frames_of(boxes)
    if len(frames) > MAX_KEYFRAMES:
        raise RegionError(f"`boxes` has {len(frames)} frames; at most {MAX_KEYFRAMES} can be used.")
    count = max((len(frame) for frame in frames), default=0)
    if count > MAX_REGIONS:
        raise RegionError(f"`boxes` has {count} boxes in one frame; there can be at most {MAX_REGIONS} regions.")
    regions = []
    for index in range(count):
        keyframes, label = [], ""
        for number, frame in enumerate(frames):
            if index < len(frame):
                where = f"`boxes`, frame {number + 1}, box {index + 1}"
                t = number / (len(frames) - 1) if len(frames) > 1 else 0.0
                keyframes.append(Keyframe(t, fraction_box(frame[index], width, height, where)))
                label = label or str(frame[index].get("label") or "")
        colour = COLOURS[index % len(COLOURS)]
        name = label or f"box {index + 1}"
        regions.append(Region(name, line(prompts, index + 1), colour, 1.0, needed(keyframes)))
    return regions


def frames_of(boxes: Any) -> list[list[Mapping[str, Any]]]:
    """Frames -> boxes, from that, from the boxes of one frame, or from one box."""
    if isinstance(boxes, Mapping):
        boxes = [boxes]
    if not isinstance(boxes, list):
        refuse("`boxes`", "a list of frames with boxes", boxes)
    frames = [boxes] if boxes and all(isinstance(box, Mapping) for box in boxes) else boxes
    for number, frame in enumerate(frames, 1):
        if not isinstance(frame, list):
            refuse(f"`boxes`, frame {number}", "a list of boxes", frame)
        for index, box in enumerate(frame, 1):
            if not isinstance(box, Mapping):
                refuse(f"`boxes`, frame {number}, box {index}", "a table with x, y, width and height", box)
    return frames


def fraction_box(box: Mapping[str, Any], width: int, height: int, where: str) -> Box:
    """A box in pixels as fractions of the frame, cut to what lies inside it."""
    sides = []
    for key in ("x", "y", "width", "height"):
        value = box.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            refuse(f"{where}: {key}", "a finite number of pixels", value)
        sides.append(float(value))
    x, y, across, down = sides
    left, top = max(0.0, x / width), max(0.0, y / height)
    right, bottom = min(1.0, (x + across) / width), min(1.0, (y + down) / height)
    if right <= left or bottom <= top:
        refuse(where, f"a box with an area inside the {width} x {height} frame", dict(box))
    return left, top, right - left, bottom - top


def needed(keyframes: Sequence[Keyframe]) -> tuple[Keyframe, ...]:
    """Without those between two with the same box: a box that stands still has one."""
    kept = [
        keyframe
        for index, keyframe in enumerate(keyframes)
        if index in (0, len(keyframes) - 1) or not keyframes[index - 1].box == keyframe.box == keyframes[index + 1].box
    ]
    return tuple(kept[:1] if all(keyframe.box == kept[0].box for keyframe in kept) else kept)


def line(prompts: Sequence[str], number: int) -> str:
    return prompts[number - 1].strip() if number <= len(prompts) else ""


def refuse(where: str, expected: str, got: Any) -> NoReturn:
    raise RegionError(f"{where}: expected {expected}; got {repr(got)[:80]}.")
