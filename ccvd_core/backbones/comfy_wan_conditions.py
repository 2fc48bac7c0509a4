"""What a Wan MODEL of ComfyUI expects of media and conditions while it learns: its VAE, its sizes, its start image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import MediaError
from .hosted import LessonConditions, check_vae
from .wan_variants import ShownImage, wan_variant

NO_CLIP_VISION = (
    "Note: {title} was trained to see the first frame through CLIP Vision too. Connect Load CLIP Vision to "
    "`clip_vision` if your videos are made with it; without it, the concept is for videos made without it."
)


KNOWN_VAES = {
    (16, 8): "the Wan 2.1 VAE (wan_2.1_vae), which Wan 2.2's 14B models use too",
    (48, 16): "the Wan 2.2 VAE (wan2.2_vae), which only Wan 2.2's 5B model uses",
}
"""By channels and scale."""


class WanConditions(LessonConditions):
    """A MODEL's own conditions, made from a lesson's media by the MODEL's `extra_conds` and its VAE."""

    def __init__(self, model: Any, vae: Any, clip_vision: Any = None) -> None:
        self._model, self._vae = model, vae
        inner = model.diffusion_model
        channels = model.latent_format.latent_channels
        self.variant = wan_variant(type(model).__name__, channels, inner.in_dim)
        self.variant.check_learns()
        check_vae(model.latent_format, vae, KNOWN_VAES)
        if getattr(vae, "latent_dim", 3) != 3:
            raise MediaError("The VAE is one for pictures. Load the VAE of this model, which encodes clips.")
        reads_clip_vision = self.variant.image is not None and inner.img_emb is not None
        self.clip_vision = clip_vision if reads_clip_vision else None
        self.notes: Sequence[str] = []
        if reads_clip_vision and clip_vision is None:
            self.notes = [NO_CLIP_VISION.format(title=self.variant.title)]
        self.multiple: int = model.latent_format.spacial_downscale_ratio * inner.patch_size[-1]

    def check_frames(self, frames: int) -> None:
        self.variant.check_frames(frames)

    def shown(self, pixels: Tensor, latents: Tensor) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if self.variant.image is not None:
            given |= self._start_image(self.variant.image, pixels, latents)
        if self.clip_vision is not None:
            given["clip_vision_output"] = self.clip_vision.encode_image(pixels[:, :, 0].movedim(1, -1))
        if self.variant.vace:
            given |= self._grey_control(pixels, latents)
        noise = latents.unsqueeze(0)
        conditions = self._model.extra_conds(noise=noise, device=noise.device, **given)
        return {key: condition.cond for key, condition in conditions.items()}

    def _encode(self, pixels: Tensor) -> Tensor:
        """Raw latents of [1, 3, frames, height, width]."""
        return self._vae.encode(pixels[0].permute(1, 2, 3, 0)).float().cpu()

    def _start_image(self, image: ShownImage, pixels: Tensor, latents: Tensor) -> dict[str, Any]:
        """As Wan Image To Video, Wan Fun Control To Video and Wan Camera Image To Video give it."""
        channels, frames, height, width = latents.shape
        if image.grey:
            clip = torch.full_like(pixels, 0.5)
            clip[:, :, 0] = pixels[:, :, 0]
            encoded = self._encode(clip)
        else:
            encoded = self._model.process_latent_out(torch.zeros_like(latents.unsqueeze(0)))
            encoded[:, :, :1] = self._encode(pixels[:, :, :1])
        if image.control:
            empty = self._model.process_latent_out(torch.zeros_like(latents.unsqueeze(0)))
            encoded = torch.cat([empty, encoded], 1)
        given: dict[str, Any] = {"concat_latent_image": encoded}
        if image.masked:
            # ComfyUI's masks are 1 where frames are to be made.
            mask = torch.ones(1, 4, frames, height, width)
            mask[:, :, 0] = 0
            given["concat_mask"] = mask
            if image.control:
                given["concat_mask_index"] = channels
        return given

    def _grey_control(self, pixels: Tensor, latents: Tensor) -> dict[str, Any]:
        """As Wan VACE To Video without a control video: grey, and all of it to be made."""
        grey = self._encode(torch.full_like(pixels, 0.5))
        _, frames, height, width = latents.shape
        scale = self._model.latent_format.spacial_downscale_ratio
        mask = torch.ones(1, scale * scale, frames, height, width)
        return {"vace_frames": [torch.cat([grey, grey], 1)], "vace_mask": [mask], "vace_strength": [1.0]}
