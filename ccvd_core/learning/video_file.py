"""Video files read in a stream: checked before they are decoded, decoded no further than needed, scaled at once."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..errors import MediaError
from .clips import LATE, ClipCut, ClipFrame, LessonBudget, cut_clip
from .media import fit_picture, to_bytes

MAX_FRAME_PIXELS = 8192 * 4352
"""8K. A decoder keeps a dozen frames of it: about a gigabyte."""
MAX_SECONDS = 600.0
"""How long a clip may be of which more than the first window is wanted."""


@dataclass(frozen=True)
class VideoFile:
    """A path or an open file, what to call it, and the part of it that is meant (`seconds` 0: to its end)."""

    source: str | io.BytesIO
    name: str
    start: float = 0.0
    seconds: float = 0.0


def read_clip(
    file: VideoFile,
    cut: ClipCut,
    size_of: Callable[[int, int], tuple[int, int]],
    budget: LessonBudget,
    tick: Callable[[], None] = lambda: None,
) -> list[UInt8[Tensor, "1 3 frames height width"]]:
    """The windows of a video file. `tick` is called for every frame and may raise to stop.

    What a file says of itself is checked before anything is decoded, and never relied on: sizes and times are those of
    the frames. Raises MediaError naming the file.
    """
    with opened(file) as (container, stream):
        return cut_clip(
            decoded(container, stream, file, tick), lambda: measured(file, tick), file.name, cut, size_of, budget
        )


@contextmanager
def opened(file: VideoFile) -> Iterator[tuple[Any, Any]]:
    """Container and first video stream, with decoding limited to sensible sizes."""
    if not isinstance(file.source, str):
        file.source.seek(0)
    try:
        with av.open(file.source) as container:
            if not container.streams.video:
                raise MediaError(f"{file.name} has no video in it. Connect a video file.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise MediaError(f"{file.name} cannot be decoded here. Save it anew as MP4.")
            check_size(stream.width, stream.height, file.name)
            stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{file.name} cannot be read ({error}). Save it anew as MP4.") from error


def check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{name} is too large: expected frames of at most 8K ({MAX_FRAME_PIXELS // 10**6} megapixels); got "
            f"{width} x {height}. Scale it down."
        )


def measured(file: VideoFile, tick: Callable[[], None]) -> float:
    """Seconds from the first frame to the end of the last, by the times of its packets; nothing is decoded."""
    with opened(file) as (container, stream):
        said = 0.0 if container.duration is None else container.duration / av.time_base
        check_seconds(min(said, file.seconds or math.inf), file.name)
        begin, end, usual = math.inf, -math.inf, 1 / nominal_rate(stream)
        for packet in container.demux(stream):
            tick()
            if packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base)
            if time + LATE < file.start or (file.seconds and time >= file.start + file.seconds):
                continue
            begin = min(begin, time)
            end = max(end, time + (float(packet.duration * packet.time_base) if packet.duration else usual))
            check_seconds(end - begin, file.name)
        return max(0.0, end - begin) if math.isfinite(begin) else said


def check_seconds(seconds: float, name: str) -> None:
    if seconds > MAX_SECONDS:
        raise MediaError(
            f"{name} is too long: expected at most {MAX_SECONDS / 60:g} minutes; got {seconds / 60:.1f}. Cut it, or "
            "take only its beginning with `windows` first."
        )


def nominal_rate(stream: Any) -> float:
    """Frames a second as the file has it, for frames without a time or a duration; a plain guess where it has none."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0 < rate < math.inf else 25.0


def decoded(container: Any, stream: Any, file: VideoFile, tick: Callable[[], None]) -> Iterator[ClipFrame]:
    """The frames of the part that is meant, in the order in which they are shown."""
    if file.start > 0:
        container.seek(int(file.start / stream.time_base), stream=stream)
    usual, number = 1 / nominal_rate(stream), 0
    for packet in container.demux(stream):
        tick()
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # a damaged place in a file is jumped over, as players do
        for frame in frames:
            time = number * usual if frame.pts is None else float(frame.pts * frame.time_base)
            number += 1
            if time + LATE < file.start:
                continue
            if file.seconds and time >= file.start + file.seconds:
                return
            check_size(frame.width, frame.height, file.name)
            duration = float(frame.duration * frame.time_base) if frame.duration else usual
            turned = frame.rotation % 180 != 0
            height, width = (frame.width, frame.height) if turned else (frame.height, frame.width)
            yield ClipFrame(time, duration, height, width, fitted(frame))


def fitted(frame: av.VideoFrame) -> Callable[[tuple[int, int]], UInt8[Tensor, "3 height width"]]:
    """How to get one decoded frame at a size: upright, in RGB, cropped, and scaled before it becomes a tensor."""

    def fit(size: tuple[int, int]) -> UInt8[Tensor, "3 height width"]:
        turns = round(frame.rotation / 90) % 4
        height, width = (size[1], size[0]) if turns % 2 else size
        scale = max(height / frame.height, width / frame.width)
        if scale < 1:
            cover = (max(height, round(frame.height * scale)), max(width, round(frame.width * scale)))
        else:
            cover = (frame.height, frame.width)
        has_alpha = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
        pixels = frame.to_ndarray(
            format="rgba" if has_alpha else "rgb24", width=cover[1], height=cover[0], interpolation="AREA"
        )
        upright = torch.from_numpy(np.ascontiguousarray(np.rot90(pixels, turns)))
        return to_bytes(fit_picture(upright.float() / 255, size))

    return fit
