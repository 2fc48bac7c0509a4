"""A video as latents of which only what is inside regions may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...ccvd_core.backbones.video_form import largest_frames
from ...ccvd_core.errors import CCVDError
from ...ccvd_core.regions.edit_masks import frame_masks, latent_mask
from ...ccvd_core.regions.region import RegionSet


@dataclass(frozen=True, eq=False)
class EditableVideo:
    """A LATENT with its noise mask, the MASK of every frame, and a word on frames that were left out."""

    latent: dict[str, Any]
    masks: Float[Tensor, "frames height width"]
    note: str


def editable_video(
    images: Float[Tensor, "frames height width channels"], vae: Any, regions: RegionSet, grow: int
) -> EditableVideo:
    """Encode a video as far as the model can make it. Raises CCVDError for a VAE of pictures, or without regions."""
    step = vae.temporal_compression_decode() or 1
    count = largest_frames(len(images), step)
    frames = images[:count, :, :, :3]
    height, width = frames.shape[1:3]
    masks = frame_masks(regions, count, height, width, grow)
    samples = vae.encode(frames)
    if samples.ndim != 5:
        raise CCVDError("This VAE encodes pictures one by one. Connect the VAE of the video model that edits.")
    left = len(images) - count
    note = f"The model makes a multiple of {step} frames and one more: the last {left} of {len(images)} are left out."
    latent = {"samples": samples, "noise_mask": latent_mask(masks, samples.shape, step)}
    return EditableVideo(latent, masks, note if left else "")
