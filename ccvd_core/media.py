"""Pictures and clips as an artist brings them -> what a video model learns from; and small pictures to look at.

Pixels come as ComfyUI has them, channels last, 0..1, and leave channels first. Everything here is a pure function.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from .errors import MediaError

if TYPE_CHECKING:
    from PIL import Image

CHANNELS = {1: "greyscale", 3: "RGB", 4: "RGBA"}
BACKGROUND = 0.5
"""Behind transparent pixels: mid grey, on which neither a white nor a black subject disappears."""
PORTRAIT_TOP = 1 / 3
"""Share of what a portrait loses that is lost at the top: faces are in the upper half."""
TOLERANCE = 0.25
"""How far pixels may lie outside 0..1: upscalers and VAEs overshoot a little; the rest is clipped."""
MAX_BYTES = 2 * 1024**3
"""81 frames of 1920 x 1080 as float32."""
MAX_ASPECT = 4.0
AREA_WEIGHT = 0.25
"""How much area may be given up to crop less: a percent of area counts as a quarter percent of cropping."""


# Checks


def check_media(media: Tensor | Sequence[Tensor], max_bytes: int = MAX_BYTES) -> None:
    """Raise MediaError, in an artist's words, for pictures or frames that cannot be learned from.

    `media`: [n, height, width, channels] or one [height, width, channels], or several of these; floats in 0..1.
    `max_bytes` bounds the whole as float32.
    """
    batches = [media] if isinstance(media, Tensor) else list(media)
    for batch in batches:
        check_shape(batch)
    if not sum(1 if batch.ndim == 3 else batch.shape[0] for batch in batches):
        raise MediaError("There are no pictures: expected at least one picture or frame; got 0. Connect some.")
    size = 4 * sum(batch.numel() for batch in batches)
    if size > max_bytes:
        raise MediaError(
            f"The pictures or frames are too large: expected at most {size_text(max_bytes)}; got {size_text(size)}. "
            "Scale them down or use fewer frames before they come here: half the width and height need a quarter."
        )
    number = 0
    for batch in batches:
        for picture in batch if batch.ndim == 4 else [batch]:
            number += 1
            check_pixels(picture, number)


def check_shape(batch: Tensor) -> None:
    """Raise MediaError unless it is [n, height, width, channels] or [height, width, channels] with pixels in it."""
    if batch.ndim not in (3, 4):
        raise MediaError(
            f"These are not pictures: expected [pictures, height, width, channels]; got a tensor {list(batch.shape)}. "
            "Connect an IMAGE output."
        )
    height, width, channels = batch.shape[-3:]
    if not height or not width:
        raise MediaError(f"A picture is empty: expected at least 1 x 1 pixels; got {width} x {height}. Leave it out.")
    if channels not in CHANNELS:
        raise MediaError(
            f"Expected pictures with 1 (greyscale), 3 (RGB) or 4 (RGBA) channels; got {channels}. "
            "Connect an IMAGE output, channels last, not a latent."
        )
    if not batch.is_floating_point():
        raise MediaError(f"Expected pixels as float values from 0 to 1; got {batch.dtype}. Divide them by 255.")


def check_pixels(picture: Float[Tensor, "height width channels"], number: int) -> None:
    """Raise MediaError for pixels that are no numbers or far outside 0..1; `number` counts pictures from 1."""
    low, high = (float(value) for value in torch.aminmax(picture))
    if not math.isfinite(low + high):
        raise MediaError(
            f"Picture {number} has pixels that are not numbers (NaN or infinite): expected values from 0 to 1. The "
            "step that made it went wrong: load it again, or use a VAE of higher precision."
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        hint = "Divide it by 255." if low >= 0 else "Bring it to 0..1, for example by (x + 1) / 2 if it is -1..1."
        raise MediaError(
            f"Picture {number} has pixels from {low:.3g} to {high:.3g}: expected values from 0 to 1. {hint}"
        )


def size_text(size: int) -> str:
    return f"{size / 1024**3:.1f} GB" if size >= 1024**3 // 10 else f"{size / 1024**2:.1f} MB"


# Pictures and clips to learn from


def prepare_pictures(
    images: Float[Tensor, "n image_height image_width channels"] | Sequence[Float[Tensor, "... _ _ _"]],
    size: tuple[int, int],
) -> Float[Tensor, "pictures 3 1 height width"]:
    """Pictures of `size` (height, width), each a clip of one frame, in 0..1.

    `images`: a batch, or pictures and batches of different sizes. Transparent pixels show mid grey; greyscale becomes
    RGB; pictures are cropped to the aspect asked for, never stretched. Raises MediaError.
    """
    batches = [images] if isinstance(images, Tensor) else list(images)
    pictures = []
    for batch in batches:
        check_shape(batch)
        pictures += list(batch) if batch.ndim == 4 else [batch]
    if not pictures:
        raise MediaError("There are no pictures: expected at least one; got 0. Connect some.")
    return torch.stack([fit_picture(picture, size) for picture in pictures]).unsqueeze(2)


def still_clip(picture: Float[Tensor, "1 3 1 height width"], frames: int) -> Float[Tensor, "1 3 frames height width"]:
    """A clip in which nothing moves: what a video model needs to see of a picture beyond its first latent frame."""
    return picture.expand(-1, -1, frames, -1, -1)


def prepare_clip(
    clip: Float[Tensor, "clip_frames clip_height clip_width channels"], size: tuple[int, int], frames: int
) -> Float[Tensor, "1 3 frames height width"]:
    """A clip of `size` (height, width) in 0..1, evenly spread over the whole given one.

    Frames come as 4 k + 1: the largest such number that neither `frames` nor the clip's length is below. A clip of one
    frame is a picture. Raises MediaError.
    """
    check_shape(clip)
    if clip.ndim != 4 or not clip.shape[0]:
        raise MediaError(f"A clip has no frames: expected [frames, height, width, channels]; got {list(clip.shape)}.")
    count = largest_frames(min(frames, clip.shape[0]))
    chosen = torch.linspace(0, clip.shape[0] - 1, count, dtype=torch.float64).round().long().tolist()
    return torch.stack([fit_picture(clip[index], size) for index in chosen], 1).unsqueeze(0)


def largest_frames(count: int) -> int:
    """The largest 4 k + 1 that is at most `count`: video VAEs make one latent frame of the first frame and of each
    four after it. Raises MediaError below 1."""
    if count < 1:
        raise MediaError(f"A clip needs at least 1 frame; got {count}. Ask for 1 (a picture), 5, 9, 13, ... frames.")
    return (count - 1) // 4 * 4 + 1


def training_size(height: int, width: int, *, area: int, multiple: int = 16) -> tuple[int, int]:
    """(height, width) to learn a picture at: multiples of `multiple`, at most `area` pixels, close to its aspect.

    Minimises |log aspect error| + log(area / used) / 4, since the very closest aspect may waste most of the area.
    Pictures longer than 4:1 are treated as 4:1. Raises MediaError for an empty picture or too small an area.
    """
    if height < 1 or width < 1:
        raise MediaError(f"A picture is empty: expected at least 1 x 1 pixels; got {width} x {height}. Leave it out.")
    if multiple < 1 or area < multiple**2:
        raise MediaError(
            f"The size to learn at is too small: expected at least {multiple} x {multiple} = {multiple**2} pixels; got "
            f"{area}. Raise it."
        )
    cells = area // multiple**2
    aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    options = [
        (rows, min(columns, cells // rows))
        for rows in range(1, cells + 1)
        for columns in (max(1, math.floor(rows * aspect)), math.ceil(rows * aspect))
    ]

    def cost(option: tuple[int, int]) -> float:
        rows, columns = option
        return abs(math.log(columns / rows / aspect)) + AREA_WEIGHT * math.log(cells / (rows * columns))

    rows, columns = min(options, key=cost)
    return rows * multiple, columns * multiple


def fit_picture(picture: Float[Tensor, "h w channels"], size: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """One picture in RGB, cropped to the aspect of `size` and resized, in 0..1."""
    height, width = size
    if height < 1 or width < 1:
        raise MediaError(f"Pictures can only be made at least 1 x 1 pixels large; got {width} x {height}.")
    rows, columns = crop_window(picture.shape[0], picture.shape[1], height, width)
    pixels = rearrange(to_rgb(picture[rows, columns]), "h w c -> 1 c h w")
    if pixels.shape[-2:] != (height, width):
        pixels = interpolate(pixels, (height, width), mode="bicubic", align_corners=False, antialias=True)
    return pixels[0].clamp(0, 1)


def crop_window(height: int, width: int, to_height: int, to_width: int) -> tuple[slice, slice]:
    """The largest part of a picture with the aspect `to_width`:`to_height`: rows and columns to keep.

    Centred, but a portrait loses only a third of its excess height at the top.
    """
    keep_height = max(1, min(height, round(width * to_height / to_width)))
    keep_width = max(1, min(width, round(height * to_width / to_height)))
    top = round((height - keep_height) * (PORTRAIT_TOP if height > width else 0.5))
    left = (width - keep_width) // 2
    return slice(top, top + keep_height), slice(left, left + keep_width)


def to_rgb(picture: Float[Tensor, "*n height width channels"]) -> Float[Tensor, "*n height width 3"]:
    """RGB float32 of greyscale, RGB or RGBA (straight alpha, laid over mid grey)."""
    check_shape(picture)
    pixels = picture.float()
    if pixels.shape[-1] == 1:
        return pixels.expand(*pixels.shape[:-1], 3)
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].clamp(0, 1)
        return pixels[..., :3] * alpha + BACKGROUND * (1 - alpha)
    return pixels


# Pictures to look at


def contact_sheet(
    clips: Sequence[Float[Tensor, "_ _ _ 3"]], labels: Sequence[str], columns: int = 4, cell_height: int = 128
) -> Float[Tensor, "height width 3"]:
    """One row per clip: its label, and below it up to `columns` frames evenly spread from the first to the last.

    Raises MediaError without clips or when labels and clips differ in number.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not clips or len(clips) != len(labels) or columns < 1 or cell_height < 1:
        raise MediaError(
            "A contact sheet needs at least one clip, one label per clip and at least one column; got "
            f"{len(clips)} clips, {len(labels)} labels, {columns} columns."
        )
    gap, line = 4, 20
    strips = [[thumbnail(clip[index], cell_height) for index in spread(len(clip), columns)] for clip in clips]
    font = ImageFont.load_default(13)
    widths = [sum(cell.width + gap for cell in strip) for strip in strips]
    width = max(*widths, *(math.ceil(font.getlength(label)) + gap for label in labels)) + gap
    sheet = Image.new("RGB", (width, len(clips) * (cell_height + line + gap) + gap), "#1d2026")
    draw = ImageDraw.Draw(sheet)
    for row, (strip, label) in enumerate(zip(strips, labels, strict=True)):
        left, top = gap, gap + row * (cell_height + line + gap)
        draw.text((left, top), label, fill="#e6e6e6", font=font)
        for cell in strip:
            sheet.paste(cell, (left, top + line))
            left += cell.width + gap
    pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
    return pixels.reshape(sheet.height, sheet.width, 3).float() / 255


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the indices below `count`, evenly spread, first and last among them."""
    if not count:
        raise MediaError("A clip has no frames: expected at least one; got 0. Leave it out.")
    return torch.linspace(0, count - 1, min(wanted, count), dtype=torch.float64).round().long().tolist()


def thumbnail(frame: Float[Tensor, "h w channels"], height: int) -> Image.Image:
    """A frame scaled to `height`."""
    picture = to_picture(frame)
    return picture.resize((max(1, round(picture.width * height / picture.height)), height))


def picture_bytes(frame: Float[Tensor, "height width channels"], max_side: int = 256) -> bytes:
    """A WebP picture, at most `max_side` pixels in width and height. Pixels that are not numbers become black."""
    picture = to_picture(frame)
    picture.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def to_picture(frame: Float[Tensor, "height width channels"]) -> Image.Image:
    """A frame in 0..1 as a Pillow picture."""
    from PIL import Image

    pixels = to_rgb(frame.detach().cpu()).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    data = (pixels * 255).round().to(torch.uint8).contiguous()
    return Image.frombytes("RGB", (data.shape[1], data.shape[0]), data.numpy().tobytes())
