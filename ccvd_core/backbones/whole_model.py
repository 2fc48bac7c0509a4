"""A text-to-video model without ComfyUI: its backbone, and pixels as its latents and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import CCVDError
from .base import Backbone


@dataclass(frozen=True)
class WholeModel:
    """A model that makes videos from text. Frames and latents are float32 on the CPU outside it."""

    backbone: Backbone
    encode: Callable[[Float[Tensor, "1 3 frames height width"]], Float[Tensor, "1 channels latents rows columns"]]
    """Pixels in -1..1 as the model's own latents."""
    decode: Callable[[Float[Tensor, "n channels latents rows columns"]], Float[Tensor, "n 3 frames height width"]]
    channels: int
    cell: int
    """Pixels of a side to one latent."""
    multiple: int
    """Sides of a video are multiples of so many pixels."""
    device: torch.device
    blocks: Sequence[nn.Module]
    """Most of the weights that learning goes back through: several GPUs may share them."""

    def to_latents(
        self, frames: Float[Tensor, "1 3 frames height width"]
    ) -> Float[Tensor, "channels latents rows columns"]:
        """Of pixels in 0..1."""
        with torch.no_grad():
            return self.encode(frames.to(self.device) * 2 - 1)[0].float().cpu()

    def to_frames(
        self, latents: Float[Tensor, "n channels latents rows columns"]
    ) -> Float[Tensor, "n frames height width 3"]:
        """Pixels in 0..1; one clip at a time, which is what takes memory."""
        with torch.no_grad():
            parts = [self.decode(one[None].to(self.device)).float().cpu() for one in latents]
        return torch.cat(parts).clamp(-1, 1).add(1).div(2).permute(0, 2, 3, 4, 1)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Channels, frames, rows, columns of a video's latents. Raises CCVDError for one that it cannot make."""
        self.backbone.video.check_frames(frames, "The length of a video")
        for side, value in (("height", height), ("width", width)):
            if value < self.multiple or value % self.multiple:
                raise CCVDError(f"The {side} must be a multiple of {self.multiple} pixels on this model; got {value}.")
        latents = (frames - 1) // self.backbone.video.frame_step + 1
        return self.channels, latents, height // self.cell, width // self.cell
