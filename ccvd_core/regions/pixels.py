"""The masks of all regions in pixels, as Region Mask gives them, and the memory that they take."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .region import RegionError, RegionSet

LARGE = 1e9
"""Bytes of masks that are worth a warning."""


def first_masks(regions: RegionSet) -> Float[Tensor, "regions height width"]:
    """Every region's mask at the first frame, in one piece of memory; one black mask if there are no regions."""
    masks = torch.zeros(max(1, len(regions.regions)), regions.height, regions.width)
    for mask, region in zip(masks, regions.regions, strict=False):
        region.draw_on(mask, 0.0)
    return masks


def mask_bytes(regions: RegionSet) -> int:
    """What the regions' masks take at the frame's size, with one more while a painted one is brought to it."""
    resized = any(region.resized for region in regions.regions)
    return 4 * regions.width * regions.height * (max(1, len(regions.regions)) + resized)


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
