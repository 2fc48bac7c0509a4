"""Clips on disk: written, and read frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

CLIPS = {".mp4", ".avi", ".mov", ".webm", ".mkv"}


def write_clip(frames: Sequence[np.ndarray], path: Path, fps: int) -> Path:
    """An H.264 file; an odd last row or column is cut off, because the codec wants even sizes."""
    height, width = (size - size % 2 for size in frames[0].shape[:2])
    with av.open(path, "w") as clip:
        stream = clip.add_stream("libx264", fps, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            clip.mux(stream.encode(picture))
        clip.mux(stream.encode())
    return path


def read_frames(video: Path) -> list[Image.Image]:
    with av.open(video) as clip:
        return [frame.to_image() for frame in clip.decode(clip.streams.video[0])]


def first_frame(file: Path) -> Image.Image:
    """A picture, or the first frame of a clip."""
    if file.suffix.lower() in CLIPS:
        return read_frames(file)[0]
    with Image.open(file) as picture:
        return picture.convert("RGB")
