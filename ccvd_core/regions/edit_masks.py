"""Where an edited clip may change: its regions over time, in pixels and in latents."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from .region import RegionError, RegionSet


def frame_masks(
    regions: RegionSet, frames: int, height: int, width: int, grow: int = 0
) -> Float[Tensor, "frames height width"]:
    """1 where a region is, 0 elsewhere, for each frame of a clip; strokes softer than a half are outside.

    `grow` adds so many pixels around every region. Raises RegionError when no frame has a region in it.
    """
    masks = torch.zeros(frames, height, width)
    drawn: dict[object, Tensor] = {}
    for number, mask in enumerate(masks):
        t = number / (frames - 1) if frames > 1 else 0.0
        for index, region in enumerate(regions.regions):
            place = index, region.place_at(t)
            if place not in drawn:
                # One shape per region is kept: one that moves is drawn anew in each frame.
                drawn = {key: shape for key, shape in drawn.items() if key[0] != index}  # type: ignore[index]
                drawn[place] = grown(region.mask_at(t, width, height) > 0.5, grow)
            torch.maximum(mask, drawn[place], out=mask)
    if not masks.any():
        raise RegionError("There is no region to edit in. Draw one in Region Mask, around what should change.")
    return masks


def grown(mask: Tensor, pixels: int) -> Float[Tensor, "height width"]:
    """A mask [height, width] (bool) with everything up to `pixels` away from it added."""
    if not pixels:
        return mask.float()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return torch.from_numpy(cv2.dilate(mask.numpy().astype(np.uint8), kernel)).float()


def latent_mask(
    masks: Float[Tensor, "frames height width"], latent_shape: Sequence[int], frame_step: int
) -> Float[Tensor, "1 1 latent_frames latent_height latent_width"]:
    """The same at the size of latents [..., frames, height, width]: a latent changes if any of its pixels may.

    Latent frame 0 is the clip's first frame, latent frame j its frames s (j - 1) + 1 .. s j with s = `frame_step`.
    """
    latent_frames, height, width = latent_shape[-3:]
    if len(masks) != frame_step * (latent_frames - 1) + 1:
        raise RegionError(
            f"{len(masks)} frames do not make {latent_frames} latent ones of {frame_step}: expected "
            f"{frame_step * (latent_frames - 1) + 1} frames."
        )
    first, rest = masks[:1], masks[1:].unflatten(0, (latent_frames - 1, frame_step)).amax(1)
    return adaptive_max_pool2d(torch.cat([first, rest])[:, None], (height, width))[None, None, :, 0]
