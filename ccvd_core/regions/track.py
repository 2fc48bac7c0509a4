"""Where an object was seen in a clip, picture by picture, and the keyframes that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import CCVDError
from .geometry import Box
from .region import Keyframe
from .simplify import simplify

Loss = Literal["", "left", "hidden"]
"""Why an object is followed no further: it never was lost, it left the frame, it is covered or too much changed."""


class FollowError(CCVDError):
    """An object cannot be followed; the message says why and what to do."""


@dataclass(frozen=True)
class Track:
    """A box per frame from frame `first` on; `before` and `after` say why it goes no further in that direction."""

    first: int
    boxes: tuple[Box, ...]
    before: Loss = ""
    after: Loss = ""

    @property
    def last(self) -> int:
        return self.first + len(self.boxes) - 1


def keyframes_of(track: Track, pictures: int, frames: int) -> tuple[Keyframe, ...]:
    """The fewest keyframes for a track through `pictures` of a clip, at frames of a video of `frames`, in 0..1.

    The track covers the frames between its first and last picture; at an end where the object was lost the last box is
    kept, for there may be other keyframes beyond.
    """
    if pictures < 2 or frames < 2:
        raise FollowError("Only through a video of at least two frames an object can be followed.")
    known = np.arange(track.first, track.last + 1) / (pictures - 1)
    times = np.arange(frames) / (frames - 1)
    times = times[(times >= known[0] - 1e-9) & (times <= known[-1] + 1e-9)]
    if not len(times):
        raise FollowError("The object is lost at once. Put the box closely around it where it is seen well.")
    path = np.stack([np.interp(times, known, values) for values in np.asarray(track.boxes).T], axis=1)
    # Six decimals are far below a pixel, and what the editor writes.
    boxes: list[Box] = [(x, y, width, height) for x, y, width, height in path.round(6).tolist()]
    moments: list[float] = times.round(6).tolist()
    kept = simplify(moments, boxes, open_start=not track.before, open_end=not track.after)
    return tuple(Keyframe(moments[index], boxes[index]) for index in kept)
