"""Pictures and frames as an artist brings them -> what a video model learns from.

Pixels come as ComfyUI has them, channels last, 0..1, and leave channels first. Everything here is a pure function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from ..errors import MediaError
from ..scaling import resized

CHANNELS = {1: "greyscale", 3: "RGB", 4: "RGBA"}
BACKGROUND = 0.5
"""Behind transparent pixels: mid grey, on which neither a white nor a black subject disappears."""
PORTRAIT_TOP = 1 / 3
"""Share of what a portrait loses that is lost at the top: faces are in the upper half."""
TOLERANCE = 0.25
"""How far pixels may lie outside 0..1: upscalers and VAEs overshoot a little; the rest is clipped."""
MAX_ASPECT = 4.0
AREA_WEIGHT = 0.25
"""How much area may be given up to crop less: a percent of area counts as a quarter percent of cropping."""


# Checks


def check_media(media: Tensor | Sequence[Tensor]) -> None:
    """Raise MediaError, in an artist's words, for pictures that cannot be learned from.

    `media`: [n, height, width, channels] or one [height, width, channels], or several of these; floats in 0..1.
    """
    batches = [media] if isinstance(media, Tensor) else list(media)
    for batch in batches:
        check_shape(batch)
    if not sum(1 if batch.ndim == 3 else batch.shape[0] for batch in batches):
        raise MediaError("There are no pictures: expected at least one picture or frame; got 0. Connect some.")
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


# Pictures to learn from


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


def still_clip(picture: Num[Tensor, "1 3 1 height width"], frames: int) -> Num[Tensor, "1 3 frames height width"]:
    """A clip in which nothing moves: what a video model needs to see of a picture beyond its first latent frame."""
    return picture.expand(-1, -1, frames, -1, -1)


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
    pixels = resized(to_rgb(picture[rows, columns]), (height, width))
    return rearrange(pixels, "h w c -> c h w").clamp(0, 1)


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


def to_bytes(pixels: Float[Tensor, "*any"]) -> UInt8[Tensor, "*any"]:
    """Pixels in 0..1 in 8 bits, as files have them and a lesson keeps them."""
    return (pixels * 255).round().to(torch.uint8)


def to_floats(pixels: UInt8[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Pixels in 8 bits as float32 in 0..1: exact for a picture that came from a file and kept its size."""
    return pixels.float() / 255
