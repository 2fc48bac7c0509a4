"""A clip's regions for other models: as a video of outlines, and as the paths of their middles."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .region import RegionSet, inside

PAPER, INK = 1.0, 0.0
"""Black outlines on white: the layouts that VACE was trained on (arXiv 2503.07598)."""


def frame_times(frames: int) -> list[float]:
    """Times in 0..1 of a clip's frames."""
    return [number / (frames - 1) if frames > 1 else 0.0 for number in range(frames)]


def layout_frames(regions: RegionSet, frames: int) -> Float[Tensor, "frames height width 3"]:
    """The outlines of all regions, back to front, on a plain canvas of the regions' size."""
    line = max(2, round(min(regions.width, regions.height) / 120))
    drawn = []
    for t in frame_times(frames):
        canvas = np.full((regions.height, regions.width), PAPER, np.float32)
        for region in regions.regions:
            shape = inside(region.mask_at(t, regions.width, regions.height))
            contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, contours, -1, INK, line)
        drawn.append(torch.from_numpy(canvas))
    return torch.stack(drawn)[..., None].expand(-1, -1, -1, 3).contiguous()


def middle_paths(regions: RegionSet, frames: int) -> Float[Tensor, "frames regions 2"]:
    """x and y, in pixels, of the middle of each region's box in each frame."""
    paths = torch.zeros(frames, len(regions.regions), 2)
    for number, t in enumerate(frame_times(frames)):
        for index, region in enumerate(regions.regions):
            left, top, width, height = region.box_at(t)
            paths[number, index, 0] = (left + width / 2) * regions.width
            paths[number, index, 1] = (top + height / 2) * regions.height
    return paths
