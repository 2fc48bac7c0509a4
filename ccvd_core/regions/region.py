"""Regions on their way from Region Mask to the sampler: drawn boxes and painted masks in one list (DESIGN 2.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError
from .layout import MAX_REGIONS, MAX_SIDE, Region

MAX_STRENGTH = 10.0


class RegionError(CCVDError):
    """Regions cannot be used; the message says which and why."""


@dataclass(frozen=True)
class PaintedRegion:
    """A region from a painted mask: still (one frame) or one mask per frame of the clip.

    `mask` is 1 inside, 0 outside, in between at soft edges; of any size, it covers the whole frame. Raises RegionError
    for what is no such mask.
    """

    name: str
    prompt: str
    strength: float
    mask: Float[Tensor, "frames height width"]

    def __post_init__(self) -> None:
        where = f"The painted region {self.name!r}"
        if self.mask.ndim != 3 or not self.mask.is_floating_point():
            raise RegionError(
                f"{where} needs a mask of [frames, height, width] with numbers from 0 to 1; "
                f"got {list(self.mask.shape)} of {self.mask.dtype}."
            )
        if not self.mask.numel():
            raise RegionError(f"{where} has an empty mask ({list(self.mask.shape)}). Paint one, or disconnect it.")
        if not bool(self.mask.isfinite().all()):
            raise RegionError(f"{where} has a mask with values that are not numbers (NaN or infinite).")
        low, high = float(self.mask.min()), float(self.mask.max())
        if low < 0 or high > 1:
            raise RegionError(f"{where} needs a mask with values from 0 to 1; got {low:g} to {high:g}.")
        if not 0 <= self.strength <= MAX_STRENGTH or not math.isfinite(self.strength):
            raise RegionError(f"{where} needs a strength from 0 to {MAX_STRENGTH:g}; got {self.strength:g}.")


@dataclass(frozen=True)
class RegionSet:
    """All regions of a clip of width x height pixels, back to front: where two overlap, the later one is in front."""

    width: int
    height: int
    regions: tuple[Region | PaintedRegion, ...]

    def __post_init__(self) -> None:
        for side, value in (("width", self.width), ("height", self.height)):
            if not 1 <= value <= MAX_SIDE:
                raise RegionError(f"The {side} of the regions' frame must be 1 to {MAX_SIDE} pixels; got {value}.")
        if len(self.regions) > MAX_REGIONS:
            raise RegionError(f"There can be at most {MAX_REGIONS} regions; got {len(self.regions)}. Remove some.")
