"""A 3D UNet in ComfyUI's hands, which has none of its own: diffusers' model, called as ComfyUI calls its models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .base import EncodedText
from .diffusers_unet3d import DiffusersUNet3DBackbone
from .grid import TokenGrid
from .hosted import HostedBackbone, LessonConditions, check_vae, window_frames
from .unet3d import unet_units


class HostedUNet3D(nn.Module):
    """The `diffusion_model` of a MODEL: a `UNet3DConditionModel`, and the configuration of its scheduler."""

    def __init__(self, unet: nn.Module, scheduler: Mapping[str, Any]) -> None:
        super().__init__()
        self.unet, self.scheduler = unet, dict(scheduler)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, **_: Any) -> Tensor:
        """Latents [batch, channels, frames, height, width] as the model was trained on them."""
        return self.unet(x, timesteps, context, return_dict=False)[0]


class ComfyUNet3DBackbone(DiffusersUNet3DBackbone, HostedBackbone):
    """Over the `HostedUNet3D` of a MODEL."""

    def __init__(
        self,
        diffusion_model: nn.Module,
        encode_text: Callable[[str], EncodedText],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        hosted: Any = diffusion_model
        super().__init__(hosted.unet, encode_text, hosted.scheduler, dtype)

    def reference_frames(self, conditions: Iterable[Mapping[str, Any]]) -> int:
        return 0

    def call_grid(
        self,
        x: Tensor,
        options: Mapping[str, Any],
        time_dim_concat: Tensor | None,
        extras: Mapping[str, Any],
        references: int = 0,
    ) -> TokenGrid:
        grid, window = self.grid(x.shape), window_frames(options)
        return grid if window is None else replace(grid, numbers=window[0], clip_length=window[1])

    def recomputed(self) -> Sequence[nn.Module]:
        return [unit for unit, _ in unet_units(self._unet)]


class UNet3DConditions(LessonConditions):
    """A 3D UNet is shown nothing beside the text."""

    def __init__(self, model: Any, vae: Any, clip_vision: Any = None) -> None:
        latent_format = model.latent_format
        check_vae(latent_format, vae, {(4, 8): "the VAE of its own folder (Load Text-to-Video Folder)"})
        self.clip_vision = None
        self.notes: Sequence[str] = ()
        halvings = len(model.diffusion_model.unet.down_blocks) - 1
        self.multiple: int = latent_format.spacial_downscale_ratio * 2**halvings

    def check_frames(self, frames: int) -> None:
        """One frame and more teach something."""

    def shown(self, pixels: Tensor, latents: Tensor) -> dict[str, Any]:
        return {}
