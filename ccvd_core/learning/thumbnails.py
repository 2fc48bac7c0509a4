"""Small pictures and clips of a concept, as WebP, to look at."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .media import to_bytes, to_rgb

if TYPE_CHECKING:
    from PIL import Image

CLIP_SIDE, CLIP_FRAMES = 160, 17
"""A moving thumbnail stays below about 100 KB: it lies in the concept's file."""


def picture_bytes(frame: Float[Tensor, "height width channels"], max_side: int = 256) -> bytes:
    """A WebP picture, at most `max_side` pixels in width and height. Pixels that are not numbers become black."""
    picture = to_picture(frame, max_side)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def clip_bytes(frames: Float[Tensor, "frames height width channels"], rate: float) -> bytes:
    """A WebP that moves: at most `CLIP_FRAMES` frames, evenly spread over the clip, which plays at its own speed.

    A clip of one frame is a picture.
    """
    if len(frames) == 1:
        return picture_bytes(frames[0])
    chosen = torch.linspace(0, len(frames) - 1, min(CLIP_FRAMES, len(frames)), dtype=torch.float64).round().long()
    first, *others = (to_picture(frames[index], CLIP_SIDE) for index in chosen)
    milliseconds = max(20, round(1000 * len(frames) / rate / len(chosen)))
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0, quality=75)
    return buffer.getvalue()


def to_picture(frame: Float[Tensor, "height width channels"], max_side: int) -> Image.Image:
    """A frame in 0..1 as a Pillow picture, at most `max_side` pixels in width and height."""
    from PIL import Image

    data = to_bytes(to_rgb(frame.detach().cpu()).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)).contiguous()
    picture = Image.frombytes("RGB", (data.shape[1], data.shape[0]), data.numpy().tobytes())
    picture.thumbnail((max_side, max_side))
    return picture


def is_moving(webp: bytes) -> bool:
    """Whether a WebP has several frames, by the flag in its header."""
    return webp[12:16] == b"VP8X" and bool(webp[20:21]) and bool(webp[20] & 2)
