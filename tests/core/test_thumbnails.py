"""The small pictures and clips of a concept."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from ccvd_core.learning.thumbnails import CLIP_FRAMES, CLIP_SIDE, clip_bytes, picture_bytes


@pytest.mark.parametrize(
    ("shape", "size"), [((100, 50), (50, 100)), ((512, 1024), (256, 128)), ((1024, 512), (128, 256)), ((1, 1), (1, 1))]
)
def test_preview_pictures_are_small_webp(shape: tuple[int, int], size: tuple[int, int]) -> None:
    data = picture_bytes(torch.tensor([0.9, 0.5, 0.1]).expand(*shape, 3))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP"
        assert picture.size == size
        middle = picture.convert("RGB").getpixel((size[0] // 2, size[1] // 2))
    assert middle == pytest.approx((230, 128, 26), abs=4)  # WebP is lossy
    assert data == picture_bytes(torch.tensor([0.9, 0.5, 0.1]).expand(*shape, 3))


def test_a_preview_that_went_wrong_is_still_a_picture() -> None:
    """An hour of learning must not be lost to a picture of it."""
    frame = torch.full((8, 8, 3), float("nan"), dtype=torch.bfloat16, requires_grad=True)
    with Image.open(io.BytesIO(picture_bytes(frame))) as picture:
        assert picture.convert("RGB").getpixel((4, 4)) == (0, 0, 0)
    with Image.open(io.BytesIO(clip_bytes(frame.expand(5, 8, 8, 3), 8))) as picture:
        assert picture.convert("RGB").getpixel((4, 4)) == (0, 0, 0)


@pytest.mark.parametrize(("frames", "rate", "shown"), [(9, 8.0, 9), (33, 16.0, CLIP_FRAMES), (1, 8.0, 1)])
def test_a_moving_preview_plays_at_the_clips_own_speed(frames: int, rate: float, shown: int) -> None:
    clip = torch.linspace(0, 1, frames).view(-1, 1, 1, 1).expand(frames, 300, 200, 3)
    data = clip_bytes(clip, rate)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP" and getattr(picture, "n_frames", 1) == shown
        if frames == 1:
            return
        assert max(picture.size) == CLIP_SIDE
        seconds, shades = 0.0, []
        for number in range(shown):
            picture.seek(number)
            picture.load()
            seconds += picture.info["duration"] / 1000
            shades.append(picture.convert("L").getpixel((9, 9)))
    assert seconds == pytest.approx(frames / rate, rel=0.05)
    assert shades == sorted(shades) and shades[0] < 9 and shades[-1] > 246
    assert len(data) < 100_000
