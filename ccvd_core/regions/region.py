"""Regions on their way from Region Mask to the sampler: drawn boxes and painted masks, each with the same methods."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import CCVDError
from ..scaling import PLAIN, resized
from .geometry import Box, PixelBox, box_coverage, box_pixels, paint_coverage

MAX_STRENGTH = 10.0
MAX_REGIONS, MAX_SIDE = 64, 16384


class RegionError(CCVDError):
    """Regions cannot be used; the message says which and why."""


def inside(mask: Float[Tensor, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """What counts as inside a soft mask, as OpenCV wants it: 1 where it is above a half."""
    return (mask > 0.5).to(torch.uint8).cpu().numpy()


class Shape(ABC):
    """What is in a region, how strongly, and where it is at a time t in 0..1 of the clip, however it was made.

    `color` is empty for a region that has none of its own.
    """

    name: str
    prompt: str
    strength: float
    color: str

    @property
    @abstractmethod
    def moves(self) -> bool:
        """Whether its shape changes during the clip."""

    @property
    @abstractmethod
    def resized(self) -> bool:
        """Whether a picture of its own is brought to the size that is asked for: that takes memory."""

    @abstractmethod
    def place_at(self, t: float) -> Hashable:
        """Equal at times with the same shape."""

    @abstractmethod
    def coverage(
        self, t: float, y: Float[Tensor, " rows"], x: Float[Tensor, " columns"], blend: float
    ) -> Float[Tensor, "height width"]:
        """How much of each token between the edges `y` and `x` it claims: 0 or 1 at `blend` 0."""

    @abstractmethod
    def mask_at(self, t: float, width: int, height: int) -> Float[Tensor, "height width"]:
        """Its mask in pixels: 1 inside, 0 outside."""

    @abstractmethod
    def box_at(self, t: float) -> Box:
        """Its box: of a painted region the smallest around what is painted (one pixel where nothing is)."""

    @abstractmethod
    def pixels_at(self, t: float, width: int, height: int) -> PixelBox:
        """`box_at` in the whole pixels of a frame of that size."""

    def draw_on(self, mask: Float[Tensor, "height width"], t: float) -> None:
        """Write its mask into one that is 0 everywhere."""
        height, width = mask.shape
        mask.copy_(self.mask_at(t, width, height))


@dataclass(frozen=True)
class Keyframe:
    """A region's box at time t in 0..1 of the clip."""

    t: float
    box: Box


@dataclass(frozen=True)
class Region(Shape):
    """A drawn region: its box over time (at least one keyframe, in order of time).

    A `locked` region cannot be changed in the editor; it means nothing to the model.
    """

    name: str
    prompt: str
    color: str
    strength: float
    keyframes: tuple[Keyframe, ...]
    locked: bool = False

    @property
    def moves(self) -> bool:
        return len(self.keyframes) > 1

    @property
    def resized(self) -> bool:
        return False

    def box_at(self, t: float) -> Box:
        """The box at time t: linear between keyframes, constant before the first and after the last."""
        before, after = self.keyframes[0], self.keyframes[-1]
        for keyframe in self.keyframes:
            if keyframe.t <= t:
                before = keyframe
            if keyframe.t >= t:
                after = keyframe
                break
        if after.t <= before.t:
            return before.box if t >= before.t else after.box
        share = min(1.0, max(0.0, (t - before.t) / (after.t - before.t)))
        x, y, width, height = (a + (b - a) * share for a, b in zip(before.box, after.box, strict=True))
        return x, y, width, height

    def place_at(self, t: float) -> Box:
        return self.box_at(t)

    def coverage(
        self, t: float, y: Float[Tensor, " rows"], x: Float[Tensor, " columns"], blend: float
    ) -> Float[Tensor, "height width"]:
        return box_coverage(self.box_at(t), y, x, blend)

    def mask_at(self, t: float, width: int, height: int) -> Float[Tensor, "height width"]:
        mask = torch.zeros(height, width)
        self.draw_on(mask, t)
        return mask

    def draw_on(self, mask: Float[Tensor, "height width"], t: float) -> None:
        height, width = mask.shape
        left, top, across, down = self.pixels_at(t, width, height)
        mask[top : top + down, left : left + across] = 1

    def pixels_at(self, t: float, width: int, height: int) -> PixelBox:
        return box_pixels(self.box_at(t), width, height)


@dataclass(frozen=True)
class PaintedRegion(Shape):
    """A region from a painted mask: still (one frame), or several that are spread evenly over the clip.

    `mask` is 1 inside, 0 outside, in between at soft edges; of any size, it covers the whole frame. Raises RegionError
    for what is no such mask.
    """

    name: str
    prompt: str
    strength: float
    mask: Float[Tensor, "frames height width"]
    color: str = ""

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

    @property
    def moves(self) -> bool:
        return self.mask.shape[0] > 1

    @property
    def resized(self) -> bool:
        return True

    def place_at(self, t: float) -> int:
        """The number of the painted frame."""
        return round(t * (self.mask.shape[0] - 1))

    def coverage(
        self, t: float, y: Float[Tensor, " rows"], x: Float[Tensor, " columns"], blend: float
    ) -> Float[Tensor, "height width"]:
        return paint_coverage(self.mask[self.place_at(t)], y, x, blend)

    def mask_at(self, t: float, width: int, height: int) -> Float[Tensor, "height width"]:
        frame = self.mask[self.place_at(t)]
        return resized(frame, (height, width), PLAIN).clamp(0, 1)

    def box_at(self, t: float) -> Box:
        _, height, width = self.mask.shape
        left, top, across, down = self.pixels_at(t, width, height)
        return left / width, top / height, across / width, down / height

    def pixels_at(self, t: float, width: int, height: int) -> PixelBox:
        left, top, across, down = cv2.boundingRect(inside(self.mask_at(t, width, height)))
        return (left, top, across, down) if across else (0, 0, 1, 1)


@dataclass(frozen=True)
class RegionSet:
    """All regions of a clip of width x height pixels, back to front: where two overlap, the later one is in front."""

    width: int
    height: int
    regions: tuple[Shape, ...]

    def __post_init__(self) -> None:
        for side, value in (("width", self.width), ("height", self.height)):
            if not 1 <= value <= MAX_SIDE:
                raise RegionError(f"The {side} of the regions' frame must be 1 to {MAX_SIDE} pixels; got {value}.")
        if len(self.regions) > MAX_REGIONS:
            raise RegionError(f"There can be at most {MAX_REGIONS} regions; got {len(self.regions)}. Remove some.")

    @property
    def moves(self) -> bool:
        """Whether a shape changes during the clip."""
        return any(region.moves for region in self.regions)
