"""Where regions are at one moment, in pixels: what the pictures, masks and boxes of Region Mask show."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from .layout import Box, Region
from .region import PaintedRegion, RegionError, RegionSet

LARGE = 1e9
"""Bytes of masks that are worth a warning."""
PixelBox = tuple[int, int, int, int]
"""x, y, width, height in whole pixels, inside the frame."""


def moves(region: Region | PaintedRegion) -> bool:
    """Whether its shape changes during the clip."""
    return len(region.keyframes) > 1 if isinstance(region, Region) else region.mask.shape[0] > 1


def box_pixels(box: Box, width: int, height: int) -> PixelBox:
    """The pixels a box covers: at least one, none outside the frame."""
    x, y, across, down = box
    left = min(max(round(x * width), 0), width - 1)
    top = min(max(round(y * height), 0), height - 1)
    right = min(max(round((x + across) * width), left + 1), width)
    bottom = min(max(round((y + down) * height), top + 1), height)
    return left, top, right - left, bottom - top


def mask_at(region: Region | PaintedRegion, t: float, width: int, height: int) -> Float[Tensor, "height width"]:
    """Its mask at time t in 0..1: 1 inside, 0 outside."""
    if isinstance(region, PaintedRegion):
        frame = region.mask[round(t * (region.mask.shape[0] - 1))]
        if frame.shape == (height, width):
            return frame
        return interpolate(frame[None, None], (height, width), mode="bilinear", antialias=True)[0, 0].clamp(0, 1)
    left, top, across, down = box_pixels(region.box_at(t), width, height)
    mask = torch.zeros(height, width)
    mask[top : top + down, left : left + across] = 1
    return mask


def first_masks(regions: RegionSet) -> Float[Tensor, "regions height width"]:
    """Every region's mask at the first frame, in one piece of memory; one black mask if there are no regions."""
    masks = torch.zeros(max(1, len(regions.regions)), regions.height, regions.width)
    for mask, region in zip(masks, regions.regions, strict=False):
        if isinstance(region, Region):
            left, top, across, down = box_pixels(region.box_at(0.0), regions.width, regions.height)
            mask[top : top + down, left : left + across] = 1
        else:
            mask.copy_(mask_at(region, 0.0, regions.width, regions.height))
    return masks


def mask_bytes(regions: RegionSet) -> int:
    """What the regions' masks take at the frame's size, with one more while a painted one is brought to it."""
    painted = any(isinstance(region, PaintedRegion) for region in regions.regions)
    return 4 * regions.width * regions.height * (max(1, len(regions.regions)) + painted)


def check_mask_size(regions: RegionSet, free: float) -> str:
    """A warning if the masks are large, else nothing. Raises RegionError if they need more than the `free` bytes."""
    needed = mask_bytes(regions)
    what = f"{len(regions.regions)} regions at {regions.width} x {regions.height} pixels: their masks take"
    if needed > free:
        raise RegionError(
            f"{what} {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. Set width and height to those "
            "of the video that you make, or remove regions. Drawn regions stay where they are."
        )
    return f"{what} {needed / 1e9:.1f} GB of memory." if needed >= LARGE else ""


def pixel_box_at(region: Region | PaintedRegion, t: float, width: int, height: int) -> PixelBox:
    """Its box at time t; of a painted region the smallest around what is painted (one pixel where nothing is)."""
    if isinstance(region, Region):
        return box_pixels(region.box_at(t), width, height)
    inside = mask_at(region, t, width, height) > 0.5
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    if not len(rows):
        return 0, 0, 1, 1
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
