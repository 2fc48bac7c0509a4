"""What is connected to Region Mask as one set of regions, and the set as ComfyUI's bounding boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.model_management import get_free_memory
from torch import Tensor

from ...ccvd_core.regions.inputs import boxes_as_regions, painted_regions, spread_note
from ...ccvd_core.regions.layout import parse_layout
from ...ccvd_core.regions.pixels import check_mask_size
from ...ccvd_core.regions.region import RegionSet

PER_FRAME = "frames"
"""The `mask_batch` of masks that are one region over time."""


def gathered_regions(
    layout: str,
    width: int,
    height: int,
    mask_batch: str,
    prompts: Sequence[str],
    mask: Tensor | None,
    boxes: Any,
) -> RegionSet:
    """Drawn regions, painted masks and bounding boxes, from back to front; `prompts` are those of the last two."""
    painted = [] if mask is None else painted_regions(mask, prompts, mask_batch == PER_FRAME)
    boxed = [] if boxes is None else boxes_as_regions(boxes, prompts[len(painted) :], width, height)
    return RegionSet(width, height, (*parse_layout(layout).regions, *painted, *boxed))


def notes_on(regions: RegionSet, mask: Tensor | None, mask_batch: str, length: int) -> str:
    """What the artist should know, one line. Raises RegionError for masks that do not fit in memory."""
    spread = "" if mask is None else spread_note(mask, mask_batch == PER_FRAME, length)
    return " ".join(note for note in (memory_warning(regions), spread) if note)


def memory_warning(regions: RegionSet) -> str:
    """What the regions' masks take, where that is much; else empty. Raises RegionError when they do not fit."""
    free: Any = get_free_memory(torch.device("cpu"))
    return check_mask_size(regions, free)


def pixel_boxes(regions: RegionSet, frames: int) -> list[list[dict[str, int]]]:
    """ComfyUI's BOUNDING_BOX: frames -> boxes. One frame if nothing moves, else one per frame of the clip."""
    times = [0.0] if not regions.moves or frames == 1 else [frame / (frames - 1) for frame in range(frames)]
    names = ("x", "y", "width", "height")
    return [
        [
            dict(zip(names, region.pixels_at(t, regions.width, regions.height), strict=True))
            for region in regions.regions
        ]
        for t in times
    ]
