"""A video file of frames, and the frames of one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.video_form import VideoForm, largest_frames
from ..errors import MediaError
from ..learning.clips import ClipCut, LessonBudget
from ..learning.lesson_items import lesson_size
from ..learning.media import to_floats
from ..learning.video_file import VideoFile, read_clip

QUALITY = "14"
"""H.264's constant rate factor: hardly to be told from the frames."""


def write_video(frames: Float[Tensor, "frames height width 3"], path: Path, rate: float) -> None:
    """An H.264 file, `rate` frames a second; an odd last row or column is cut off, since the codec wants even sizes."""
    pictures = (frames.clamp(0, 1) * 255).round().byte().numpy()
    height, width = (size - size % 2 for size in pictures.shape[1:3])
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", round(rate), options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def read_video(
    path: Path, form: VideoForm, multiple: int, area: int = 0, length: int = 0
) -> Float[Tensor, "frames height width 3"]:
    """The beginning of a video as a model can make one: at its rate, of a number of frames and sides that it knows.

    `area` (pixels of a frame) and `length` (frames): 0 takes what suits the model. Raises MediaError.
    """
    if not path.is_file():
        raise MediaError(f"There is no video {path}.")
    frames = largest_frames(length or form.length, form.frame_step)
    cut = ClipCut(form.rate, frames, frame_step=form.frame_step)
    windows = read_clip(
        VideoFile(str(path), path.name),
        cut,
        lambda height, width: lesson_size(height, width, area or form.area, multiple),
        LessonBudget(),
    )
    return to_floats(torch.as_tensor(windows[0]))[0].permute(1, 2, 3, 0)
