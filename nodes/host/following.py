"""Frames of Region Mask's background for the editor, and following an object through them.

After a run the editor gets the frames as small pictures in ComfyUI's temporary folder. To follow an object it sends
their names back: what is followed is what the artist sees, and nothing is kept in memory for it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ...ccvd_core.errors import shorten
from ...ccvd_core.regions.follow import follow
from ...ccvd_core.regions.geometry import Box
from ...ccvd_core.regions.track import FollowError, keyframes_of
from ...ccvd_core.sheet import spread

EDITOR_FRAMES, EDITOR_SIDE = 161, 640
"""Ten seconds at 16 frames per second; of a longer clip so many, spread evenly."""
NAME = re.compile(r"ccvd_background_[0-9a-f]{16}_\d{5}\.jpg")
QUALITY = 92
MOST_FRAMES = 10_000
"""As long as Region Mask's `length` can be."""

one_at_a_time = asyncio.Semaphore(1)


@dataclass(frozen=True)
class FollowRequest:
    """What the editor asks: follow what is in `box` at time `t` of the clip, for a video of `frames` frames."""

    pictures: tuple[str, ...]
    box: Box
    t: float
    frames: int

    def __post_init__(self) -> None:
        if not 2 <= len(self.pictures) <= EDITOR_FRAMES or not all(NAME.fullmatch(name) for name in self.pictures):
            raise FollowError(
                f"`pictures` must be the names of 2 to {EDITOR_FRAMES} frames that Region Mask sent after a run; "
                f"got {shorten(list(self.pictures), 200)}. Queue the node with a video as its background."
            )
        x, y, width, height = self.box
        if not (-1 <= x <= 1 and -1 <= y <= 1 and 0 < width <= 2 and 0 < height <= 2):
            raise FollowError(f"`box` must be [x, y, width, height] as fractions of the frame; got {list(self.box)}.")
        if not 0 <= self.t <= 1:
            raise FollowError(f"`t` must be a time in 0..1 of the clip; got {self.t}.")
        if not 2 <= self.frames <= MOST_FRAMES:
            raise FollowError(f"`frames` must be the video's length, 2 to {MOST_FRAMES}; got {self.frames}.")


def follow_request(value: Any) -> FollowRequest:
    """A request from parsed JSON. Raises FollowError for what is none."""
    if not isinstance(value, Mapping):
        raise FollowError(f"A table with pictures, box, t and frames was expected; got {type(value).__name__}.")
    pictures, box = value.get("pictures"), value.get("box")
    if not isinstance(pictures, list) or not all(isinstance(name, str) for name in pictures):
        raise FollowError(f"`pictures` must be a list of names; got {shorten(pictures, 100)}.")
    if not isinstance(box, list) or len(box) != 4:
        raise FollowError(f"`box` must be [x, y, width, height]; got {shorten(box, 100)}.")
    x, y, width, height = (number(side, "box") for side in box)
    frames = number(value.get("frames"), "frames")
    if not frames.is_integer():
        raise FollowError(f"`frames` must be a whole number; got {frames:g}.")
    return FollowRequest(tuple(pictures), (x, y, width, height), number(value.get("t"), "t"), int(frames))


def number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:
        raise FollowError(f"`{where}` must be made of ordinary numbers; got {shorten(value, 100)}.")
    return float(value)


def answer(request: FollowRequest) -> dict[str, Any]:
    """What the editor makes keyframes of: those, the frames that they are for, and why not for all of them."""
    pictures = [read_frame(name) for name in request.pictures]
    if len({picture.shape for picture in pictures}) > 1:
        raise FollowError("The pictures are of different sizes. Queue the node again.")
    track = follow(pictures, round(request.t * (len(pictures) - 1)), request.box)
    keyframes = keyframes_of(track, len(pictures), request.frames)
    return {
        "keyframes": [{"t": keyframe.t, "box": list(keyframe.box)} for keyframe in keyframes],
        "range": [track.first / (len(pictures) - 1), track.last / (len(pictures) - 1)],
        "lost": {"before": track.before, "after": track.after},
    }


def read_frame(name: str) -> UInt8[np.ndarray, "height width 3"]:
    """One frame that `save_frames` has written. Raises FollowError if it is gone, or no such picture."""
    try:
        with Image.open(Path(folder_paths.get_temp_directory()) / name, formats=["JPEG"]) as picture:
            if max(picture.size) > EDITOR_SIDE:
                raise FollowError(f"{name} is larger than Region Mask's frames are. Queue the node again.")
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise FollowError(
            "The frames of the background are no longer there: ComfyUI removes them when it starts. Queue this node "
            "again, then follow the object."
        ) from error


def editor_frames(
    background: Float[Tensor, "frames height width channels"],
) -> UInt8[np.ndarray, "shown rows columns 3"]:
    """The clip's frames, or of a long one so many spread over it, small: enough to draw on and to follow an object."""
    chosen = spread(background.shape[0], EDITOR_FRAMES)
    scale = min(1.0, EDITOR_SIDE / max(background.shape[1:3]))
    size = [max(1, round(side * scale)) for side in background.shape[1:3]]
    # One by one: all of a long clip at once would take its memory again.
    return np.stack([small_frame(background[index], size) for index in chosen])


def small_frame(
    frame: Float[Tensor, "height width channels"], size: Sequence[int]
) -> UInt8[np.ndarray, "rows columns 3"]:
    pixels = frame[None, ..., :3].movedim(-1, 1).float()
    small = torch.nn.functional.interpolate(pixels, list(size), mode="area")[0].movedim(0, -1)
    return (small.clamp(0, 1) * 255).round().byte().cpu().numpy()


def save_frames(frames: UInt8[np.ndarray, "shown rows columns 3"]) -> list[dict[str, str]]:
    """Write the editor's frames into ComfyUI's temporary folder; how ComfyUI's page finds them."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    run = secrets.token_hex(8)
    names = [f"ccvd_background_{run}_{number:05}.jpg" for number in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name, quality=QUALITY)
    return [{"filename": name, "subfolder": "", "type": "temp"} for name in names]
