"""What Region Mask shows: its regions over the background."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from ...ccvd_core.errors import CCVDError
from ...ccvd_core.regions.inputs import COLOURS
from ...ccvd_core.regions.region import RegionSet, Shape, inside
from ...ccvd_core.scaling import resized
from ...ccvd_core.sheet import Tile, in_rows, sheet
from .pictures import DARK, PAPER, font, to_image

SHEET_TIMES, SHEET_COLUMNS, SHEET_SIDE = 6, 3, 448
PREVIEW_SIDE = 2048
"""A picture to look at needs no more, whatever the frame's size."""
FILL = 0.28
"""How much of a region's colour lies over the background."""


def check_background(background: Tensor | None) -> None:
    if background is None:
        return
    if background.ndim != 4 or background.shape[-1] not in (3, 4) or not background.numel():
        raise CCVDError(f"`background` must be pictures of [frames, height, width, 3]; got {list(background.shape)}.")
    if not bool(background.isfinite().all()):
        raise CCVDError("`background` has pixels that are not numbers (NaN or infinite). Disconnect it or repair it.")


def preview(regions: RegionSet, background: Tensor | None) -> Float[Tensor, "1 height width 3"]:
    """The regions over the background, no larger than `PREVIEW_SIDE`; a sheet of several times if one moves."""
    still = not regions.moves
    scale = min(1.0, (PREVIEW_SIDE if still else SHEET_SIDE) / max(regions.width, regions.height))
    size = max(1, round(regions.width * scale)), max(1, round(regions.height * scale))
    if still:
        return to_image(picture_at(regions, background, 0.0, size))
    times = [index / (SHEET_TIMES - 1) for index in range(SHEET_TIMES)]
    moments = [Tile(picture_at(regions, background, t, size), f"{t:.0%}") for t in times]
    return to_image(sheet(in_rows(moments, SHEET_COLUMNS), DARK))


def picture_at(regions: RegionSet, background: Tensor | None, t: float, size: tuple[int, int]) -> Image.Image:
    """One moment, back to front."""
    picture = Image.new("RGB", size, PAPER) if background is None else frame_at(background, t, size)
    for index, region in enumerate(regions.regions):
        draw_region(picture, region, region.color or COLOURS[index % len(COLOURS)], t)
    return picture


def frame_at(background: Tensor, t: float, size: tuple[int, int]) -> Image.Image:
    frame = background[round(t * (background.shape[0] - 1)), ..., :3]
    pixels = resized(frame.detach().float().cpu(), (size[1], size[0])).clamp(0, 1)
    return Image.fromarray((pixels.numpy() * 255).round().astype(np.uint8))


def draw_region(picture: Image.Image, region: Shape, colour: str, t: float) -> None:
    width, height = picture.size
    mask = region.mask_at(t, width, height)
    line = max(2, round(min(width, height) / 200))
    opacity = (mask * (255 * FILL)).round().to(torch.uint8).cpu().numpy()
    for shape in (opacity, outline(mask, line)):
        picture.paste(Image.new("RGB", picture.size, colour), mask=Image.fromarray(shape))
    draw = ImageDraw.Draw(picture)
    left, top, across, _ = region.pixels_at(t, width, height)
    letters = font(max(11, round(height / 28)))
    label = region.prompt or region.name
    while label and draw.textlength(label, letters) > max(across - 4 * line, 24):
        label = label[:-2] + "…" if len(label) > 2 else ""
    if label:
        box = draw.textbbox((left + 2 * line, top + 2 * line), label, letters)
        draw.rectangle((box[0] - line, box[1] - line, box[2] + line, box[3] + line), fill=colour)
        draw.text((left + 2 * line, top + 2 * line), label, fill="#000000", font=letters)


def outline(mask: Float[Tensor, "height width"], line: int) -> UInt8[np.ndarray, "height width"]:
    """255 along the inner edge of what is inside a mask, `line` pixels wide, around holes and every part of it."""
    shape = inside(mask)
    reach = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    core = cv2.erode(shape, reach, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (shape - core) * np.uint8(255)
