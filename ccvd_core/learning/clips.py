"""Clips cut into windows at a base model's own rate, and what one lesson may hold. No files: see `video_file.py`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..backbones.video_form import largest_frames
from ..errors import MediaError
from .media import check_pixels, check_shape, fit_picture, to_bytes

ClipWindows = Literal["first", "uniform", "all"]
WINDOWS: tuple[ClipWindows, ...] = get_args(ClipWindows)
UNIFORM_WINDOWS = 4
"""How many windows `uniform` takes of a clip at most."""
LATE = 1e-3
"""Seconds by which a frame may come late and still count: some formats round times to milliseconds."""
LESSON_PIXELS = 2048 * 512 * 512
"""What a lesson holds at most, frames x height x width: 1.6 GB in 8 bits."""


@dataclass(frozen=True)
class ClipCut:
    """How clips are cut: `rate` frames a second, in windows of `length` frames (as s k + 1, s the `frame_step`).

    `first` takes the first window; `uniform` up to `UNIFORM_WINDOWS` that do not overlap, evenly spread; `all` as many
    as it takes to use every frame. A clip shorter than a window gives one, of the largest s k + 1 frames there are.
    """

    rate: float
    length: int
    windows: ClipWindows = "first"
    shortest: int = 1
    """Frames below which a clip is refused."""
    frame_step: int = 1
    """The base model's: see `VideoForm`."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise MediaError(f"Clips need a rate above 0 frames a second; got {self.rate}.")
        if self.fitting(self.length) < self.shortest:
            raise MediaError(f"A motion is learned from clips of at least {self.shortest} frames; got {self.length}.")

    def fitting(self, count: int) -> int:
        """The largest number of frames up to `count` that the model can make. Raises MediaError below 1."""
        return largest_frames(count, self.frame_step)


@dataclass
class LessonBudget:
    """What is left of the frames x pixels that one lesson may hold, over all its pictures and clips."""

    limit: int = LESSON_PIXELS
    taken: int = 0

    def take(self, frames: int, height: int, width: int, what: str) -> None:
        """Count `frames` of this size before they are read. Raises MediaError when the lesson becomes too large."""
        self.taken += frames * height * width
        if self.taken > self.limit:
            raise MediaError(
                "The pictures and clips are too large for one lesson: expected at most "
                f"{self.limit // 512**2:,} frames of 512 x 512 in all; with {what}, {frames:,} frames of "
                f"{width} x {height}, it would be {self.taken / 512**2:,.0f}. Use fewer or shorter clips, `windows` "
                "first, a smaller `length`, or lower `megapixels_percent`."
            )


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip: when it is shown, in seconds, how long, its size, and how to get it cropped and scaled."""

    time: float
    duration: float
    height: int
    width: int
    fit: Callable[[tuple[int, int]], UInt8[Tensor, "3 height width"]]


def cut_clip(
    frames: Iterator[ClipFrame],
    seconds: Callable[[], float],
    name: str,
    cut: ClipCut,
    size_of: Callable[[int, int], tuple[int, int]],
    budget: LessonBudget,
) -> list[UInt8[Tensor, "1 3 frames height width"]]:
    """The windows of a clip, reading no further than the last of them and keeping only their frames.

    `seconds` measures the clip; `first` does not ask. `size_of` gives the size to learn at from (height, width).
    A clip that turns out shorter than it was measured gives what is there. Raises MediaError, naming the clip.
    """
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{name} has no frames that can be read. Leave it out, or save it anew as MP4.")
    size = size_of(first.height, first.width)
    length, starts = cut.fitting(cut.length), [0]
    if cut.windows != "first":
        count = max(1, math.floor((seconds() + LATE) * cut.rate))
        if count >= length:
            starts = window_starts(count, length, cut.windows)
        else:
            length = cut.fitting(count)
    budget.take(length * len(starts), *size, name)
    wanted = {start + number for start in starts for number in range(length)}
    kept: dict[int, Tensor] = {}
    shown: ClipFrame | None = None
    for number, frame in resampled(itertools.chain([first], frames), cut.rate, max(wanted) + 1):
        if number in wanted:
            kept[number] = kept[number - 1] if frame is shown and number - 1 in kept else frame.fit(size)
            shown = frame
    whole = [start for start in starts if all(start + number in kept for number in range(length))]
    if not whole:
        there = next(number for number in itertools.count() if number not in kept)
        length, whole = cut.fitting(there), [0]
    if length < cut.shortest:
        raise MediaError(
            f"{name} is too short: at this model's {cut.rate:g} frames a second it has {length}, and at least "
            f"{cut.shortest} are needed to see a motion. Leave it out, or use a longer clip."
        )
    return [torch.stack([kept[start + number] for number in range(length)], 1).unsqueeze(0) for start in whole]


def resampled(frames: Iterator[ClipFrame], rate: float, end: int) -> Iterator[tuple[int, ClipFrame]]:
    """The frame that is shown at each multiple of 1 / `rate` seconds, with its number below `end`."""
    number, origin, shown = 0, 0.0, None
    for frame in frames:
        if shown is None:
            origin = frame.time
        elif frame.time <= shown.time:
            continue  # a damaged file's clock runs backwards
        while shown is not None and number < end and number / rate + LATE < frame.time - origin:
            yield number, shown
            number += 1
        if number >= end:
            return
        shown = frame
    while shown is not None and number < end and number / rate + LATE < shown.time + shown.duration - origin:
        yield number, shown
        number += 1


def window_starts(count: int, length: int, windows: ClipWindows) -> list[int]:
    """Where windows of `length` begin in a clip of `count` frames, which is at least as long."""
    number = {"first": 1, "uniform": min(UNIFORM_WINDOWS, count // length), "all": -(-count // length)}[windows]
    return torch.linspace(0, count - length, number, dtype=torch.float64).round().long().tolist()


def cut_images(
    images: Float[Tensor, "clip_frames clip_height clip_width channels"],
    rate: float,
    name: str,
    cut: ClipCut,
    size_of: Callable[[int, int], tuple[int, int]],
    budget: LessonBudget,
) -> list[UInt8[Tensor, "1 3 frames height width"]]:
    """The windows of a clip that is there as pictures, `rate` a second. Raises MediaError."""
    check_shape(images)
    if images.ndim != 4:
        raise MediaError(f"{name} is no clip: expected [frames, height, width, channels]; got {list(images.shape)}.")

    def fitted(index: int) -> Callable[[tuple[int, int]], UInt8[Tensor, "3 height width"]]:
        def fit(size: tuple[int, int]) -> UInt8[Tensor, "3 height width"]:
            check_pixels(images[index], index + 1)
            return to_bytes(fit_picture(images[index], size))

        return fit

    count, height, width = images.shape[:3]
    frames = (ClipFrame(index / rate, 1 / rate, height, width, fitted(index)) for index in range(count))
    return cut_clip(frames, lambda: len(images) / rate, name, cut, size_of, budget)
